import type { ParticipantId } from '../../../contracts/ids.ts';
import type {
  Page,
  ProcessChange,
  ProcessRow,
  ProcessStore,
  ReceivedMessage,
  SaveResult,
} from '../../exchange/ports.ts';

interface MemoryProcessStore<State extends string, Kind extends string, Data> extends ProcessStore<State, Kind, Data> {
  /** The tasks that were asked for, in order. */
  readonly tasks: {
    readonly topic: string;
    readonly id: string;
    readonly participant: string;
    readonly subject: string;
  }[];
}

/** Processes in memory, for simulations and tests: the same promises as SQL, as long as the program runs. */
export const createMemoryProcessStore = <State extends string, Kind extends string, Data>(
  protocol: string,
): MemoryProcessStore<State, Kind, Data> => {
  type Row = ProcessRow<State, Kind, Data>;
  const rows = new Map<string, Row>();
  const names = new Map<string, string>();
  const groups = new Set<string>();
  const received = new Map<string, ReceivedMessage>();
  const tokens = new Set<string>();
  const tasks: MemoryProcessStore<State, Kind, Data>['tasks'] = [];
  const key = (...parts: readonly string[]) => JSON.stringify(parts);

  const refusal = (change: ProcessChange<State, Kind, Data>): Exclude<SaveResult, 'saved'> | undefined => {
    const { row, token } = change;
    const have = rows.get(key(row.participant, row.pid));
    if (token !== undefined && tokens.has(key(token.issuer, token.jti))) return 'token-used';
    if ((have?.version ?? 0) !== row.version - 1) return 'conflict';
    const taken = Object.entries(change.names ?? {}).some(
      ([name, value]) => (names.get(key(row.participant, name, value)) ?? row.pid) !== row.pid,
    );
    if (taken) return 'name-taken';
    const again =
      change.received !== undefined && received.has(key(row.participant, change.received.peer, change.received.id));
    return again ? 'conflict' : undefined;
  };

  const save = (change: ProcessChange<State, Kind, Data>): SaveResult => {
    const refused = refusal(change);
    if (refused !== undefined) return refused;
    const { row, token } = change;
    const { participant, pid } = row;
    rows.set(key(participant, pid), structuredClone(row));
    if (token !== undefined) tokens.add(key(token.issuer, token.jti));
    for (const [name, value] of Object.entries(change.names ?? {})) names.set(key(participant, name, value), pid);
    for (const [name, value] of Object.entries(change.groups ?? {})) groups.add(key(participant, name, value, pid));
    if (change.received !== undefined)
      received.set(key(participant, change.received.peer, change.received.id), change.received);
    putTasks(change);
    return 'saved';
  };

  const putTasks = ({ row, send, work, tasks: later = [] }: ProcessChange<State, Kind, Data>): void => {
    const { participant, pid } = row;
    const message = row.process.pending?.message;
    if (send && message !== undefined) tasks.push({ topic: protocol, id: message, participant, subject: pid });
    if (work) tasks.push({ topic: `${protocol}-work`, id: `${pid} ${row.version}`, participant, subject: pid });
    for (const { topic, id } of later) tasks.push({ topic, id, participant, subject: pid });
  };

  const paged = (participant: ParticipantId, { after, limit }: Page, isWanted: (row: Row) => boolean): Row[] =>
    [...rows.values()]
      .filter((row) => row.participant === participant && row.pid > (after ?? '') && isWanted(row))
      .sort((a, b) => (a.pid < b.pid ? -1 : 1))
      .slice(0, limit);
  const find = (participant: ParticipantId, pid: string): Row | undefined => rows.get(key(participant, pid));
  return {
    tasks,
    find: async (participant, pid) => find(participant, pid),
    findByName: async (participant, name, value) => {
      const pid = names.get(key(participant, name, value));
      return pid === undefined ? undefined : find(participant, pid);
    },
    list: async (participant, page) => paged(participant, page, () => true),
    listGroup: async (participant, { name, value }, page) =>
      paged(participant, page, ({ pid }) => groups.has(key(participant, name, value, pid))),
    findReceived: async (participant, peer, id) => received.get(key(participant, peer, id)),
    save: async (change) => save(change),
  };
};
