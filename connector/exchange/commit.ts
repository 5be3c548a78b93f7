import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { initial, type Machine, type Role } from '../../contracts/dsp/process.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { canonicalize, type Json } from '../../contracts/json.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import type {
  LaterTask,
  PeerTransport,
  ProcessChange,
  ProcessEventNotice,
  ProcessRow,
  ProcessStore,
  SaveResult,
} from './ports.ts';
import type { Refusal } from './refusal.ts';
import type { Body } from './rules.ts';

/** A message to send: where, what, and what changes with it. */
export interface Outgoing<Data> {
  /** Behind the peer's base; `:pid` stands for the peer's pid. */
  readonly path: string;
  readonly body: Body;
  readonly data?: Data;
  readonly names?: Readonly<Record<string, string>>;
  readonly groups?: Readonly<Record<string, string>>;
  readonly tasks?: readonly LaterTask[];
}

/** What a message or an opening brings beside the row, as far as it brings something. */
export const extrasOf = ({
  names,
  groups,
  tasks,
}: {
  readonly names?: Readonly<Record<string, string>> | undefined;
  readonly groups?: Readonly<Record<string, string>> | undefined;
  readonly tasks?: readonly LaterTask[] | undefined;
}) => ({
  ...(names === undefined ? {} : { names }),
  ...(groups === undefined ? {} : { groups }),
  ...(tasks === undefined ? {} : { tasks }),
});

/** A message of ours, by what it does. */
export interface Decided<Kind extends string, Data> {
  readonly kind: Kind;
  readonly outgoing: Outgoing<Data>;
}

/** What an exchange is made of: the protocol's machine and forms, and the ports it works on. */
export interface ExchangeOptions<State extends string, Kind extends string, Data> {
  /** The path segment, and the name in logs. */
  readonly protocol: 'negotiations' | 'transfers';
  readonly machine: Machine<State, Kind>;
  readonly store: ProcessStore<State, Kind, Data>;
  readonly transport: PeerTransport;
  /**
   * What we send next, a message having been accepted, where that is known without asking anybody: it is kept in the
   * transaction of the message itself. `nothing` when the peer is to move; undefined leaves it to the owner's side.
   */
  readonly followUp?: (row: ProcessRow<State, Kind, Data>) => Promise<Decided<Kind, Data> | 'nothing' | undefined>;
  readonly clock: Clock;
  /** Ids of processes and messages, `urn:uuid:` with a UUIDv7: each is larger than those before (see the decision on settled messages). */
  readonly newId: () => string;
  readonly log: Logger;
  /** After a commit: wake the worker. */
  readonly wake: () => void;
  readonly watch: (notice: ProcessEventNotice) => void;
  /** What a process looks like to the peer: ContractNegotiation or TransferProcess. */
  readonly show: (row: ProcessRow<State, Kind, Data>) => Json;
  readonly readState: (
    body: Json | undefined,
  ) => { readonly state: State; readonly peerPid: (role: Role) => string } | undefined;
  /** What a process knows besides when an answer brought it into this state. */
  readonly reached?: (data: Data, state: State | typeof initial) => Data;
  /** What a process knows after the peer refused a message so, and the process ended by that. */
  readonly refusedWith: (data: Data, refusal: Refusal) => Data;
  /** What a process concerns, for the log: its agreement, its dataset. */
  readonly about: (data: Data) => { readonly agreement?: string | undefined; readonly dataset?: string };
  /** Hears that a repeat of our first message began a second process at the peer, and its pid there. */
  readonly doubled?: (row: ProcessRow<State, Kind, Data>, peerPid: string) => Promise<void>;
  /** The termination we send when a process cannot go on. */
  readonly terminationFor: (row: ProcessRow<State, Kind, Data>, code: string) => Outgoing<Data>;
}

/** What a line of the log calls a process: with these it is found again on both sides. */
export const namesIn = <State extends string, Kind extends string, Data>(
  { protocol, about }: Pick<ExchangeOptions<State, Kind, Data>, 'protocol' | 'about'>,
  { participant, pid, peer, peerPid, process, trace, data }: ProcessRow<State, Kind, Data>,
) => ({ protocol, participant, role: process.role, pid, peer, peerPid, trace, ...about(data) });

/** A process with a message of ours under way, and what that message brings beside it. @throws AppError `illegal-transition`. */
export const withMessage = <State extends string, Kind extends string, Data>(
  { machine, newId }: Pick<ExchangeOptions<State, Kind, Data>, 'machine' | 'newId'>,
  row: ProcessRow<State, Kind, Data>,
  { kind, outgoing }: Decided<Kind, Data>,
) => {
  const message = newId();
  const decided = machine.transition(row.process, { type: 'decided', kind, message });
  if (!decided.ok) throw new AppError('illegal-transition', { detail: decided.reason });
  const { path, body, data = row.data, ...extras } = outgoing;
  const next: ProcessRow<State, Kind, Data> = {
    ...row,
    process: decided.next,
    outgoing: { path: fillPath(path, row), body: { ...body, '@id': message } },
    data,
  };
  return { row: next, extras };
};

/**
 * The change that a message or an answer makes, and with it what we send next, where that is known at once: one commit where
 * there were two, and nobody has to be woken in between. Decided after an answer of ours has its `newest`, so that what we send
 * is later than that.
 */
export const followed = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  change: ProcessChange<State, Kind, Data>,
): Promise<ProcessChange<State, Kind, Data>> => {
  const next = await its.followUp?.(change.row);
  if (next === undefined) return change;
  if (next === 'nothing') return { ...change, work: false };
  if (!its.machine.maySend(change.row.process, next.kind)) return change;
  const { row, extras } = withMessage(its, change.row, next);
  return {
    ...change,
    row,
    send: true,
    work: false,
    names: { ...change.names, ...extras.names },
    groups: { ...change.groups, ...extras.groups },
    tasks: [...(change.tasks ?? []), ...(extras.tasks ?? [])],
  };
};

const maxConflicts = 16;

export const hashOf = (body: Json): string => toBase64Url(nodeCrypto.sha256(utf8(canonicalize(body))));

export const fillPath = (path: string, row: { readonly peerPid: string | null }): string =>
  path.replace(':pid', encodeURIComponent(row.peerPid ?? ''));

/** Saves a change, then tells whoever watches and wakes the worker. */
export const commit = async <State extends string, Kind extends string, Data>(
  its: ExchangeOptions<State, Kind, Data>,
  change: ProcessChange<State, Kind, Data>,
): Promise<Exclude<SaveResult, 'under-way'>> => {
  const result = await its.store.save(change);
  if (result !== 'saved' && result !== 'under-way') return result;
  const { participant, pid, peer, process, updatedAt } = change.row;
  const { role, state, pending } = process;
  its.watch({ protocol: its.protocol, participant, pid, role, peer, state, at: updatedAt });
  const ids = { message: pending?.message, received: change.received?.id };
  its.log.info({ ...namesIn(its, change.row), state, pending: pending?.kind, ...ids }, 'process changed');
  if (result === 'saved' && (change.send || change.work || change.tasks !== undefined)) its.wake();
  return 'saved';
};

export const mustFind = async <State extends string, Kind extends string, Data>(
  { store }: Pick<ExchangeOptions<State, Kind, Data>, 'store'>,
  participant: ParticipantId,
  pid: string,
): Promise<ProcessRow<State, Kind, Data>> => {
  const row = await store.find(participant, pid);
  if (row === undefined) throw new AppError('not-found');
  return row;
};

/** The process of a caller; a stranger's looks as if it were not there (dsp §8). */
export const lookUp = async <State extends string, Kind extends string, Data>(
  its: Pick<ExchangeOptions<State, Kind, Data>, 'store'>,
  place: { readonly participant: ParticipantId; readonly caller: Did; readonly pid: string },
): Promise<ProcessRow<State, Kind, Data>> => {
  const row = await mustFind(its, place.participant, place.pid);
  if (row.peer !== place.caller) throw new AppError('not-found');
  return row;
};

/** The same to show it: while our first message is not answered there is nothing that both sides could call by its pids. */
export const lookUpToShow = async <State extends string, Kind extends string, Data>(
  its: Pick<ExchangeOptions<State, Kind, Data>, 'store'>,
  place: { readonly participant: ParticipantId; readonly caller: Did; readonly pid: string },
): Promise<ProcessRow<State, Kind, Data>> => {
  const row = await lookUp(its, place);
  if (row.process.state === initial) throw new AppError('not-found');
  return row;
};

/** What one try of a step gives: a change to save and then the result, or a result at once. */
export type Step<State extends string, Kind extends string, Data, Result> =
  | { readonly change: ProcessChange<State, Kind, Data>; readonly result: Result }
  | { readonly change?: undefined; readonly result: Result };

const ownNameTaken = (): AppError => new AppError('invariant-broken', { detail: 'a name of this process is taken' });

/**
 * Read, decide, save; from the beginning when somebody else was first.
 *
 * @param nameTaken what it means that another process has a name of this one: a fault of ours, where we made the name.
 */
export const withVersion = async <State extends string, Kind extends string, Data, Result>(
  its: ExchangeOptions<State, Kind, Data>,
  step: () => Promise<Step<State, Kind, Data, Result>>,
  nameTaken: () => AppError = ownNameTaken,
): Promise<Result> => {
  for (let attempt = 0; attempt < maxConflicts; attempt += 1) {
    const { change, result } = await step();
    const saved = change === undefined ? 'saved' : await commit(its, change);
    if (saved === 'saved') return result;
    if (saved === 'token-used') throw new AppError('unauthenticated');
    if (saved === 'name-taken') throw nameTaken();
  }
  throw new AppError('version-conflict');
};
