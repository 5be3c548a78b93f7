import { initial, type ProcessEvent, type Role } from '../../contracts/dsp/process.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { isJsonObject, type Json } from '../../contracts/json.ts';
import type { Task, TaskResult } from '../../kernel/sql/outbox.ts';
import { traceIdOf } from '../../kernel/trace.ts';
import {
  type ExchangeOptions,
  extrasOf,
  fillPath,
  followed,
  mustFind,
  namesIn,
  type Outgoing,
  type Step,
  withMessage,
  withVersion,
} from './commit.ts';
import type { LaterTask, PeerAnswer, ProcessRow, UsedToken } from './ports.ts';
import type { Refusal } from './refusal.ts';
import { laterId, mayRetry } from './rules.ts';

/** Decides on messages, sends them from the outbox, and feeds back what the peer answered (dsp §11). */

/** Begins a process of our own with its first message. */
export const beginProcess = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  start: {
    readonly participant: ParticipantId;
    readonly role: Role;
    readonly peer: Did;
    readonly peerBase: string;
    readonly kind: Kind;
    readonly data: Data;
  },
  write: (pid: string) => Outgoing<Data>,
): Promise<ProcessRow<State, Kind, Data>> => {
  const pid = its.newId();
  const now = its.clock.now();
  const empty: ProcessRow<State, Kind, Data> = {
    participant: start.participant,
    pid,
    peer: start.peer,
    peerPid: null,
    peerBase: start.peerBase,
    process: { role: start.role, state: initial, pending: null },
    outgoing: null,
    settledPeer: '',
    trace: traceIdOf(pid),
    data: start.data,
    createdAt: now,
    updatedAt: now,
    version: 1,
  };
  const { row, extras } = withMessage(its, empty, { kind: start.kind, outgoing: write(pid) });
  return withVersion(its, async () => ({
    change: { row, send: true, work: false, ...extrasOf(extras) },
    result: row,
  }));
};

/** Decides to send the next message. @throws AppError `illegal-transition` when the state does not allow it. */
export const sendMessage = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  place: { readonly participant: ParticipantId; readonly pid: string; readonly kind: Kind },
  write: (row: ProcessRow<State, Kind, Data>) => Outgoing<Data>,
): Promise<ProcessRow<State, Kind, Data>> =>
  withVersion(its, async () => {
    const before = await mustFind(its, place.participant, place.pid);
    const { row, extras } = withMessage(its, before, { kind: place.kind, outgoing: write(before) });
    const next = { ...row, updatedAt: its.clock.now(), version: before.version + 1 };
    return { change: { row: next, send: true, work: false, ...extrasOf(extras) }, result: next };
  });

/** New knowledge about a process, and what follows from it. */
export interface Amendment<Data> {
  readonly data: Data;
  /** Whether the owner's side should look; it does unless told otherwise. */
  readonly work?: boolean;
  readonly tasks?: readonly LaterTask[];
  readonly names?: Readonly<Record<string, string>>;
  /** The token of the caller who brought it. */
  readonly token?: UsedToken | undefined;
}

/**
 * Changes what a process knows, without a message; undefined leaves it as it is.
 *
 * @returns the process as it is now.
 */
export const amendProcess = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  place: { readonly participant: ParticipantId; readonly pid: string },
  change: (row: ProcessRow<State, Kind, Data>) => Amendment<Data> | undefined,
): Promise<ProcessRow<State, Kind, Data>> =>
  withVersion(its, async (): Promise<Step<State, Kind, Data, ProcessRow<State, Kind, Data>>> => {
    const row = await mustFind(its, place.participant, place.pid);
    const amendment = change(row);
    if (amendment === undefined) return { result: row };
    const { data, work = true, tasks, names, token } = amendment;
    const next = { ...row, data, updatedAt: its.clock.now(), version: row.version + 1 };
    const extras = { ...extrasOf({ tasks, names }), ...(token === undefined ? {} : { token }) };
    return { change: { row: next, send: false, work, ...extras }, result: next };
  });

interface Learned {
  readonly peerPid?: string;
  readonly newest?: string;
  /** The answer with which the peer refused a message. */
  readonly refusal?: Refusal;
}

/** What the process knows after an answer: a refusal that ended it is kept, so that its owner learns why. */
const dataAfter = <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  row: ProcessRow<State, Kind, Data>,
  state: State | typeof initial,
  refusal: Refusal | undefined,
): Data => {
  if (refusal !== undefined && its.machine.isFinal(state)) return its.refusedWith(row.data, refusal);
  return its.reached?.(row.data, state) ?? row.data;
};

/** The message after an answer: none, the same, or a termination that the machine decided on. */
const outgoingAfter = <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  row: ProcessRow<State, Kind, Data>,
  pending: { readonly message: string } | null,
  code: string,
): ProcessRow<State, Kind, Data>['outgoing'] => {
  if (pending === null) return null;
  if (pending.message === row.process.pending?.message) return row.outgoing;
  const { path, body } = its.terminationFor(row, code);
  return { path: fillPath(path, row), body: { ...body, '@id': pending.message } };
};

/** Feeds what came back into the machine; the message may have been overtaken meanwhile, then nothing changes. The process as it is then. */
const feed = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  place: { readonly participant: ParticipantId; readonly pid: string },
  event: ProcessEvent<State, Kind>,
  learned: Learned = {},
): Promise<ProcessRow<State, Kind, Data>> =>
  withVersion(its, async (): Promise<Step<State, Kind, Data, ProcessRow<State, Kind, Data>>> => {
    const row = await mustFind(its, place.participant, place.pid);
    const moved = its.machine.transition(row.process, event);
    if (!moved.ok || moved.next === row.process) return { result: row };
    const { pending } = moved.next;
    const next: ProcessRow<State, Kind, Data> = {
      ...row,
      process: moved.next,
      outgoing: outgoingAfter(its, row, pending, event.type),
      data: dataAfter(its, row, moved.next.state, learned.refusal),
      peerPid: row.peerPid ?? learned.peerPid ?? null,
      settledPeer: laterId(row.settledPeer, learned.newest ?? ''),
      updatedAt: its.clock.now(),
      version: row.version + 1,
    };
    const isNew = pending !== null && pending.message !== row.process.pending?.message;
    const change = { row: next, send: isNew, work: pending === null };
    return { change: pending === null ? await followed(its, change) : change, result: next };
  });

const maxTries = 12;

/** What a peer answered to a message, and how often it was tried before. */
interface Answered extends PeerAnswer {
  /** Its `@id`. */
  readonly message: string;
  readonly attempts: number;
}

const refusalOf = (
  { outgoing }: { readonly outgoing: { readonly body: Json } | null },
  answer: PeerAnswer,
): Refusal => {
  const body = outgoing?.body ?? null;
  const message = isJsonObject(body) && typeof body['@type'] === 'string' ? body['@type'] : 'message';
  return { status: answer.status, body: answer.body, message };
};

/**
 * A conflict with a state that the peer has not written down yet, although it has sent or answered what leads there (EDC
 * under load): the message is not wrong, only early (edc-interop §5).
 */
const isEarly = <State extends string, Kind extends string, Data>(
  { machine }: ExchangeOptions<State, Kind, Data>,
  { process }: ProcessRow<State, Kind, Data>,
  state: State | undefined,
  { status, attempts }: Answered,
): boolean =>
  status === 409 &&
  attempts < maxTries &&
  state !== undefined &&
  state !== process.pending?.leadsTo &&
  !machine.isFinal(state);

/** After a refusal the peer's own state tells how to go on. */
const askPeer = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  row: ProcessRow<State, Kind, Data>,
  refused: Answered,
): Promise<TaskResult> => {
  const url = `${row.peerBase}/${its.protocol}/${encodeURIComponent(row.peerPid ?? '')}`;
  const { participant, peer, trace } = row;
  const answer = await its.transport.get({ participant, peer, url, trace });
  if (mayRetry(answer.status, true)) return 'later';
  const state = answer.status === 200 ? its.readState(answer.body)?.state : undefined;
  if (isEarly(its, row, state, refused)) return 'later';
  const { message } = refused;
  const refusal = refusalOf(row, refused);
  await feed(its, row, { type: 'peer-state', message, state, termination: its.newId() }, { refusal });
  return 'done';
};

const noAnswer = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  row: ProcessRow<State, Kind, Data>,
  task: Task,
): Promise<TaskResult> => {
  if (task.attempts < maxTries) return 'later';
  await feed(its, row, { type: 'gave-up', message: task.id, termination: its.newId() });
  const after = await its.store.find(row.participant, row.pid);
  return after?.process.pending?.message === task.id ? 'later' : 'done'; // only the peer can say: go on asking
};

const answered = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  row: ProcessRow<State, Kind, Data>,
  answer: Answered,
): Promise<TaskResult> => {
  const { message } = answer;
  if (answer.status < 300) {
    const peerPid = its.readState(answer.body)?.peerPid(row.process.role);
    const after = await feed(
      its,
      row,
      { type: 'acknowledged', message },
      { newest: answer.newest, ...(peerPid === undefined ? {} : { peerPid }) },
    );
    if (peerPid !== undefined && peerPid !== after.peerPid) await its.doubled?.(after, peerPid);
    return 'done';
  }
  its.log.warn(
    { ...namesIn(its, row), message, kind: row.process.pending?.kind, status: answer.status, answer: answer.body },
    'the peer refused a message',
  );
  const refused = its.machine.transition(row.process, { type: 'refused', message });
  if (refused.ok && refused.effects.includes('ask')) return askPeer(its, row, answer);
  await feed(its, row, { type: 'refused', message }, { refusal: refusalOf(row, answer) });
  return 'done';
};

/** The outbox handler that sends a pending message. */
export const deliverMessage = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  task: Task,
): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  if (row?.process.pending?.message !== task.id || row.outgoing === null) return 'done';
  const url = `${row.peerBase}${row.outgoing.path}`;
  let answer: PeerAnswer;
  try {
    answer = await its.transport.post({
      participant: row.participant,
      peer: row.peer,
      url,
      id: task.id,
      body: row.outgoing.body,
      trace: row.trace,
    });
  } catch (error) {
    its.log.warn({ error, ...namesIn(its, row), message: task.id, attempts: task.attempts }, 'the peer did not answer');
    return noAnswer(its, row, task);
  }
  if (mayRetry(answer.status, row.process.state === initial)) return noAnswer(its, row, task);
  return answered(its, row, { ...answer, message: task.id, attempts: task.attempts });
};
