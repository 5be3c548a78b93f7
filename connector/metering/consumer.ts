import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { SignedBy } from '../../contracts/ledger/agreement.ts';
import type { StatementDraft } from '../../contracts/ledger/draft.ts';
import { assembleJws, type GeneralJws } from '../../contracts/ledger/jws.ts';
import type { UsageStatement } from '../../contracts/ledger/statement.ts';
import {
  readStatementArtifact,
  refusalText,
  type StatementRefusal,
  statementDigest,
  statementText,
} from '../../contracts/ledger/statement.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import { createTurnsByKey } from '../../kernel/turns.ts';
import type { Account } from './account.ts';
import { compareDraft } from './compare.ts';
import type { Completion } from './completion.ts';
import { keepEquivocation } from './newest.ts';
import type {
  AccountKey,
  DisputeStore,
  KeptDraft,
  KeptStatement,
  SignedSeqs,
  StatementDraftStore,
  StatementSigner,
  StatementStore,
} from './ports.ts';

/**
 * The consumer's side of a statement (ledger §8 "Order"): compare the draft with our own journal, accept or refuse; sign
 * what was accepted. Answered from local state alone; only accepts are remembered.
 */

const statementTyp = 'stekker-usage-statement+jws';

export interface ConsumerOptions {
  /** The account of one role, also when its final statement is complete. */
  readonly account: (key: AccountKey) => Promise<Account | undefined>;
  readonly signer: StatementSigner;
  readonly seqs: SignedSeqs;
  readonly drafts: StatementDraftStore;
  readonly statements: StatementStore;
  readonly disputes: DisputeStore;
  readonly completion: Completion;
  /** Whether the counterparty and the broker were asked for the newest statement since the start; if not, it begins. */
  readonly isAsked: (account: Account) => boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface Consumer {
  /** `{accept}` or the refusal. @throws AppError `not-found` for strangers, `not-yet` while a row is still open here. */
  readonly draft: (participant: ParticipantId, caller: Did, draft: StatementDraft) => Promise<Json>;
  /** The artifact with both signatures. @throws AppError `not-found`, `statement-conflict`, `body-invalid`, `not-yet`. */
  readonly signed: (participant: ParticipantId, caller: Did, artifact: unknown) => Promise<GeneralJws>;
}

/** A row that is still open here may take this long to close (wire §6). */
const longestOpenMs = 60_000;
/** Drafts that were accepted for one number and not signed: redrafts of a provider that started again. */
const maxAccepted = 8;

const notYet = (detail: string): AppError => new AppError('not-yet', { detail, retryAfterSeconds: 1 });

interface State extends ConsumerOptions {
  /** When a draft with open rows was first seen, by agreement. */
  readonly waitingSince: Map<string, { readonly seq: string; readonly at: number }>;
}

/** The account of this caller; for everybody else, and for the other role, there is none. */
const accountFor = async (its: State, participant: ParticipantId, caller: Did, agreement: string): Promise<Account> => {
  const account = await its.account({ participant, role: 'consumer', agreement });
  if (account?.info.provider !== caller || account.info.assurance !== 'cosigned') throw new AppError('not-found');
  return account;
};

const refuse = async (
  { signer, log }: State,
  account: Account,
  draft: { readonly seq: string; readonly digest: string },
  because: Pick<StatementRefusal, 'code' | 'records'>,
): Promise<Json> => {
  const { info } = account;
  const text = refusalText({
    v: 1,
    type: 'statement-refusal',
    agreementDigest: info.agreement,
    seq: draft.seq,
    draft: draft.digest,
    ...because,
  });
  log.warn(
    { agreement: info.agreement, seq: draft.seq, code: because.code, records: because.records.length },
    'a draft does not fit our own journal',
  );
  const jws = assembleJws(text, [await signer.sign(info, text, 'stekker-statement-refusal+jws')]);
  return { ...jws, signatures: [...jws.signatures] };
};

const mayWait = ({ waitingSince, clock }: State, { info }: Account, seq: string): boolean => {
  const known = waitingSince.get(info.agreement);
  const since = known?.seq === seq ? known.at : clock.now();
  waitingSince.set(info.agreement, { seq, at: since });
  return Math.abs(clock.now() - since) < longestOpenMs;
};

/** An answer that was given before is given again, whatever came since. */
const knownAnswer = async (its: State, account: Account, seq: number, digest: string): Promise<Json | undefined> => {
  const { info, chain } = account;
  if (seq <= chain.seq)
    return (await its.statements.find(info, seq))?.digest === digest ? { accept: digest } : undefined;
  const accepted = await its.drafts.list(info);
  return accepted.some((draft) => draft.digest === digest) ? { accept: digest } : undefined;
};

const draft = async (its: State, account: Account, received: StatementDraft): Promise<Json> => {
  const { info } = account;
  const { seq } = received.payload;
  const digest = statementDigest(nodeCrypto, statementText(received.payload));
  const known = await knownAnswer(its, account, Number(seq), digest);
  if (known !== undefined) return known;
  const compared = await compareDraft(account, received, its.clock.now(), mayWait(its, account, seq));
  if (compared.kind === 'open') throw notYet('an access of this interval is still open here');
  if (compared.kind === 'refuse')
    return refuse(its, account, { seq, digest }, { code: compared.code, records: compared.records });
  const { payload, sums, K, leafKey } = received;
  const kept: KeptDraft = { digest, payload, sums, K, leafKey, rows: compared.rows };
  const isFull = (await its.drafts.list(info)).length >= maxAccepted;
  await its.drafts.save(info, kept, { replace: isFull });
  its.waitingSince.delete(info.agreement);
  return { accept: digest };
};

/** A second statement for a number: the first one stands, and the two together are a proof. */
const conflict = async (
  its: State,
  account: Account,
  read: SignedBy<UsageStatement>,
  standing: KeptStatement | undefined,
): Promise<AppError> => {
  const by = { index: 0, did: account.info.provider, typ: statementTyp } as const;
  if (standing?.artifact != null && (await its.signer.verify(read.jws, by)))
    await keepEquivocation(its, account, Number(read.value.seq), [standing.artifact, read.jws]);
  return new AppError('statement-conflict');
};

const countersign = async (
  its: State,
  account: Account,
  read: SignedBy<UsageStatement>,
  accepted: KeptDraft,
): Promise<GeneralJws> => {
  const { info } = account;
  const seq = Number(read.value.seq);
  const [first] = read.jws.signatures;
  const by = { index: 0, did: info.provider, typ: statementTyp } as const;
  if (first === undefined || !(await its.signer.verify(read.jws, by)))
    throw new AppError('body-invalid', { detail: "the provider's signature does not hold" });
  if (!(await its.seqs.claim(info, seq, accepted.digest))) {
    its.log.error(
      { agreement: info.agreement, seq },
      'another statement was signed for this number: nothing is signed',
    );
    throw new AppError('statement-conflict');
  }
  const own = assembleJws(read.payload, [await its.signer.sign(info, read.payload, statementTyp)]);
  const artifact: GeneralJws = { payload: read.jws.payload, signatures: [first, ...own.signatures] };
  await its.completion.complete(account, { ...accepted, artifact, state: 'complete' }, accepted.rows);
  return artifact;
};

const signed = async (its: State, account: Account, read: SignedBy<UsageStatement>): Promise<GeneralJws> => {
  const { info, chain } = account;
  const digest = statementDigest(nodeCrypto, read.payload);
  const seq = Number(read.value.seq);
  if (seq <= chain.seq) {
    const standing = await its.statements.find(info, seq);
    if (standing?.digest === digest && standing.artifact !== null) return standing.artifact;
    throw await conflict(its, account, read, standing);
  }
  const accepted = (await its.drafts.list(info)).find((one) => one.digest === digest);
  if (accepted === undefined || seq !== chain.seq + 1)
    throw new AppError('statement-conflict', { detail: 'no draft of this statement was accepted here' });
  return countersign(its, account, read, accepted);
};

const mustBeAsked = (its: State, account: Account): void => {
  if (!its.isAsked(account)) throw notYet('this connector still asks which statement is the newest');
};

export const createConsumer = (options: ConsumerOptions): Consumer => {
  const its: State = { ...options, waitingSince: new Map() };
  /** One thing at a time for each agreement, so that repeats that come at once see each other's work. */
  const inTurn = createTurnsByKey();
  return {
    draft: async (participant, caller, received) => {
      const account = await accountFor(its, participant, caller, received.payload.agreementDigest);
      mustBeAsked(its, account);
      return inTurn(account.info.agreement, () => draft(its, account, received));
    },
    signed: async (participant, caller, artifact) => {
      const read = readStatementArtifact(artifact);
      if (!read.ok) throw new AppError('body-invalid', { faults: [{ path: '', message: read.reason }] });
      const account = await accountFor(its, participant, caller, read.value.value.agreementDigest);
      mustBeAsked(its, account);
      return inTurn(account.info.agreement, () => signed(its, account, read.value));
    },
  };
};
