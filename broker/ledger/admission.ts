import { z } from 'zod';
import { fromBase64, orNothing, sameBytes, toBase64Url, toHex, utf8 } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { AppError } from '../../contracts/errors.ts';
import { didOfKid } from '../../contracts/ids.ts';
import { agreementDigestOf, readAgreementArtifact, readAgreementEvent } from '../../contracts/ledger/agreement.ts';
import { buildEntry, checkEntry, entryText, type LogEntry, leafKeyId } from '../../contracts/ledger/entry.ts';
import { bad, base64, type Checked, good, p256Base64 } from '../../contracts/ledger/forms.ts';
import {
  type GeneralJws,
  generalJws,
  type JwsSignature,
  jwsText,
  verifySignature,
} from '../../contracts/ledger/jws.ts';
import { type PublicArtifact, readPublicArtifact, registryKid } from '../../contracts/ledger/public-entries.ts';
import { readStatementArtifact, statementDigest, statementSums, sumsDigest } from '../../contracts/ledger/statement.ts';
import { leafHash } from '../../contracts/ledger/tree.ts';
import { faultsOf } from '../../kernel/http/body.ts';
import type { VerifyInPool } from '../../kernel/verify-pool.ts';
import type { KeyBook } from './key-book.pure.ts';
import type { ArtifactSeal, FetchDidDocument } from './ports.ts';
import type { Subject } from './rules.ts';

/**
 * Step 1 of the sequencer (ledger §12): everything that can be judged without knowing what else is in the log. Form first,
 * then keys, then signatures, those in the thread pool.
 */

const signedParts = { artifact: generalJws, leafSignature: base64, spki: p256Base64 };

/** What a party sends to register (wire §6). `kind` is the `type` of what was signed. */
export const registration = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('agreement'), ...signedParts }),
  z.strictObject({ kind: z.literal('agreement-event'), ...signedParts }),
  z.strictObject({ kind: z.literal('usage-statement'), ...signedParts, sums: statementSums }),
  z.strictObject({
    kind: z.literal('key-event'),
    artifact: generalJws,
    joinCode: z.string().min(1).max(200).optional(),
  }),
]);
export type Registration = z.infer<typeof registration>;
type PartyRegistration = Exclude<Registration, { kind: 'key-event' }>;

/** A party's key under which a signature was verified; it must still count when the entry gets its index. */
interface UsedKey {
  readonly kid: string;
  readonly spki: Uint8Array;
}

/** What waits for an index. */
export interface Candidate {
  readonly subject:
    | Subject
    | {
        readonly kind: 'public';
        readonly artifact: PublicArtifact;
        /** `b64u H` of the join code that came with it, or null. */
        readonly joinCode: string | null;
      };
  readonly entry: string;
  /** b64u leaf hash. */
  readonly leaf: string;
  readonly artifact: {
    /** hex `H(A)` */
    readonly digest: string;
    /** Sealed, unless it is public. */
    readonly text: string;
  };
  readonly keys: readonly UsedKey[];
  /** The signed statement, to be kept beside another one for the same number. */
  readonly jws: GeneralJws | undefined;
}

export interface AdmissionTools {
  readonly crypto: Crypto;
  readonly verifyInPool: VerifyInPool;
  readonly keyBook: KeyBook;
  readonly seal: ArtifactSeal;
  readonly origin: string;
  readonly fetchDidDocument: FetchDidDocument;
  /** Makes the entry of a public artifact, signed by the registry key. */
  readonly publicEntry: (artifact: Uint8Array) => Promise<LogEntry>;
}

const refuse = (reason: string): never => {
  throw new AppError('entry-refused', { detail: reason });
};

const parse = (body: unknown): Registration => {
  const parsed = registration.safeParse(body);
  if (!parsed.success) throw new AppError('body-invalid', { faults: faultsOf(parsed.error) });
  return parsed.data;
};

interface Read {
  readonly subject: Subject;
  readonly signatures: readonly JwsSignature[];
  readonly leafKey: string;
  /** The DIDs that may register it. */
  readonly parties: readonly string[];
}

const readSubject = (crypto: Crypto, body: PartyRegistration): Checked<Read> => {
  switch (body.kind) {
    case 'agreement': {
      const read = readAgreementArtifact(body.artifact);
      if (!read.ok) return read;
      const { value, signatures, payload } = read.value;
      const agreementDigest = agreementDigestOf(crypto, payload);
      const subject: Subject = { kind: 'agreement', agreementDigest, value, kids: signatures.map(({ kid }) => kid) };
      return good({ subject, signatures, leafKey: value.leafKey, parties: [value.provider, value.consumer] });
    }
    case 'agreement-event': {
      const read = readAgreementEvent(body.artifact);
      if (!read.ok) return read;
      const { value, signatures } = read.value;
      const signers = signatures.map(({ kid }) => didOfKid(kid));
      const subject: Subject = {
        kind: 'agreement-event',
        agreementDigest: value.agreementDigest,
        value,
        signers,
      };
      return good({ subject, signatures, leafKey: value.leafKey, parties: signers });
    }
    case 'usage-statement': {
      const read = readStatementArtifact(body.artifact);
      if (!read.ok) return read;
      const { value, signatures, payload } = read.value;
      if (sumsDigest(crypto, body.sums) !== value.sums) return bad('the sums are not those that the statement names');
      const subject: Subject = {
        kind: 'statement',
        agreementDigest: value.agreementDigest,
        value,
        digest: statementDigest(crypto, payload),
        sums: body.sums,
        kids: signatures.map(({ kid }) => kid),
      };
      return good({ subject, signatures, leafKey: value.leafKey, parties: [value.provider, value.consumer] });
    }
  }
};

/** Keys that count from now on: later than any entry that is sequenced yet. */
const now = Number.MAX_SAFE_INTEGER;

const keysThatCount = (keyBook: KeyBook, signatures: readonly JwsSignature[]): Checked<UsedKey[]> => {
  const keys: UsedKey[] = [];
  for (const { kid } of signatures) {
    const spki = keyBook.keyAt(kid, now);
    if (spki === undefined) return bad(`no key ${kid} counts now`);
    keys.push({ kid, spki });
  }
  return good(keys);
};

const sealedParts = (tools: AdmissionTools, entry: LogEntry, artifact: { text: string; bytes: Uint8Array }) => {
  const digest = toHex(tools.crypto.sha256(artifact.bytes));
  const text = entryText(entry);
  return {
    entry: text,
    leaf: toBase64Url(leafHash(tools.crypto, utf8(text))),
    artifact: { digest, text: tools.seal.seal(artifact.text, digest) },
  };
};

const admitSigned = async (tools: AdmissionTools, body: PartyRegistration, caller: string): Promise<Candidate> => {
  const read = readSubject(tools.crypto, body);
  if (!read.ok) return refuse(read.reason);
  const { subject, signatures, leafKey, parties } = read.value;
  if (!parties.includes(caller)) throw new AppError('forbidden', { detail: 'only a party registers this' });
  const keys = keysThatCount(tools.keyBook, signatures);
  if (!keys.ok) return refuse(keys.reason);
  const text = jwsText(body.artifact);
  const bytes = utf8(text);
  const entry = buildEntry({
    digest: tools.crypto.sha256(bytes),
    signature: orNothing(fromBase64(body.leafSignature)),
    spki: orNothing(fromBase64(body.spki)),
  });
  if (leafKeyId(tools.crypto, orNothing(fromBase64(body.spki))) !== leafKey)
    return refuse('the artifact names another leaf key');
  const held = await tools.verifyInPool((crypto): Checked<unknown> => {
    for (const [index, signature] of signatures.entries()) {
      if (!verifySignature(crypto, signature, orNothing(keys.value[index]?.spki)))
        return bad(`the signature of ${signature.kid} does not hold`);
    }
    return checkEntry(crypto, entry, bytes);
  });
  if (!held.ok) return refuse(held.reason);
  const jws = subject.kind === 'statement' ? body.artifact : undefined;
  return { subject, ...sealedParts(tools, entry, { text, bytes }), keys: keys.value, jws };
};

/** A public artifact with the entry that the registry signs for it; who may ask for it was checked before. */
export const publicCandidate = async (
  tools: Pick<AdmissionTools, 'crypto' | 'publicEntry'>,
  text: string,
  artifact: PublicArtifact,
  joinCode: string | null = null,
): Promise<Candidate> => {
  const entry = entryText(await tools.publicEntry(artifact.bytes));
  return {
    subject: { kind: 'public', artifact, joinCode },
    entry,
    leaf: toBase64Url(leafHash(tools.crypto, utf8(entry))),
    artifact: { digest: toHex(tools.crypto.sha256(artifact.bytes)), text },
    keys: [],
    jws: undefined,
  };
};

/** The hash under which a join code is stored. It covers the DID that was invited: in another's hand the code is unknown. */
export const joinCodeHash = (crypto: Pick<Crypto, 'sha256'>, did: string, code: string): string =>
  toBase64Url(crypto.sha256(utf8(`stekker/join-code/v1\n${did}\n${code}`)));

/**
 * A key event of a participant. The first one must carry the document that the DID serves at this moment: whoever joins
 * shows that the DID is theirs by more than a token (ledger §4).
 */
const admitKeyEvent = async (
  tools: AdmissionTools,
  body: Extract<Registration, { kind: 'key-event' }>,
  caller: string,
): Promise<Candidate> => {
  const read = readPublicArtifact(body.artifact);
  if (!read.ok) return refuse(read.reason);
  const artifact = read.value;
  if (artifact.kind !== 'key-event') return refuse('is no key event');
  const { value, signature } = artifact;
  if (value.did !== caller) throw new AppError('forbidden', { detail: 'a key event is registered by its own DID' });
  if (signature.kid === registryKid(tools.origin)) return refuse('only the registry recovers a DID');
  if (value.seq === '1') await checkDocument(tools, value.did, value.document);
  const accepted = tools.keyBook.accepts(artifact, now - 1);
  const same = tools.keyBook.historyOf(value.did).events[Number(value.seq) - 1];
  if (!accepted.ok && same === undefined) return refuse(accepted.reason);
  const joinCode = body.joinCode === undefined ? null : joinCodeHash(tools.crypto, value.did, body.joinCode);
  return await publicCandidate(tools, jwsText(body.artifact), artifact, joinCode);
};

const checkDocument = async (tools: AdmissionTools, did: string, document: string | null): Promise<void> => {
  if (document === null) return refuse('the first key event carries the DID document');
  const served = await tools.fetchDidDocument(did);
  if (served === undefined) throw new AppError('not-yet', { detail: `the document of ${did} cannot be fetched now` });
  if (served !== document) refuse('the document is not the one that the DID serves');
};

/**
 * Admits what a party wants to register.
 *
 * @throws AppError `body-invalid` (all faults), `entry-refused`, `forbidden`, `not-yet`.
 */
export const admit = async (tools: AdmissionTools, body: unknown, caller: string): Promise<Candidate> => {
  const parsed = parse(body);
  return parsed.kind === 'key-event'
    ? await admitKeyEvent(tools, parsed, caller)
    : await admitSigned(tools, parsed, caller);
};

/** Whether the keys that were used still count for the entry at `index`: an end may have come in between. */
export const keysStillCount = (keyBook: KeyBook, keys: readonly UsedKey[], index: number): boolean =>
  keys.every(({ kid, spki }) => {
    const counting = keyBook.keyAt(kid, index);
    return counting !== undefined && sameBytes(counting, spki);
  });
