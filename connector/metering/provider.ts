import { canonicalize, type Json } from '../../contracts/json.ts';
import { checkRoles } from '../../contracts/ledger/agreement.ts';
import { maxIntervalRecords } from '../../contracts/ledger/draft.ts';
import { assembleJws, type GeneralJws } from '../../contracts/ledger/jws.ts';
import {
  readRefusalArtifact,
  readStatementArtifact,
  type StatementRefusal,
  statementText,
} from '../../contracts/ledger/statement.ts';
import { parseTime } from '../../contracts/time.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Random } from '../../kernel/random.ts';
import type { PeerAnswer } from '../exchange/ports.ts';
import { type Access, type Account, hold, keyOf, lentOf } from './account.ts';
import type { Completion } from './completion.ts';
import { haveOfClose, unknownHave } from './counts.pure.ts';
import { type Cut, dueCut, inOrder } from './cut.pure.ts';
import type { PeerCalls } from './peer-calls.ts';
import type {
  DisputeStore,
  HeldRecord,
  KeptDraft,
  KeptStatement,
  SignedSeqs,
  StatedRow,
  StatementDraftStore,
  StatementSigner,
  StatementStore,
} from './ports.ts';
import { fateOf, never, type RowFate } from './redraft.pure.ts';
import { buildDraft, disputedRow, type PlainRow, rowOfAccess, wireDraft } from './statements.ts';
import { type Limits, minus } from './window.pure.ts';

/**
 * The provider's side of a statement (ledger §8 "Order"): cut, draft, redraft what was refused, sign what was accepted, send
 * the same bytes until both signatures stand. Each step is durable before the next, so a crash only repeats one.
 */

const statementTyp = 'stekker-usage-statement+jws';

export interface ProviderOptions {
  readonly calls: PeerCalls;
  readonly signer: StatementSigner;
  readonly seqs: SignedSeqs;
  readonly drafts: StatementDraftStore;
  readonly statements: StatementStore;
  readonly disputes: DisputeStore;
  readonly completion: Completion;
  readonly askNewest: (account: Account) => Promise<boolean>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly window: Limits;
  readonly intervalMs: number;
}

/** Where the statement of one account stands; what is durable is read again after a start. */
export interface Work {
  readonly account: Account;
  isAsked: boolean;
  isRequested: boolean;
  draft: KeptDraft | undefined;
  isAccepted: boolean;
  signed: KeptStatement | undefined;
  /** The counterparty knows no draft for what we signed: it is sent again. */
  mustShowDraft: boolean;
}

/** `again`: the next step may follow at once. `later`: after a pause. `idle`: there is nothing to do until something changes. */
export type StepResult = 'again' | 'later' | 'idle';

export const createWork = (account: Account): Work => ({
  account,
  isAsked: false,
  isRequested: false,
  draft: undefined,
  isAccepted: false,
  signed: undefined,
  mustShowDraft: false,
});

export const cutOf = (its: Pick<ProviderOptions, 'clock' | 'window' | 'intervalMs'>, work: Work): Cut => {
  const { account } = work;
  const { counts, oldestAt, chain, blocks } = account;
  if (chain.isFinal) return 'none';
  return dueCut({
    now: its.clock.now(),
    lastTo: parseTime(chain.to) ?? 0,
    intervalMs: its.intervalMs,
    closed: counts.closed,
    open: counts.open + counts.lost + blocks.size, // what a worker holds may become an access
    exposed: minus(account.exposed, lentOf(account)),
    oldestAt,
    limits: its.window,
    isAsked: work.isRequested,
    isEnded: account.isEnded,
  });
};

/** A record that was held over, once more: one refusal holds it over again. Written off, the consumer's claim counts. */
const retriedRow = (access: Access, held: HeldRecord): PlainRow => ({
  ...rowOfAccess(access),
  ...(held.isWrittenOff ? (held.claim ?? {}) : {}),
  refusals: 1,
});

const rowsFor = (account: Account, isFinal: boolean): PlainRow[] => {
  const seq = account.chain.seq + 1;
  const all = [...account.accesses.values()];
  const closed = inOrder(all.filter(({ standing }) => standing === 'closed'));
  const held = inOrder(all.filter(({ standing }) => standing === 'held')).flatMap((access) => {
    const record = account.held.get(keyOf(access.request, access.part));
    if (record === undefined || record.retryAt === never || (record.isWrittenOff && record.claim === null)) return [];
    if (isFinal && !record.isWrittenOff) return [disputedRow(access, record)];
    return isFinal || record.retryAt <= seq ? [retriedRow(access, record)] : [];
  });
  const rows = [...closed.map(rowOfAccess), ...held].slice(0, maxIntervalRecords);
  return rows.sort((a, b) => a.place - b.place);
};

const saveDraft = async (
  its: ProviderOptions,
  work: Work,
  rows: readonly PlainRow[],
  change: { readonly isFinal: boolean; readonly held?: readonly HeldRecord[] },
): Promise<StepResult> => {
  const { account } = work;
  const { isFinal, held } = change;
  work.isAccepted = false;
  if (rows.length === 0 && !isFinal) {
    await its.drafts.drop(account.info, held ?? [...account.held.values()]);
    work.draft = undefined;
  } else {
    const draft = await buildDraft({ account, rows, to: its.clock.now(), isFinal, random: its.random });
    await its.drafts.save(account.info, draft, { replace: true, ...(held === undefined ? {} : { held }) });
    work.draft = draft;
  }
  if (held !== undefined) hold(account, held);
  return 'again';
};

const cut = async (its: ProviderOptions, work: Work, kind: Exclude<Cut, 'none'>): Promise<StepResult> => {
  work.isRequested = false;
  const isFinal = kind === 'final';
  return saveDraft(its, work, rowsFor(work.account, isFinal), { isFinal });
};

/** The row that a refused one becomes; none when it waits or stays out. What is held over is noted in `held`. */
const rowAfter = (account: Account, fate: RowFate, row: StatedRow, held: Map<string, HeldRecord>, isFinal: boolean) => {
  const key = keyOf(row.request, Number(row.part));
  const access = account.accesses.get(key);
  if (fate.kind === 'keep') return row;
  if (fate.kind === 'change') return { ...row, ...fate.to, refusals: fate.refusals };
  held.set(key, fate.held);
  return fate.kind === 'hold' && isFinal && access !== undefined ? disputedRow(access, fate.held) : undefined;
};

/** What a refused draft becomes. A refusal that names none of its rows is about the whole: it is made anew, after a pause. */
const redraft = async (
  its: ProviderOptions,
  work: Work,
  draft: KeptDraft,
  refusal: StatementRefusal,
): Promise<StepResult> => {
  const { account } = work;
  const isFinal = draft.payload.final;
  const seq = Number(draft.payload.seq);
  const refused = new Map(refusal.records.map((one) => [keyOf(one.request, Number(one.part)), one]));
  const held = new Map(account.held);
  const rows: PlainRow[] = [];
  let changes = 0;
  for (const row of draft.rows) {
    const key = keyOf(row.request, Number(row.part));
    const close = account.accesses.get(key)?.close;
    const own = close == null ? unknownHave : haveOfClose(close);
    const fate = fateOf({ row, refused: refused.get(key), own, before: held.get(key), seq });
    const after = rowAfter(account, fate, row, held, isFinal);
    if (fate.kind !== 'keep') changes += 1;
    if (after !== undefined) rows.push(after);
  }
  const result = await saveDraft(its, work, rows, { isFinal, held: [...held.values()] });
  return changes === 0 ? 'later' : result;
};

const isRefusalOf = async (
  { signer }: Pick<ProviderOptions, 'signer'>,
  { account }: Work,
  body: unknown,
  draft: KeptDraft,
): Promise<StatementRefusal | undefined> => {
  const read = readRefusalArtifact(body);
  if (!read.ok) return undefined;
  const { agreementDigest, seq, draft: refused } = read.value.value;
  const fits = agreementDigest === account.info.agreement && seq === draft.payload.seq && refused === draft.digest;
  const by = { index: 0, did: account.info.consumer, typ: 'stekker-statement-refusal+jws' } as const;
  return fits && (await signer.verify(body, by)) ? read.value.value : undefined;
};

const isAcceptOf = (answer: PeerAnswer, digest: string): boolean => {
  const body = answer.body as { readonly accept?: unknown } | null | undefined;
  return answer.status === 200 && body?.accept === digest;
};

const showDraft = async (its: ProviderOptions, work: Work, draft: KeptDraft): Promise<StepResult> => {
  const { info } = work.account;
  const answer = await its.calls.draft(info, draft.digest, wireDraft(draft));
  if (answer === undefined) return 'later';
  if (isAcceptOf(answer, draft.digest)) {
    work.isAccepted = true;
    work.mustShowDraft = false;
    return 'again';
  }
  const refusal = answer.status === 200 ? await isRefusalOf(its, work, answer.body, draft) : undefined;
  if (refusal === undefined) return 'later';
  const { code, records } = refusal;
  its.log.warn(
    { agreement: info.agreement, seq: draft.payload.seq, code, records: records.length },
    'a draft was refused',
  );
  await its.disputes.saveRefusal(info, draft.digest, answer.body as GeneralJws, its.clock.now());
  if (work.signed !== undefined) return 'later'; // what is signed is not drafted again: the window closes
  if (code === 'order') work.isAsked = false;
  return redraft(its, work, draft, refusal);
};

/** The never-twice line first, then the signature (ledger §8). */
const sign = async (its: ProviderOptions, work: Work, draft: KeptDraft): Promise<StepResult> => {
  const { info, chain } = work.account;
  const seq = Number(draft.payload.seq);
  const mayBeSigned = seq > chain.seq && (await its.seqs.claim(info, seq, draft.digest));
  if (!mayBeSigned) {
    its.log.error(
      { agreement: info.agreement, seq },
      'another statement was signed for this number: nothing is signed',
    );
    work.isAsked = false;
    return 'later';
  }
  const payload = statementText(draft.payload);
  const artifact = assembleJws(payload, [await its.signer.sign(info, payload, statementTyp)]);
  const statement: KeptStatement = { ...draft, artifact, state: 'signed' };
  if (info.assurance === 'plain-dsp') {
    await its.completion.complete(work.account, statement, draft.rows);
  } else {
    if ((await its.statements.save(info, statement)) === 'conflict') {
      work.isAsked = false; // another process was here before: what is kept is read again
      return 'later';
    }
    work.signed = statement;
  }
  work.draft = undefined;
  work.isAccepted = false;
  return 'again';
};

/** The artifact with both signatures, when the answer is that and ours is untouched. */
const countersigned = async (
  { signer }: ProviderOptions,
  { info }: Account,
  own: GeneralJws,
  answer: PeerAnswer,
): Promise<GeneralJws | undefined> => {
  const read = answer.status === 200 ? readStatementArtifact(answer.body) : undefined;
  if (read?.ok !== true) return undefined;
  const { jws, signatures } = read.value;
  const isOurs =
    jws.payload === own.payload && canonicalize(jws.signatures[0] as Json) === canonicalize(own.signatures[0] as Json);
  if (!isOurs || !checkRoles(signatures, info, 'cosigned').ok) return undefined;
  const by = { index: 1, did: info.consumer, typ: statementTyp } as const;
  return (await signer.verify(jws, by)) ? jws : undefined;
};

const draftOf = (signed: KeptStatement): KeptDraft | undefined =>
  signed.rows === null || signed.K === null || signed.leafKey === null
    ? undefined
    : { ...signed, K: signed.K, leafKey: signed.leafKey, rows: signed.rows };

const showSigned = async (its: ProviderOptions, work: Work, signed: KeptStatement): Promise<StepResult> => {
  const { account } = work;
  const { artifact } = signed;
  if (artifact === null) return 'idle';
  const draft = draftOf(signed);
  if (work.mustShowDraft && draft !== undefined) {
    const shown = await showDraft(its, work, draft);
    if (shown !== 'again') return shown;
  }
  const answer = await its.calls.signed(account.info, artifact);
  if (answer === undefined) return 'later';
  const both = await countersigned(its, account, artifact, answer);
  if (both === undefined) {
    work.mustShowDraft = answer.status === 404 || answer.status === 409;
    return 'later';
  }
  const rows: readonly StatedRow[] = signed.rows ?? [];
  await its.completion.complete(account, { ...signed, artifact: both }, rows);
  work.signed = undefined;
  return 'again';
};

const load = async (its: ProviderOptions, work: Work): Promise<void> => {
  const { info } = work.account;
  const newest = await its.statements.find(info, 'newest');
  work.signed = newest?.state === 'signed' ? newest : undefined;
  const [draft] = await its.drafts.list(info);
  work.draft = work.signed === undefined ? draft : undefined;
  const claimed = its.seqs.newest(info);
  // What was claimed before a crash was accepted before: it is signed, and nothing else is.
  work.isAccepted = draft !== undefined && claimed?.digest === draft.digest;
};

/** One step towards the next complete statement. */
export const step = async (its: ProviderOptions, work: Work): Promise<StepResult> => {
  const { account } = work;
  if (!work.isAsked) {
    if (!(await its.askNewest(account))) return 'later';
    await load(its, work);
    work.isAsked = true;
  }
  if (work.signed !== undefined) return showSigned(its, work, work.signed);
  if (work.draft !== undefined) {
    const isOneSided = account.info.assurance === 'plain-dsp';
    return work.isAccepted || isOneSided ? sign(its, work, work.draft) : showDraft(its, work, work.draft);
  }
  const kind = cutOf(its, work);
  return kind === 'none' ? 'idle' : cut(its, work, kind);
};
