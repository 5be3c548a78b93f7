import { z } from 'zod';
import { verifyAnchor } from '../../contracts/anchor/proof.ts';
import { toHex, utf8 } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import {
  type Access,
  type FollowedTo,
  frameOf,
  packedReceiptsOf,
  type ReceiptFrame,
  type Registered,
  receiptOf,
} from '../../contracts/ledger/assemble.ts';
import { type Followed, findEntry } from '../../contracts/ledger/follow.ts';
import { bad, type Checked, good } from '../../contracts/ledger/forms.ts';
import { jwsText } from '../../contracts/ledger/jws.ts';
import { type Checkpoint, verifyNote } from '../../contracts/ledger/note.ts';
import {
  type EvmAnchor,
  evmAnchor,
  type PackedReceipts,
  type Receipt,
  receiptText,
  type TrustFile,
} from '../../contracts/ledger/receipt.ts';
import { consistencyFromTiles } from '../../contracts/ledger/tile-proofs.ts';
import { isConsistent } from '../../contracts/ledger/tree.ts';
import { type VerifyTools, verifyReceipt } from '../../contracts/ledger/verify.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import type { Logger } from '../../kernel/log.ts';
import type { RaiseAlarm } from './alarms.ts';
import type { Follower } from './follower.ts';
import type { LogIdentity } from './known-log.ts';
import type { LogReader, RegistrationStore, StatedInterval, StatedUsage } from './ports.ts';
import type { Registrar } from './registrar.ts';

/**
 * Puts receipts together (ledger §11): what the parties signed, where it stands in the log, and the anchor that covers it.
 * Nothing is handed out that the offline verifier would refuse.
 */

export interface ReceiptOptions {
  /** Totals and amount are not opened: for readers who may see one access and not the account. */
  readonly withholdSums?: boolean;
  /** What it was used for is not opened. */
  readonly withholdContext?: boolean;
  /** Only a receipt that is anchored will do. */
  readonly needsAnchor?: boolean;
}

export interface Receipts {
  /**
   * The receipt of one request; a request whose body came in several parts gets them packed.
   *
   * @throws AppError `not-found`, `not-yet` with what is missing, `entry-refused` when the log refused a part of it.
   */
  readonly ofRequest: (
    participant: ParticipantId,
    request: string,
    options?: ReceiptOptions & { readonly agreementDigest?: string },
  ) => Promise<Receipt | PackedReceipts>;
  /** All receipts of an agreement, packed by statement, in order; for a statement that is not in the log yet, why. */
  readonly ofAgreement: (
    participant: ParticipantId,
    agreementDigest: string,
    options?: ReceiptOptions,
  ) => AsyncGenerator<StatementReceipts>;
}

export type StatementReceipts =
  | { readonly seq: string; readonly receipts: PackedReceipts }
  | { readonly seq: string; readonly missing: AppError };

export interface ReceiptsOptions {
  readonly stated: StatedUsage;
  readonly registrations: RegistrationStore;
  readonly registrar: Pick<Registrar, 'again'>;
  readonly identity: LogIdentity;
  readonly follower: Pick<Follower, 'follow' | 'current' | 'tools'>;
  readonly reader: LogReader;
  readonly alarm: RaiseAlarm;
  readonly logger: Logger;
}

const notYet = (detail: string): AppError => new AppError('not-yet', { detail, retryAfterSeconds: 1 });

/** Where a signed artifact stands; one that only waits is brought now, because somebody asks for it. Undefined: not known here. */
const registered = async (
  { registrations, registrar }: ReceiptsOptions,
  participant: ParticipantId,
  subject: Parameters<RegistrationStore['bySubject']>[1],
): Promise<Registered | undefined> => {
  const found = await registrations.bySubject(participant, subject);
  if (found === undefined) return undefined;
  const what = subject.kind === 'agreement' ? 'the agreement' : `statement ${subject.subject}`;
  switch (found.outcome.state) {
    case 'waiting':
      await registrar.again(participant, found.digest);
      throw notYet(`${what} is not registered in the log yet`);
    case 'refused':
      throw new AppError('entry-refused', { detail: `the log refused ${what}: ${found.outcome.reason}` });
    case 'registered': {
      const { artifact, index } = found.outcome;
      return { artifact: artifact ?? found.artifact, index };
    }
  }
};

/** Entries that are looked through for one question; the next one goes on from there. */
const maxLookedThrough = 16_384;
const maxRemembered = 10_000;

type Lost = (its: ReceiptsOptions, interval: StatedInterval, after: number) => Promise<Registered | undefined>;

/**
 * Looks in the log itself for a statement whose registration is not known here: rows that came from a backup know nothing of
 * it, and its leaf key is gone. It stands behind its agreement.
 */
const createLost = (): Lost => {
  const lookedTo = new Map<string, number>();
  return async ({ follower }, { artifact }, after) => {
    const digest = nodeCrypto.sha256(utf8(jwsText(artifact)));
    const key = toHex(digest);
    const { checkpoint } = await follower.follow();
    const from = lookedTo.get(key) ?? after + 1;
    const to = Math.min(checkpoint.size, from + maxLookedThrough);
    const found = await findEntry((await follower.tools()).fetch, digest, { from, to });
    if (!found.ok) throw notYet(found.reason);
    if (lookedTo.size >= maxRemembered) lookedTo.clear();
    lookedTo.set(key, found.value ?? to);
    return found.value === undefined ? undefined : { artifact, index: found.value };
  };
};

/** What was followed, at least up to this entry. */
const followedBeyond = async ({ follower }: ReceiptsOptions, index: number): Promise<Followed> => {
  const known = await follower.current();
  if (known !== undefined && index < known.checkpoint.size) return known;
  const fresh = await follower.follow();
  if (index < fresh.checkpoint.size) return fresh;
  throw notYet(`no checkpoint of the log covers entry ${index} yet`);
};

const anchorAnswer = z.looseObject({ checkpoint: z.string().max(65_536), anchor: evmAnchor });

interface Anchored {
  readonly checkpoint: Checkpoint;
  readonly note: string;
  readonly anchor: EvmAnchor;
}

const anchorTools = { keccak256, sha256: nodeCrypto.sha256 };

/** An anchored checkpoint counts only when it is one of the log that was followed, and its anchor is about it. */
const checkAnchored = async (
  { identity, follower }: ReceiptsOptions,
  answer: Json,
  { covers, followed }: { readonly covers: number; readonly followed: Followed },
): Promise<Checked<Anchored>> => {
  const parsed = anchorAnswer.safeParse(answer);
  if (!parsed.success) return bad('the answer cannot be read');
  const { checkpoint: note, anchor } = parsed.data;
  const { policy } = await identity.known();
  const checkpoint = verifyNote(nodeCrypto, note, policy);
  if (!checkpoint.ok) return bad(`its checkpoint: ${checkpoint.reason}`);
  const { size } = checkpoint.value;
  if (size <= covers) return bad(`its checkpoint does not cover entry ${covers}`);
  if (anchor.later !== null) return bad('it is about a later checkpoint');
  if (verifyAnchor(anchorTools, anchor, checkpoint.value, []).state === 'failed')
    return bad('its proof is not about its checkpoint');
  const latest = size <= followed.checkpoint.size ? followed : await follower.follow();
  if (size > latest.checkpoint.size) return bad('its checkpoint is ahead of the log');
  const { fetch } = await follower.tools();
  const sizes = { from: size, to: latest.checkpoint.size };
  const proof = await consistencyFromTiles(nodeCrypto, sizes, fetch);
  if (!proof.ok) return proof;
  return isConsistent(nodeCrypto, checkpoint.value, latest.checkpoint, proof.value)
    ? good({ checkpoint: checkpoint.value, note, anchor })
    : bad('its checkpoint is of another tree than the one that the log shows');
};

const askAnchor = async (its: ReceiptsOptions, covers: number, followed: Followed): Promise<Anchored | undefined> => {
  const { url } = await its.identity.known();
  let answer: Json | undefined;
  try {
    answer = await its.reader.anchor(url, covers);
  } catch (error) {
    its.logger.info({ error, covers }, 'anchors cannot be asked for now');
  }
  if (answer === undefined) return undefined;
  const checked = await checkAnchored(its, answer, { covers, followed });
  if (checked.ok) return checked.value;
  const detail = `the anchor that is said to cover entry ${covers} is not believed: ${checked.reason}`;
  await its.alarm({ code: 'anchor-not-believed', participant: null, detail, evidence: { answer } });
  return undefined;
};

/** The checkpoint that proofs lead to: the anchored one where there is one, else the newest. */
const viewOf = async (
  its: ReceiptsOptions,
  covers: number,
  needsAnchor: boolean,
): Promise<{ readonly followed: FollowedTo; readonly anchors: readonly EvmAnchor[] }> => {
  const followed = await followedBeyond(its, covers);
  const anchored = await askAnchor(its, covers, followed);
  if (anchored === undefined) {
    if (needsAnchor) throw notYet(`no final anchor covers entry ${covers} yet`);
    return { followed, anchors: [] };
  }
  const { checkpoint, note, anchor } = anchored;
  const { publics } = (await its.follower.current()) ?? followed;
  const below = publics.filter(({ index }) => index < checkpoint.size);
  return { followed: { checkpoint, note, publics: below }, anchors: [anchor] };
};

interface Its extends ReceiptsOptions {
  readonly lost: Lost;
}

const frameFor = async (
  its: Its,
  participant: ParticipantId,
  { interval, options }: { readonly interval: StatedInterval; readonly options: ReceiptOptions },
): Promise<ReceiptFrame> => {
  const { agreementDigest, seq } = interval;
  const agreement = await registered(its, participant, { kind: 'agreement', agreementDigest, subject: '' });
  if (agreement === undefined) throw notYet('the agreement was not handed over for the log yet');
  const statement =
    (await registered(its, participant, { kind: 'usage-statement', agreementDigest, subject: seq })) ??
    (await its.lost(its, interval, agreement.index));
  if (statement === undefined) throw notYet(`statement ${seq} was not handed over for the log yet`);
  const covers = Math.max(agreement.index, statement.index);
  const { followed, anchors } = await viewOf(its, covers, options.needsAnchor === true);
  const sums = options.withholdSums === true ? null : interval.sums;
  const frame = await frameOf(await its.follower.tools(), followed, { statement, agreement, sums, anchors });
  if (!frame.ok) throw notYet(frame.reason);
  return frame.value;
};

const verifyTools: VerifyTools = {
  crypto: nodeCrypto,
  verifyAnchor: (anchor, checkpoint, chains) => verifyAnchor(anchorTools, anchor, checkpoint, chains),
};

/** The offline verifier has the last word, with the log as we know it. */
const verified = async <File extends Receipt | PackedReceipts>(
  { identity, logger }: ReceiptsOptions,
  made: Checked<File>,
): Promise<File> => {
  if (!made.ok) throw new AppError('data-damaged', { detail: made.reason });
  const { trusted } = await identity.known();
  const trust: TrustFile = { v: 1, type: 'trust', logs: [trusted], chains: [], oneSided: true };
  const { code, steps } = verifyReceipt(verifyTools, trust, receiptText(made.value));
  if (code === 0 || code === 4) return made.value;
  const failed = steps.filter(({ state }) => state === 'failed').map(({ step, detail }) => `step ${step}: ${detail}`);
  logger.error({ code, failed }, 'a receipt was put together that does not verify');
  throw new AppError('data-damaged', { detail: `the receipt would not verify: ${failed.join('; ')}` });
};

type Item = StatedInterval['accesses'][number];

const accessOf = ({ record, context }: Item, { withholdContext }: ReceiptOptions): Access => ({
  record,
  context: withholdContext === true ? null : context,
});

const recordsOf = ({ accesses }: StatedInterval) => accesses.map(({ record }) => record);

const ofRequest = async (
  its: Its,
  participant: ParticipantId,
  { request, options }: { readonly request: string; readonly options: ReceiptOptions & { agreementDigest?: string } },
): Promise<Receipt | PackedReceipts> => {
  const stated = await its.stated.ofRequest(participant, request, options.agreementDigest);
  if (stated === undefined) throw new AppError('not-found');
  const [interval, ...more] = stated.intervals;
  if (interval === undefined || stated.isOpen) throw notYet('no statement that both signed covers this access yet');
  if (more.length > 0)
    throw new AppError('invalid-request', {
      detail: 'the parts of this access stand in several statements: ask for the receipts of the agreement',
    });
  const frame = await frameFor(its, participant, { interval, options });
  const items = interval.accesses.filter(({ record }) => record.request === request);
  const accesses = items.map((item) => accessOf(item, options));
  const [first, ...others] = accesses;
  return first !== undefined && others.length === 0
    ? verified(its, receiptOf(nodeCrypto, frame, first, recordsOf(interval)))
    : verified(its, packedReceiptsOf(nodeCrypto, frame, accesses, recordsOf(interval)));
};

const ofStatement = async (
  its: Its,
  participant: ParticipantId,
  { interval, options }: { readonly interval: StatedInterval; readonly options: ReceiptOptions },
): Promise<StatementReceipts> => {
  const { seq } = interval;
  try {
    const frame = await frameFor(its, participant, { interval, options });
    const accesses = interval.accesses.map((item) => accessOf(item, options));
    const receipts = packedReceiptsOf(nodeCrypto, frame, accesses, recordsOf(interval));
    return { seq, receipts: await verified(its, receipts) };
  } catch (error) {
    if (error instanceof AppError && (error.code === 'not-yet' || error.code === 'entry-refused'))
      return { seq, missing: error };
    throw error;
  }
};

async function* ofAgreement(
  its: Its,
  participant: ParticipantId,
  { agreementDigest, options }: { readonly agreementDigest: string; readonly options: ReceiptOptions },
): AsyncGenerator<StatementReceipts> {
  for (let after = '0'; ; ) {
    const interval = await its.stated.next(participant, agreementDigest, after);
    if (interval === undefined) return;
    if (interval.accesses.length > 0) yield await ofStatement(its, participant, { interval, options });
    after = interval.seq;
  }
}

export const createReceipts = (options: ReceiptsOptions): Receipts => {
  const its: Its = { ...options, lost: createLost() };
  return {
    ofRequest: (participant, request, asked = {}) => ofRequest(its, participant, { request, options: asked }),
    ofAgreement: (participant, agreementDigest, asked = {}) =>
      ofAgreement(its, participant, { agreementDigest, options: asked }),
  };
};
