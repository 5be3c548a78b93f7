import { initial, type Process, type Role } from '../../contracts/dsp/process.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { traceIdOf } from '../../kernel/trace.ts';
import { commit, type ExchangeOptions, extrasOf, followed, hashOf, lookUp, type Step, withVersion } from './commit.ts';
import type { Caller, LaterTask, ProcessRow, ReceivedMessage } from './ports.ts';
import { type Body, idOf, isSettled, laterId, peerPidIn, pidsFit } from './rules.ts';

/**
 * Handlers of incoming messages: they validate, record and answer; nothing is sent here (dsp §11). What is to be sent next may
 * be recorded with the message, and goes out behind the answer.
 */

/** The answer to a message, for the routes to write. */
export interface Answer {
  readonly status: number;
  readonly body: Json;
  readonly newest: string;
}

export interface Incoming<Kind> {
  readonly participant: ParticipantId;
  readonly caller: Caller;
  readonly kind: Kind;
  readonly body: Body;
}

export interface Opening<Data> {
  readonly role: Role;
  readonly peerBase: string;
  readonly data: Data;
  readonly groups?: Readonly<Record<string, string>>;
  /** Further work for a process with this pid. */
  readonly tasks?: (pid: string) => readonly LaterTask[];
}

export interface Reaction<Data> {
  readonly data: Data;
  readonly names?: Readonly<Record<string, string>>;
  readonly groups?: Readonly<Record<string, string>>;
}

/** A message that changes nothing uses its token up all the same: a replay gets no answer. */
export const useUp = async ({ claim }: Caller): Promise<void> => {
  if (claim !== undefined && !(await claim())) throw new AppError('unauthenticated');
};

/** The stored answer of a message that was accepted before; `rewritten` when another body stands under its id. */
const findRepeat = async <State extends string, Kind extends string, Data>(
  { store }: ExchangeOptions<State, Kind, Data>,
  incoming: Incoming<Kind>,
): Promise<Answer | 'rewritten' | undefined> => {
  const id = idOf(incoming.body);
  const before = id === undefined ? undefined : await store.findReceived(incoming.participant, incoming.caller.did, id);
  if (before === undefined) return undefined;
  if (before.bodyHash !== hashOf(incoming.body)) return 'rewritten';
  await useUp(incoming.caller);
  return { status: before.status, body: before.answer, newest: before.newest };
};

/** What is remembered with an accepted message. Refusals are not: a peer may repeat the same bytes and then succeed. */
const remembered = (
  { caller, body }: Incoming<unknown>,
  answer: Answer,
): { readonly received?: ReceivedMessage; readonly token?: NonNullable<Caller['token']> } => {
  const id = idOf(body);
  return {
    ...(id === undefined
      ? {}
      : {
          received: {
            peer: caller.did,
            id,
            bodyHash: hashOf(body),
            status: answer.status,
            answer: answer.body,
            newest: answer.newest,
          },
        }),
    ...(caller.token === undefined ? {} : { token: caller.token }),
  };
};

const tried = 3;

/**
 * A message that opens a process; a repeat, by message id or by the peer's pid, gets the process there is: also when what it
 * asks for could not be had any more (dsp §12.1).
 */
export const openProcess = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  incoming: Incoming<Kind> & { readonly peerPid: string },
  prepare: () => Promise<Opening<Data>>,
): Promise<Answer> => {
  for (let attempt = 0; attempt < tried; attempt += 1) {
    const repeat = await findRepeat(its, incoming);
    if (repeat === 'rewritten') throw new AppError('message-id-reused');
    if (repeat !== undefined) return repeat;
    const name = `${incoming.caller.did} ${incoming.peerPid}`;
    const existing = await its.store.findByName(incoming.participant, 'peer', name);
    if (existing !== undefined) {
      await useUp(incoming.caller);
      return { status: 201, body: its.show(existing), newest: '' };
    }
    const opening = await prepare();
    const row = openedRow(its, incoming, opening);
    const answer = { status: 201, body: its.show(row), newest: its.newId() };
    const change = {
      row,
      ...extrasOf({ names: { peer: name }, groups: opening.groups, tasks: opening.tasks?.(row.pid) }),
      send: false,
      work: true,
      ...remembered(incoming, answer),
    };
    const saved = await commit(its, await followed(its, change));
    if (saved === 'saved') return answer;
    if (saved === 'token-used') throw new AppError('unauthenticated');
    // else the same message came twice at once: the next round answers with the other's process
  }
  throw new AppError('version-conflict');
};

const openedRow = <State extends string, Kind extends string, Data>(
  { machine, clock, newId }: ExchangeOptions<State, Kind, Data>,
  incoming: Incoming<Kind> & { readonly peerPid: string },
  { role, peerBase, data }: Opening<Data>,
): ProcessRow<State, Kind, Data> => {
  const moved = machine.transition({ role, state: initial, pending: null }, { type: 'received', kind: incoming.kind });
  if (!moved.ok) throw new AppError('illegal-transition', { detail: moved.reason });
  const now = clock.now();
  const pid = newId();
  return {
    participant: incoming.participant,
    pid,
    peer: incoming.caller.did,
    peerPid: incoming.peerPid,
    peerBase,
    process: moved.next,
    outgoing: null,
    settledPeer: idOf(incoming.body) ?? '',
    trace: incoming.caller.trace ?? traceIdOf(pid),
    data,
    createdAt: now,
    updatedAt: now,
    version: 1,
  };
};

/** What a message that was written anew changes: beside what it says, perhaps the state that it takes us back to. */
export interface Rewritten<State extends string, Data> extends Reaction<Data> {
  readonly state?: State;
}

interface Following<Kind extends string, Data, State extends string> extends Incoming<Kind> {
  readonly pid: string;
  readonly role?: Role;
  /**
   * Whether the message says once more, under another id, what brought the process to where it is. Some peers send one
   * twice, and take a refusal of the second for the end of all (edc-interop §5).
   */
  readonly isSaidAgain?: (process: Process<State, Kind>) => boolean;
  /** What it means that another process has a name that the message gives to this one. */
  readonly nameTaken?: () => AppError;
  /**
   * What a message changes that is written anew: another body under an id that was accepted, or under a new one where the state
   * allows no such message any more. Undefined refuses it.
   */
  readonly rewritten?: (row: ProcessRow<State, Kind, Data>) => Rewritten<State, Data> | undefined;
}

/**
 * Some peers write a message anew each time they send it, under the same id or another: what counts is what they sent last.
 *
 * @param refusal thrown where this message cannot be written anew.
 */
const rewrite = <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  row: ProcessRow<State, Kind, Data>,
  { body, caller, rewritten }: Following<Kind, Data, State>,
  refusal: AppError,
): Step<State, Kind, Data, Answer> => {
  const reaction = pidsFit(row, body) ? rewritten?.(row) : undefined;
  if (reaction === undefined) throw refusal;
  const { data, names, groups, state } = reaction;
  const process = state === undefined ? row.process : { ...row.process, state };
  const next = { ...row, process, data, updatedAt: its.clock.now(), version: row.version + 1 };
  const token = caller.token === undefined ? {} : { token: caller.token };
  const change = { row: next, send: false, work: process.pending === null, ...extrasOf({ names, groups }), ...token };
  return { change, result: { status: 200, body: null, newest: its.newId() } };
};

/** What needs no move: a repeat, or what is said once more. @throws AppError for what does not belong here. */
const saidBefore = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  row: ProcessRow<State, Kind, Data>,
  incoming: Following<Kind, Data, State>,
): Promise<Step<State, Kind, Data, Answer> | undefined> => {
  const repeat = await findRepeat(its, incoming);
  if (repeat === 'rewritten') return rewrite(its, row, incoming, new AppError('message-id-reused'));
  if (repeat !== undefined) return { result: repeat };
  if (!pidsFit(row, incoming.body)) throw new AppError('pid-mismatch');
  if (incoming.isSaidAgain?.(row.process) === true) {
    await useUp(incoming.caller);
    return { result: { status: 200, body: null, newest: '' } };
  }
  if (isSettled(idOf(incoming.body) ?? '', row.settledPeer))
    throw new AppError('illegal-transition', { detail: 'a later message was accepted already' });
  return undefined;
};

/** A message for a process that is there; `react` checks what it says and gives the new data. */
export const receiveMessage = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  incoming: Following<Kind, Data, State>,
  react: (row: ProcessRow<State, Kind, Data>) => Promise<Reaction<Data>> | Reaction<Data>,
): Promise<Answer> =>
  withVersion(
    its,
    async (): Promise<Step<State, Kind, Data, Answer>> => {
      const row = await lookUp(its, {
        participant: incoming.participant,
        caller: incoming.caller.did,
        pid: incoming.pid,
      });
      if (incoming.role !== undefined && row.process.role !== incoming.role) throw new AppError('not-found');
      const said = await saidBefore(its, row, incoming);
      if (said !== undefined) return said;
      const moved = its.machine.transition(row.process, { type: 'received', kind: incoming.kind });
      if (!moved.ok) return rewrite(its, row, incoming, new AppError('illegal-transition', { detail: moved.reason }));
      const { data, names, groups } = await react(row);
      const next: ProcessRow<State, Kind, Data> = {
        ...row,
        process: moved.next,
        outgoing: null,
        data,
        peerPid: row.peerPid ?? peerPidIn(row.process.role, incoming.body),
        settledPeer: laterId(row.settledPeer, idOf(incoming.body) ?? ''),
        updatedAt: its.clock.now(),
        version: row.version + 1,
      };
      const result = { status: 200, body: null, newest: its.newId() };
      const change = {
        row: next,
        send: false,
        work: true,
        ...extrasOf({ names, groups }),
        ...remembered(incoming, result),
      };
      return { change: await followed(its, change), result };
    },
    incoming.nameTaken,
  );
