import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { EquivocationProof, StatementSums } from '../../contracts/ledger/statement.ts';

/** What the log needs from outside (ledger §9, §12). Every call carries the origin: a shard is a log of its own. */

/** The log's name: a URL without scheme, `broker.example/log/2026` (ledger §6). */
export type Origin = string;

/** A complete subtree on the stack, as it is stored. */
export interface StoredPeak {
  readonly level: number;
  /** b64u */
  readonly hash: string;
}

/** How far the rows go. */
export interface LogHead {
  readonly size: number;
  /** b64u */
  readonly root: string;
  readonly stack: readonly StoredPeak[];
}

/** One entry as it stands in the rows. */
export interface EntryRow {
  readonly index: number;
  /** b64u leaf hash; unique in a log. */
  readonly leaf: string;
  /** The canonical text of the entry. */
  readonly entry: string;
  /** When it was sequenced, ms. */
  readonly at: number;
}

export interface AgreementRow {
  readonly agreementDigest: string;
  readonly index: number;
  readonly agreement: string;
  readonly provider: string;
  readonly providerPid: string;
  readonly consumer: string;
  readonly assurance: 'cosigned' | 'plain-dsp';
  readonly price: string;
  /** The agreement's own time, ms: where the first statement begins. */
  readonly timestamp: number;
}

/** What must be remembered of a statement to check the next one; the statement itself is an artifact. */
export interface StatementRow {
  readonly agreementDigest: string;
  readonly index: number;
  readonly seq: string;
  /** `b64u H(P)` */
  readonly digest: string;
  readonly last: string;
  readonly to: string;
  readonly final: boolean;
  readonly sums: StatementSums;
}

export interface AgreementEventRow {
  readonly agreementDigest: string;
  readonly index: number;
  readonly event: 'void' | 'end';
  /** The DIDs that signed it. */
  readonly signers: readonly string[];
}

/** A public artifact (ledger §4): `A` itself, with its place. */
export interface PublicRow {
  readonly index: number;
  readonly kind: 'genesis' | 'policy' | 'key-event' | 'key-effective';
  readonly text: string;
  /** When it was sequenced, ms. */
  readonly at: number;
}

/** What else is written in the transaction that sequences an entry. */
export type SubjectRow =
  | { readonly kind: 'agreement'; readonly row: AgreementRow }
  | { readonly kind: 'statement'; readonly row: StatementRow }
  | { readonly kind: 'agreement-event'; readonly row: AgreementEventRow }
  | { readonly kind: 'public'; readonly row: PublicRow; readonly joinCode: string | null };

/** The artifact kept apart from the log: sealed unless it is public, and erasable. */
export interface ArtifactRow {
  /** hex `H(A)` */
  readonly digest: string;
  readonly index: number;
  /** What it belongs to, for erasure and for the newest statement; null for public artifacts. */
  readonly agreementDigest: string | null;
  readonly text: string;
}

export interface NewEntry {
  readonly entry: EntryRow;
  readonly subject: SubjectRow;
  readonly artifact: ArtifactRow;
}

/** One commit of the sequencer. */
export interface Batch {
  /** The size that the rows must have now. */
  readonly from: number;
  readonly head: LogHead;
  readonly entries: readonly NewEntry[];
  /** Of the lease that it is written under. */
  readonly fence: Fence;
}

/** The number of a lease to write, which grows with each; null where one process is alone with its log. */
export type Fence = number | null;

/** A checkpoint that is published. */
export interface Published {
  readonly size: number;
  /** b64u */
  readonly root: string;
  readonly note: string;
}

/** Keys of rows that a batch depends on. */
export interface Wanted {
  readonly leaves: readonly string[];
  readonly agreements: readonly string[];
  readonly pids: readonly { readonly provider: string; readonly providerPid: string }[];
  readonly statements: readonly { readonly agreementDigest: string; readonly seq: string }[];
  /** Hashes of join codes. */
  readonly joinCodes: readonly string[];
}

/** The rows found for what was wanted. */
export interface Known {
  readonly leaves: readonly { readonly leaf: string; readonly index: number }[];
  readonly agreements: readonly AgreementRow[];
  readonly events: readonly AgreementEventRow[];
  /** The newest of each wanted agreement, and those asked for by number. */
  readonly statements: readonly StatementRow[];
  /** Join codes that may still be used, by hash, with the last moment in ms. */
  readonly joinCodes: readonly { readonly hash: string; readonly expires: number }[];
}

/**
 * The rows of the log. `commit` is atomic and durable when it resolves, and refuses (`conflict`) unless the rows have
 * exactly the size it was made for; no row is ever changed or removed. What is written under a lease that has passed to
 * another process is refused (`fenced`) in the same transaction.
 */
export interface LogStore {
  readonly head: (origin: Origin) => Promise<LogHead | undefined>;
  readonly load: (origin: Origin, wanted: Wanted) => Promise<Known>;
  readonly commit: (origin: Origin, batch: Batch) => Promise<'committed' | 'conflict' | 'fenced'>;
  /** Entries `begin … end-1`, in order. */
  readonly entries: (origin: Origin, begin: number, end: number) => Promise<readonly EntryRow[]>;
  /** Public artifacts of entries from this index on, in order of the log. */
  readonly publicRows: (origin: Origin, from: number) => Promise<readonly PublicRow[]>;
  /** The newest checkpoint that was published. */
  readonly published: (origin: Origin) => Promise<Published | undefined>;
  /** Puts a checkpoint in the place of the one before; never a smaller one. */
  readonly publish: (origin: Origin, checkpoint: Published, fence: Fence) => Promise<'published' | 'fenced'>;
}

/**
 * The right to write the log, which one process has at a time (ledger §12). A lease ends by itself; whatever is written
 * under one that has passed on is refused by its fence, however late it comes.
 */
export interface WriterLease {
  /** Undefined while another process has it. */
  readonly take: (ms: number) => Promise<number | undefined>;
  /** False once it has ended or passed on. */
  readonly renew: (fence: number, ms: number) => Promise<boolean>;
  readonly release: (fence: number) => Promise<void>;
  /** Whether nobody has taken it since. */
  readonly isHeld: (fence: number) => Promise<boolean>;
}

/** What a process that does not write asks of the one that does: a candidate, verified and sealed, as text. */
export interface Handed {
  readonly id: string;
  readonly candidate: string;
}

/** What became of it, as text. */
export interface Answered {
  readonly id: string;
  readonly outcome: string;
}

/** The queue between the processes of one log. What waits outlives them; ids sort by time. */
export interface HandoverStore {
  readonly put: (origin: Origin, handed: readonly Handed[]) => Promise<void>;
  /** What has no answer yet, in order of id. */
  readonly waiting: (origin: Origin, limit: number) => Promise<readonly Handed[]>;
  /** Answers once and for all; a second answer changes nothing. */
  readonly answer: (
    origin: Origin,
    answers: readonly Answered[],
    its: { readonly at: number; readonly fence: Fence },
  ) => Promise<'answered' | 'fenced'>;
  readonly answers: (origin: Origin, ids: readonly string[]) => Promise<readonly Answered[]>;
  /** Forgets answers that were read, and those of before a moment, ms, that nobody came for. */
  readonly forget: (origin: Origin, read: readonly string[], before: number) => Promise<void>;
}

/** A proof that one party signed two statements for one number, as kept. */
export interface EquivocationRow {
  readonly agreementDigest: string;
  readonly seq: string;
  readonly against: string;
  readonly proof: EquivocationProof;
}

/**
 * Artifacts, apart from the log: what is erased is gone from here, and the log still verifies. Texts are sealed by the
 * caller, public ones apart.
 */
export interface ArtifactStore {
  readonly byIndex: (origin: Origin, index: number) => Promise<ArtifactRow | undefined>;
  /** The text of a public artifact; undefined for any other. */
  readonly publicText: (origin: Origin, digest: string) => Promise<string | undefined>;
  /** Removes every artifact of an agreement; the number of them. */
  readonly erase: (origin: Origin, agreementDigest: string) => Promise<number>;
  /** Keeps a proof once for each (agreementDigest, seq, against). */
  readonly keepEquivocation: (origin: Origin, row: EquivocationRow) => Promise<void>;
  readonly equivocations: (origin: Origin, agreementDigest: string) => Promise<readonly EquivocationRow[]>;
}

/** One-time codes with which an operator lets somebody join; only their hash is stored. Used up by `LogStore.commit`. */
export interface JoinCodeStore {
  readonly add: (origin: Origin, hash: string, expires: number) => Promise<void>;
}

export interface LogFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/**
 * The files that are served: tiles, bundles, checkpoint. `write` resolves when every file is whole and durable under its
 * name; a crash before that leaves each file old or new, never half.
 */
export interface LogFiles {
  readonly write: (files: readonly LogFile[]) => Promise<void>;
  readonly read: (path: string) => Promise<Uint8Array | undefined>;
  /** Removes the partial forms of a full tile or bundle. */
  readonly dropPartials: (path: string) => Promise<void>;
  /** Removes what a crash left under temporary names. */
  readonly tidy: () => Promise<void>;
}

/** A size and root that this log has decided to sign. */
export interface SignedHead {
  readonly size: number;
  /** b64u */
  readonly root: string;
  /** Of the lease that it was decided under, where the log has several processes. */
  readonly fence?: number;
}

/**
 * The intent: the last size and root that were allowed to be signed, in a place that no backup of the rows contains.
 * `swap` is atomic among processes and durable when it answers true: of all that swap from the same value one wins.
 */
export interface SignedStore {
  readonly read: () => Promise<SignedHead | undefined>;
  readonly swap: (from: SignedHead | undefined, to: SignedHead) => Promise<boolean>;
}

/** The log's keys. The private halves never leave the adapter. */
export interface LogKeys {
  /** `name "+" hex(keyid) "+" b64(type || key)` */
  readonly vkey: string;
  /** SPKI of the P-256 registry key. */
  readonly registryKey: Uint8Array;
  /** Ed25519, 64 bytes. */
  readonly signAsLog: (message: Uint8Array) => Promise<Uint8Array>;
  /** ECDSA in DER for entries, r||s for a JWS. */
  readonly signAsRegistry: (message: Uint8Array, form: 'der' | 'jws') => Promise<Uint8Array>;
}

/** What the chain says of this log at start-up; `unreachable` raises an alarm and does not stop a start. */
export interface ChainHead {
  readonly head: (
    origin: Origin,
  ) => Promise<
    | { readonly state: 'anchored'; readonly size: number; readonly root: Uint8Array }
    | { readonly state: 'none' | 'unreachable' }
  >;
}

/**
 * Step 6: asks witnesses to cosign. Answers the note with their lines, and whether the quorum that this log asks for is
 * reached; without it the checkpoint is not published and is tried again.
 */
export type WitnessRound = (note: string) => Promise<{ readonly note: string; readonly isReached: boolean }>;

/** Hears of every published checkpoint, in order; must return at once and never throw (the anchor driver's queue). */
export type CheckpointFeed = (note: string) => void;

/** Seals artifacts at rest; a label belongs to exactly one artifact. */
export interface ArtifactSeal {
  readonly seal: (text: string, label: string) => string;
  /** Undefined when it was changed, or sealed with another key or label. */
  readonly open: (sealed: string, label: string) => string | undefined;
}

/** The DID document as it is served now, exact bytes as text; fetched by the guarded client. Undefined: cannot be had. */
export type FetchDidDocument = (did: string) => Promise<string | undefined>;

/** What the log answers once an entry is durable (ledger §9). */
export interface Registered {
  readonly index: number;
  readonly promise: GeneralJws;
  /** The registered artifact when this was a duplicate, null when it is new; undefined when that was erased. */
  readonly duplicateOf: string | null | undefined;
}
