import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { Task, TaskResult } from '../../kernel/sql/outbox.ts';
import type { Caller, LaterTask } from '../exchange/ports.ts';
import { type Amendment, amendProcess, sendMessage } from '../exchange/send.ts';
import type { Delivery, SignedParts } from './end-events.ts';
import type { AgreementEnd, NegotiationData, NegotiationRow, PrivateJwk } from './ports.ts';
import { type Exchanged, inForce, type NegotiationOptions, termination } from './process.ts';
import { endAloneAfterMs, standsAgainstOther, statusAfter, voidAfterMs, withoutSpentKey } from './rules.ts';
import { mustKnowSuccessor, supersede } from './superseding.ts';

/**
 * How agreements come into force, end, and become void (wire §3, dsp §12.3). The negotiation stays FINALIZED for ever; the
 * agreement has a status beside it. An end holds here from the transaction that keeps it, whether the peer hears or not.
 */

export interface Ending {
  /** An owner's decision to end an agreement; a repeat changes nothing. */
  readonly end: (participant: ParticipantId, agreementId: string, reason: string) => Promise<NegotiationRow>;
  /** The peer's decision. @returns what the peer must know: its event with our signature, or the one that stands. */
  readonly onEnd: (row: NegotiationRow, caller: Caller, parts: SignedParts) => Promise<EndAnswer>;
  readonly handlers: {
    /** What was signed and not verified in time. */
    readonly 'negotiations-void': (task: Task) => Promise<TaskResult>;
    /** Brings our end to the peer. */
    readonly 'negotiations-end': (task: Task) => Promise<TaskResult>;
    /** Has our end registered when the peer has not answered in time. */
    readonly 'negotiations-end-alone': (task: Task) => Promise<TaskResult>;
  };
}

export interface EndAnswer {
  readonly artifact: GeneralJws;
  readonly leafKey?: PrivateJwk;
}

type Amended = Amendment<NegotiationData> | undefined;

export const voidTask = ({ pid }: { readonly pid: string }, signedAt: number): LaterTask => ({
  topic: 'negotiations-void',
  id: pid,
  dueAt: signedAt + voidAfterMs,
});

const endTasks = ({ pid }: NegotiationRow, end: AgreementEnd, now: number): readonly LaterTask[] =>
  end.delivered
    ? []
    : [
        { topic: 'negotiations-end', id: pid, dueAt: now },
        { topic: 'negotiations-end-alone', id: pid, dueAt: now + endAloneAfterMs },
      ];

const withoutLeafKey = ({ agreement }: NegotiationData): NegotiationData['agreement'] =>
  agreement === null ? null : { ...agreement, leafKey: null };

/** Hands the event of an end to whoever registers it, once. */
const settle = async (its: Exchanged, options: NegotiationOptions, row: NegotiationRow): Promise<void> => {
  if (row.data.end === null || row.data.end.settled || row.data.end.waits === true) return;
  await options.agreementWatch.endSigned(row);
  await amendProcess(
    its,
    row,
    ({ data }): Amended =>
      data.end === null || data.end.settled
        ? undefined
        : { data: { ...data, end: withoutSpentKey({ ...data.end, settled: true }) }, work: false },
  );
};

const announce = async (its: Exchanged, options: NegotiationOptions, row: NegotiationRow): Promise<NegotiationRow> => {
  if (row.data.announced) return row;
  await options.agreementWatch.inForce(row);
  return amendProcess(
    its,
    row,
    ({ data }): Amended => ({
      data: { ...inForce(data), announced: true, agreement: withoutLeafKey(data) },
      work: false,
    }),
  );
};

const endedNow = async (its: Exchanged, options: NegotiationOptions, row: NegotiationRow): Promise<void> => {
  const { end, agreement } = row.data;
  if (end === null || end.waits === true) return;
  const reason = end.reason === '' ? [] : [end.reason];
  const agreementId = String(agreement?.agreement['@id'] ?? '');
  await all([
    options.runningTransfers.end(row.participant, agreementId, { code: 'agreement-ended', reason }),
    options.agreementWatch.ended(row),
  ]);
  if (end.delivered) await settle(its, options, row);
};

/** Waits for all of them; one that fails holds up none of the others. */
const all = async (works: readonly Promise<unknown>[]): Promise<void> => {
  const failed = (await Promise.allSettled(works)).find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
};

/** A negotiation that ended without an agreement in force: whoever signed one declares it void (wire §3, step 4). */
const voided = async (its: Exchanged, options: NegotiationOptions, row: NegotiationRow): Promise<void> => {
  if (row.data.agreement === null) return;
  const reason = row.data.ending?.code ?? '';
  const end =
    row.data.end ?? (await options.agreements.ends.make(row, { event: 'void', reason: reason.slice(0, 1_000) }));
  const current = await amendProcess(
    its,
    row,
    ({ data }): Amended =>
      data.end === null
        ? { data: { ...data, status: 'void', agreement: withoutLeafKey(data), end }, work: false }
        : undefined,
  );
  await options.agreementWatch.ended(current);
  await settle(its, options, current);
};

/** What must be done after a final state, and after each change behind it; it runs at least once, and bears repeats. */
export const concluded = async (its: Exchanged, options: NegotiationOptions, row: NegotiationRow): Promise<void> => {
  if (row.process.state === 'TERMINATED') return voided(its, options, row);
  const [announced] = await Promise.allSettled([announce(its, options, row)]);
  await endedNow(its, options, announced.status === 'fulfilled' ? announced.value : row); // an end waits for nobody
  if (announced.status === 'rejected') throw announced.reason;
  await supersede(its, options, announced.value);
};

const endByUs = async (
  its: Exchanged,
  options: NegotiationOptions,
  row: NegotiationRow,
  reason: string,
): Promise<NegotiationRow> => {
  if (row.data.end !== null) return row.data.end.waits === true ? waitNoLonger(its, options, row) : row;
  if (row.process.state !== 'FINALIZED')
    throw new AppError('illegal-transition', { detail: 'the agreement is not in force: terminate the negotiation' });
  const end = await options.agreements.ends.make(row, { event: 'end', reason });
  const ended = await amendProcess(
    its,
    row,
    ({ data }): Amended =>
      data.end === null
        ? { data: { ...data, status: 'ended', end }, tasks: endTasks(row, end, its.clock.now()) }
        : undefined,
  );
  // Now, and not when the worker has time; what fails here it does again.
  await concluded(its, options, ended).catch((error: unknown) =>
    its.log.warn({ error, pid: row.pid }, 'the end of an agreement is told again later'),
  );
  return ended;
};

/** A successor that the peer has not acknowledged takes over all the same, because the owner says so. */
const waitNoLonger = async (
  its: Exchanged,
  options: NegotiationOptions,
  row: NegotiationRow,
): Promise<NegotiationRow> => {
  const current = await amendProcess(its, row, ({ data }): Amended => {
    if (data.end?.waits !== true) return undefined;
    const end = { ...data.end, waits: false };
    return { data: { ...data, status: statusAfter(end), end }, tasks: endTasks(row, end, its.clock.now()) };
  });
  await concluded(its, options, current).catch((error: unknown) =>
    its.log.warn({ error, pid: row.pid }, 'the end of an agreement is told again later'),
  );
  return current;
};

const onEnd = async (
  its: Exchanged,
  options: NegotiationOptions,
  { row, caller, parts }: { readonly row: NegotiationRow; readonly caller: Caller; readonly parts: SignedParts },
): Promise<EndAnswer> => {
  if (row.process.state === 'TERMINATED')
    throw new AppError('illegal-transition', { detail: 'the agreement never came into force' });
  if (row.process.state !== 'FINALIZED') throw new AppError('not-yet', { retryAfterSeconds: 1 });
  const kept = row.data.end;
  const isSame = kept?.artifact?.payload === parts.artifact.payload;
  const stands = (end: AgreementEnd | null): boolean => end !== null && standsAgainstOther(row.process.role, end);
  if (kept !== null && (isSame || stands(kept))) {
    if (kept.waits === true) await waitNoLonger(its, options, row);
    return answerOf(kept, isSame);
  }
  const accepted = await options.agreements.ends.accept(row, parts);
  await mustKnowSuccessor(its, row, accepted);
  const current = await amendProcess(its, row, ({ data }): Amended => {
    if (stands(data.end)) return undefined;
    const end = withoutSpentKey({ ...accepted, settled: accepted.settled || data.end?.settled === true });
    return { data: { ...data, status: statusAfter(end), end }, token: caller.token };
  });
  const { end } = current.data;
  if (end === null) throw new AppError('invariant-broken', { detail: 'an end was kept and is not there' });
  return answerOf(end, end.artifact?.payload === parts.artifact.payload);
};

/** The end as the peer may know it; one that replaces its own comes with the key to register it. */
const answerOf = ({ artifact, leafKey }: AgreementEnd, isSame: boolean): EndAnswer => {
  if (artifact === null) throw new AppError('agreement-ended');
  return isSame || leafKey === null ? { artifact } : { artifact, leafKey };
};

/** A week of minutes. */
const maxDeliveries = 10_080;

/** What becomes of an end after its delivery; a successor that the peer does not take leaves the agreement in force. */
const afterDelivery = (data: NegotiationData, sent: AgreementEnd, delivery: Delivery | undefined): NegotiationData => {
  const isTaken = delivery !== undefined && delivery.refusedWith === null;
  if (sent.waits === true && !isTaken) return { ...data, end: null };
  const end = { ...(delivery?.end ?? { ...sent, delivered: true }), waits: false };
  const settled = end.settled || data.end?.settled === true;
  return { ...data, status: statusAfter(end), end: withoutSpentKey({ ...end, settled }) };
};

const deliver = async (its: Exchanged, options: NegotiationOptions, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  const sent = row?.data.end ?? null;
  if (row === undefined || sent === null || sent.delivered) return 'done';
  const delivery = await options.agreements.ends.deliver(row, sent);
  const fields = { pid: row.pid, peer: row.peer, agreement: row.data.agreement?.digest };
  if (delivery === undefined && task.attempts < maxDeliveries) return 'later';
  if (delivery === undefined || delivery.refusedWith !== null)
    its.log.error({ ...fields, status: delivery?.refusedWith }, 'the peer does not take the end of an agreement');
  await amendProcess(
    its,
    row,
    ({ data }): Amended =>
      data.end?.artifact?.payload === sent.artifact?.payload && data.end?.delivered === false
        ? { data: afterDelivery(data, { ...sent, waits: data.end.waits === true }, delivery) }
        : undefined,
  );
  return 'done';
};

const registerAlone = async (its: Exchanged, options: NegotiationOptions, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  if (row !== undefined) await settle(its, options, row);
  return 'done';
};

const expire = async (its: Exchanged, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  if (row === undefined || row.process.state === 'VERIFIED' || its.machine.isFinal(row.process.state)) return 'done';
  if (its.clock.now() < (row.data.signedAt ?? 0) + voidAfterMs) return 'later'; // the clock went back
  if (!its.machine.maySend(row.process, 'termination')) return 'done'; // one is under way
  await sendMessage(its, { ...row, kind: 'termination' }, (current) =>
    termination(current, 'agreement-void', ['The agreement was signed and not verified within 15 minutes.']),
  );
  return 'done';
};

export const createEnding = (its: Exchanged, options: NegotiationOptions): Ending => ({
  end: async (participant, agreementId, reason) => {
    const row = await its.store.findByName(participant, 'agreement', agreementId);
    if (row?.data.agreement == null) throw new AppError('not-found');
    return endByUs(its, options, row, reason);
  },
  onEnd: (row, caller, parts) => onEnd(its, options, { row, caller, parts }),
  handlers: {
    'negotiations-void': (task) => expire(its, task),
    'negotiations-end': (task) => deliver(its, options, task),
    'negotiations-end-alone': (task) => registerAlone(its, options, task),
  },
});
