import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { AccessFacts, DraftRow, StatementDraft } from '../../contracts/ledger/draft.ts';
import type { Units } from '../../contracts/ledger/forms.ts';
import type { GeneralJws, JwsType } from '../../contracts/ledger/jws.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import type { Have, StatementSums, UsageStatement } from '../../contracts/ledger/statement.ts';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';

/** What metering keeps, and what it needs from the rest of the connector (ledger §7, §8; wire §6). */

export type MeterRole = 'provider' | 'consumer';

/** One side of one agreement: the key of everything that is kept here. */
export interface AccountKey {
  readonly participant: ParticipantId;
  readonly role: MeterRole;
  /** agreementDigest */
  readonly agreement: string;
}

/** An agreement as it came into force. */
export interface MeteredAgreement extends AccountKey {
  /** The agreement's `@id`. */
  readonly agreementId: string;
  readonly provider: Did;
  readonly consumer: Did;
  readonly assurance: Assurance;
  /** Digest of the price plan, or empty; and the plan. */
  readonly price: string;
  readonly pricePlan: PricePlan | null;
  /** The agreement's own `timestamp`, ms: where the first interval begins. */
  readonly startedAt: number;
}

/** An amount of use: accesses, bytes, and what they cost in whole units of the currency. */
export interface Load {
  readonly requests: number;
  readonly bytes: number;
  readonly cost: number;
}

export interface StoredAccount {
  readonly info: MeteredAgreement;
  readonly isEnded: boolean;
  /** What the provider gave up so far: it served, and the consumer's count was taken (ledger §7). */
  readonly conceded: Load;
  /** What closed up to this place of the journal is settled, though nobody knows in which statement. */
  readonly settledBefore: number;
}

export interface AccountChange {
  readonly isEnded?: true;
  readonly conceded?: Load;
  readonly settledBefore?: number;
}

/** Durable when a call returns. */
export interface MeterAccountStore {
  /** An account that is there stays as it is. @returns whether it is new. */
  readonly put: (info: MeteredAgreement) => Promise<boolean>;
  readonly change: (key: AccountKey, change: AccountChange) => Promise<void>;
  readonly find: (key: AccountKey) => Promise<StoredAccount | undefined>;
  /** Accounts without a complete final statement, and those in which something was given up for good. */
  readonly listOpen: () => Promise<readonly StoredAccount[]>;
  readonly list: (participant: ParticipantId) => Promise<readonly StoredAccount[]>;
  /** By digest alone: a journal knows no participant. */
  readonly ofDigest: (role: MeterRole, agreement: string) => Promise<StoredAccount | undefined>;
}

/** The first segment of a journal that still must be read at start. Durable when `set` returns. */
export interface JournalMarkStore {
  readonly get: (journal: string) => Promise<number | undefined>;
  readonly set: (journal: string, segment: number) => Promise<void>;
}

/** An access that is complete in a journal. */
export interface UnstatedAccess {
  /** Without its proof: that stays in the journal. */
  readonly open: UsageOpen;
  readonly close: UsageClose;
  readonly closedAt: number;
  /** What it exposes until it is settled. */
  readonly load: Load;
  /** The journal that holds it, and where it was opened there. */
  readonly journal: string;
  readonly openPlace: number;
  /** Its place among all that wait, in the order of their arrival: below zero, where no line of a journal of ours stands. */
  readonly place: number;
}

/**
 * What became of an access that was put. `new`; `kept`: it stood here already, out of the same journal; `settled`: it stands in
 * a complete statement; `doubled`: another journal, or a statement, has this request with other facts: the first one counts.
 */
export type PutAccess = 'new' | 'kept' | 'settled' | 'doubled';

/** Until when an access must have closed that the other side leaves out for good. */
export interface Late {
  readonly charged: number;
  readonly uncharged: number;
}

/** Accesses out of the journals of workers that no complete statement holds. Each (account, request, part) stands once. */
export interface UnstatedStore {
  /** All of them or none; durable when it returns. One answer for each, in order. The account counts those that are new. */
  readonly put: (key: AccountKey, accesses: readonly UnstatedAccess[]) => Promise<readonly PutAccess[]>;
  /**
   * What waits to be stated, in order of place. With `known`, the highest place that was seen of each journal, only what
   * stands beyond it.
   */
  readonly list: (key: AccountKey, known?: ReadonlyMap<string, number>) => Promise<readonly UnstatedAccess[]>;
  /** These count as stated, though nobody knows in which statement; those that are not here are passed over. */
  readonly settle: (
    key: AccountKey,
    accesses: readonly { readonly request: string; readonly part: number }[],
  ) => Promise<void>;
  /** The same for what closed before these times, ms: what would be charged, and what would not. */
  readonly settleLate: (key: AccountKey, before: Late) => Promise<void>;
  /** The highest place of what is here. */
  readonly lastPlace: () => Promise<number | undefined>;
}

/** What one journal has of an agreement's window. */
export interface WindowBlock {
  readonly agreement: string;
  readonly journal: string;
  readonly load: Load;
  /** Accesses that were counted ahead and are not in `opened` of the account yet. */
  readonly counted: number;
}

/** An account with what every journal together opened under it, and has of it. */
export interface WindowAccount extends StoredAccount {
  /** Its final statement is complete. */
  readonly isClosed: boolean;
  /** Accesses that were ever handed over, and the bytes that they sent. */
  readonly opened: number;
  readonly sent: number;
  readonly blocks: readonly WindowBlock[];
}

/** One agreement of those that count against the windows of a counterparty. */
export interface Exposure {
  readonly agreement: string;
  readonly pricePlan: PricePlan | null;
  readonly isEnded: boolean;
  /** What waits to be stated, in dispute or not, and was not written off. */
  readonly waiting: Load;
  readonly blocks: readonly WindowBlock[];
  readonly conceded: Load;
  /** Of the newest complete statement; not looked up where nothing was conceded. */
  readonly totals: Units;
}

/** What a transaction over windows reads and writes; what it read still holds when it commits. */
export interface WindowRows {
  /** The newest line of a journal. */
  readonly line: (journal: string) => Promise<string | undefined>;
  /** From now on this is the newest line. */
  readonly take: (journal: string, line: string) => Promise<void>;
  /** By digest alone: a journal knows no participant. */
  readonly account: (role: MeterRole, agreement: string) => Promise<WindowAccount | undefined>;
  /** Every agreement with the same counterparty in the same role that exposes anything. */
  readonly exposures: (account: WindowAccount) => Promise<readonly Exposure[]>;
  /** When the oldest access closed that the next statement should hold: not in dispute, and charged where we are the consumer. */
  readonly oldestAt: (account: WindowAccount) => Promise<number | null>;
  /** What a journal has of an account; null ends the block. */
  readonly setBlock: (
    info: MeteredAgreement,
    journal: string,
    block: Pick<WindowBlock, 'load' | 'counted'> | null,
  ) => Promise<void>;
  /** Ends every block of a journal; the answer is whose they were. */
  readonly endBlocks: (journal: string) => Promise<readonly AccountKey[]>;
  /** As `UnstatedStore.put`. */
  readonly put: UnstatedStore['put'];
}

/** Windows of agreements in rows, of which many processes lease (ledger §8). */
export interface WindowStore {
  /** All of it or nothing, durable when it returns, as if nobody else worked meanwhile; `work` may run more than once. */
  readonly transact: <Value>(work: (rows: WindowRows) => Promise<Value>) => Promise<Value>;
  /** The first of so many places that nobody else has; each call answers higher ones, all of them below zero. */
  readonly places: (count: number) => Promise<number>;
  /** The journals that have something of this window. */
  readonly blocks: (key: AccountKey) => Promise<readonly string[]>;
  /** Accounts without a complete final statement that ended, of which something is lent, or waits to be stated. */
  readonly busy: () => Promise<readonly AccountKey[]>;
}

/** A row of a statement with what is needed to rebuild its record without the journal. */
export interface StatedRow extends DraftRow {
  readonly facts: AccessFacts;
  /** Where the close stands in the journal of this side. */
  readonly place: number;
  /** How often the consumer refused it in this draft. */
  readonly refusals: number;
}

/** A draft as this side keeps it. */
export interface KeptDraft extends Omit<StatementDraft, 'records'> {
  /** `b64u H(P)` */
  readonly digest: string;
  readonly rows: readonly StatedRow[];
}

/** A record that waits for its resolution: it has no number (ledger §7). */
export interface HeldRecord {
  readonly request: string;
  readonly part: number;
  /** What the consumer has; null when it says that there was no such access. */
  readonly claim: Have | null;
  /** How often it was held over; each time it waits longer. */
  readonly holds: number;
  /** It is stated again from this seq on. */
  readonly retryAt: number;
  /** The owner wrote it off: the consumer's claim counts. */
  readonly isWrittenOff: boolean;
}

/** Durable when a call returns; what one call saves is saved together. */
export interface StatementDraftStore {
  /** `replace`: instead of all other drafts of the account. `held` takes the place of what was held before. */
  readonly save: (
    key: AccountKey,
    draft: KeptDraft,
    more: { readonly replace: boolean; readonly held?: readonly HeldRecord[] },
  ) => Promise<void>;
  /** Removes every draft of the account. */
  readonly drop: (key: AccountKey, held: readonly HeldRecord[]) => Promise<void>;
  readonly list: (key: AccountKey) => Promise<readonly KeptDraft[]>;
  readonly held: (key: AccountKey) => Promise<readonly HeldRecord[]>;
}

/** A statement with at least one signature of ours, or adopted from the counterparty. */
export interface KeptStatement {
  readonly digest: string;
  readonly payload: UsageStatement;
  readonly sums: StatementSums;
  /** Null when it was learnt from the log, which does not know it. */
  readonly K: string | null;
  /** Until the registrar has it. */
  readonly leafKey: StatementDraft['leafKey'] | null;
  /** Null for intervals that only this side keeps (`plain-dsp` consumers). */
  readonly artifact: GeneralJws | null;
  /** `signed`: the other signature is still missing. */
  readonly state: 'signed' | 'complete';
  /** Null once they stand in the usage store, or when they are not known. */
  readonly rows: readonly StatedRow[] | null;
}

/** Durable when a call returns. One statement for each (account, seq), for ever: the database refuses a second. */
export interface StatementStore {
  /**
   * Saves a statement, removes the drafts up to it, and whatever else changes with it. `conflict` when another digest
   * stands for this seq; a complete one is not changed any more.
   */
  readonly save: (
    key: AccountKey,
    statement: KeptStatement,
    more?: { readonly conceded?: Load; readonly held?: readonly HeldRecord[] },
  ) => Promise<'saved' | 'conflict'>;
  readonly find: (key: AccountKey, seq: 'newest' | number) => Promise<KeptStatement | undefined>;
  /** Complete ones with rows that are not in the usage store, or whose leaf key is still here. */
  readonly unfinished: () => Promise<readonly (AccountKey & { readonly seq: number })[]>;
  /** Moves the rows of a complete statement into the usage store, out of what waited, in small steps; repeats change nothing. */
  readonly index: (key: AccountKey, seq: number) => Promise<void>;
  /** Forgets the leaf key: the registrar has it. */
  readonly handedOver: (key: AccountKey, seq: number) => Promise<void>;
}

/** Where a record was stated. */
export interface StatedRecord extends StatedRow {
  readonly seq: number;
}

/** What an agreement was used for: one line for each application and purpose. */
export interface UsageGroup {
  readonly application: string;
  readonly purpose: string;
  /** Accesses, charged or not, and the bytes that were sent. */
  readonly accesses: number;
  readonly bytes: number;
  /** What was charged. */
  readonly units: Readonly<Record<string, string>>;
}

/** Records of complete statements. Each (account, request, part) stands once, and each (account, n). */
export interface UsageStore {
  /** All records of a statement, in order. */
  readonly ofStatement: (key: AccountKey, seq: number) => Promise<readonly StatedRecord[]>;
  readonly ofRequest: (key: AccountKey, request: string) => Promise<readonly StatedRecord[]>;
  /** In order of `n`, behind `after`. */
  readonly page: (
    key: AccountKey,
    page: { readonly after: number; readonly limit: number },
  ) => Promise<readonly StatedRecord[]>;
  readonly groups: (key: AccountKey) => Promise<readonly UsageGroup[]>;
  /** `request part` of everything that was closed at or behind a place of the journal. */
  readonly settledSince: (key: AccountKey, place: number) => Promise<readonly string[]>;
}

/** Kept for the arbiter: signed refusals, and proofs of equivocation. A repeat changes nothing. */
export interface DisputeStore {
  readonly saveRefusal: (key: AccountKey, draft: string, refusal: GeneralJws, at: number) => Promise<void>;
  readonly saveEquivocation: (key: AccountKey, seq: number, proof: Json, at: number) => Promise<void>;
  readonly list: (
    key: AccountKey,
  ) => Promise<readonly { readonly kind: 'refusal' | 'equivocation'; readonly at: number; readonly evidence: Json }[]>;
}

/**
 * What was signed, outside every backup of the rows (ledger §8 "Never twice"). `claim` is durable when it returns, and
 * refuses a seq below the newest, and another digest for the same seq.
 */
export interface SignedSeqs {
  readonly newest: (key: AccountKey) => { readonly seq: number; readonly digest: string } | undefined;
  readonly claim: (key: AccountKey, seq: number, digest: string) => Promise<boolean>;
}

/** Signs and verifies with assertion keys (kernel/assertions). */
export interface StatementSigner {
  readonly sign: (
    key: Pick<AccountKey, 'participant'>,
    payload: string,
    typ: JwsType,
  ) => Promise<{ readonly protected: string; readonly signature: Uint8Array }>;
  /** Whether the signature at `index` is by a key that `did` publishes for assertions. */
  readonly verify: (
    artifact: unknown,
    by: { readonly index: number; readonly did: Did; readonly typ: JwsType },
  ) => Promise<boolean>;
}

/** Where peers take statements: `<root>/ext/1/statements`, undefined while that cannot be found out. */
export interface StatementPeers {
  readonly root: (participant: ParticipantId, peer: Did) => Promise<string | undefined>;
}

/** The broker's `<origin>/ext/1/statements` and DID; undefined without a broker. */
export interface StatementBroker {
  readonly root: () => Promise<{ readonly did: Did; readonly url: string } | undefined>;
}

/** Brings complete statements to the log. Durable and idempotent: when it returns, it will happen. */
export interface StatementRegistrar {
  readonly submit: (statement: {
    readonly participant: ParticipantId;
    readonly kind: 'usage-statement';
    readonly artifact: GeneralJws;
    /** Private JWK. */
    readonly leafKey: StatementDraft['leafKey'];
    readonly sums: StatementSums;
    /** Not before this time, ms: the other side comes first. */
    readonly notBefore: number;
  }) => Promise<void>;
}
