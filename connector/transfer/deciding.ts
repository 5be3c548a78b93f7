import { withoutSlash } from '../../contracts/dsp/common.ts';
import type { DataAddress } from '../../contracts/dsp/transfer.ts';
import { AppError, isAppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { Task, TaskResult } from '../../kernel/sql/outbox.ts';
import { mustFind, type Outgoing } from '../exchange/commit.ts';
import type { LaterTask } from '../exchange/ports.ts';
import { amendProcess, beginProcess, deliverMessage, sendMessage } from '../exchange/send.ts';
import type { TransferKind } from './machine.ts';
import type { ReceivedPush, TransferData, TransferDecision, TransferRow } from './ports.ts';
import {
  type Exchanged,
  mustNotBeOver,
  overTasks,
  pidsOf,
  type TransferOptions,
  termination,
  withoutAddress,
} from './process.ts';
import { createPushing, type Pushing } from './pushing.ts';
import { pushFormat, renewalCode, renewalStep, renewBeforeMs, writeMessage } from './rules.ts';

/** What we decide about a transfer, and send. */

export type Action = Exclude<TransferDecision, { readonly do: 'wait' }>;

export interface TransferTerms {
  readonly participant: ParticipantId;
  readonly agreementId: string;
  readonly format: string;
  readonly providerBase: string;
}

export interface Deciding {
  /** Consumer: asks for a transfer under an agreement. */
  readonly request: (terms: TransferTerms) => Promise<TransferRow>;
  readonly decide: (participant: ParticipantId, pid: string, action: Action) => Promise<TransferRow>;
  readonly find: (participant: ParticipantId, pid: string) => Promise<TransferRow>;
  /** Consumer: a push came and was kept. */
  readonly received: (participant: ParticipantId, pid: string, push: ReceivedPush) => Promise<void>;
  /** The agreement ended: no access any more, and the peer hears it for each transfer (dsp §12.3). Bears repeats. */
  readonly endUnder: (
    participant: ParticipantId,
    agreementId: string,
    why: { readonly code: string; readonly reason: readonly string[] },
  ) => Promise<void>;
  /** In order of pid, at most `limit`, behind `after`. */
  readonly list: (
    participant: ParticipantId,
    page: { readonly after?: string; readonly limit: number },
  ) => Promise<readonly TransferRow[]>;
  readonly handlers: {
    readonly transfers: (task: Task) => Promise<TaskResult>;
    readonly 'transfers-work': (task: Task) => Promise<TaskResult>;
    /** Addresses that end soon. */
    readonly 'transfers-renew': (task: Task) => Promise<TaskResult>;
    /** Ends what runs when the term of its agreement is over, whether or not the peer notices. */
    readonly 'transfers-over': (task: Task) => Promise<TaskResult>;
  };
}

const kinds: Readonly<Record<Action['do'], TransferKind>> = {
  start: 'start',
  complete: 'completion',
  suspend: 'suspension',
  terminate: 'termination',
};

/** What a start opens: the address, and how long it is good. */
interface Opened {
  readonly address: DataAddress;
  readonly renewAt: number | null;
}

const renewTask = ({ pid, version }: TransferRow, dueAt: number): LaterTask => ({
  topic: 'transfers-renew',
  id: `${pid} ${version}`,
  dueAt,
});

const started = (row: TransferRow, opened: Opened | null): Outgoing<TransferData> => {
  // It would be refused, and that would end what goes on by itself.
  if (row.process.role === 'consumer' && row.data.suspendedBy === 'peer')
    throw new AppError('illegal-transition', { detail: 'the provider suspended this transfer and resumes it itself' });
  const at = opened?.renewAt ?? null;
  const task = at === null ? undefined : renewTask(row, at);
  const { renewTask: _before, ...data } = row.data;
  return {
    path: '/transfers/:pid/start',
    body: writeMessage.start(pidsOf(row), opened?.address ?? null),
    data: { ...data, suspendedBy: null, renew: false, ...(task === undefined ? {} : { renewTask: task.id }) },
    ...(task === undefined ? {} : { tasks: [task] }),
  };
};

const outgoingFor = (row: TransferRow, action: Action, opened: Opened | null): Outgoing<TransferData> => {
  const pids = pidsOf(row);
  switch (action.do) {
    case 'start':
      return started(row, opened);
    case 'complete':
      return {
        path: '/transfers/:pid/completion',
        body: writeMessage.completion(pids),
        data: withoutAddress(row, 'ended'),
      };
    case 'suspend':
      return {
        path: '/transfers/:pid/suspension',
        body: writeMessage.suspension(pids, action.code, action.reason),
        // Who suspends for another reason means it: nothing starts again by itself.
        data: {
          ...withoutAddress(row, 'suspended'),
          suspendedBy: 'us',
          renew: row.data.renew === true && action.code === renewalCode,
        },
      };
    case 'terminate':
      return termination(row, action.code, action.reason);
  }
};

const agreementOf = async (options: TransferOptions, row: TransferRow) => {
  const agreement = await options.agreements.find(row.participant, row.data.agreementId);
  if (agreement === undefined || !agreement.isInForce) throw new AppError('agreement-ended');
  return agreement;
};

/** When it returns, nothing is served and nothing is brought. */
const closeData = async (options: TransferOptions, row: TransferRow): Promise<void> => {
  options.pusher.stop(row);
  await options.dataPlane.close(row);
};

/** A push has nothing to open, and needs the agreement all the same. */
const openData = async (its: Exchanged, options: TransferOptions, row: TransferRow): Promise<Opened | null> => {
  const agreement = await agreementOf(options, row);
  if (row.data.format === pushFormat) return null;
  const lifetime = options.dataPlane.lifetimeMs(agreement);
  const renewAt = lifetime === null ? null : its.clock.now() + lifetime - renewBeforeMs;
  return { address: await options.dataPlane.open(row, agreement), renewAt };
};

/** An address that ends soon is renewed, once nothing is served under it that this would cut. */
const renew = async (its: Exchanged, options: TransferOptions, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  if (row?.data.renewTask !== task.id || row.process.state !== 'STARTED') return 'done';
  if (row.process.pending !== null || options.dataPlane.isBusy(row)) return 'later';
  await amendProcess(its, row, ({ process, data }) =>
    process.state === 'STARTED' && data.renewTask === task.id ? { data: { ...data, renew: true } } : undefined,
  );
  return 'done';
};

/** A provider opens the data plane before it says so, and closes it before it says that. */
const perform = async (
  its: Exchanged,
  options: TransferOptions,
  row: TransferRow,
  action: Action,
): Promise<TransferRow> => {
  const isProvider = row.process.role === 'provider';
  if (action.do === 'start' && !its.machine.maySend(row.process, 'start')) throw new AppError('illegal-transition');
  const opened = isProvider && action.do === 'start' ? await openData(its, options, row) : null;
  if (isProvider && action.do !== 'start') await closeData(options, row);
  return sendMessage(its, { ...row, kind: kinds[action.do] }, (current) => outgoingFor(current, action, opened));
};

const pageSize = 100;

const endOne = async (
  its: Exchanged,
  options: TransferOptions,
  row: TransferRow,
  why: { readonly code: string; readonly reason: readonly string[] },
): Promise<void> => {
  if (its.machine.isFinal(row.process.state)) return;
  if (row.process.role === 'provider') await closeData(options, row);
  if (!its.machine.maySend(row.process, 'termination')) return; // a message under way ends it as well
  try {
    await perform(its, options, row, { do: 'terminate', ...why });
  } catch (error) {
    if (!isAppError(error, 'illegal-transition')) throw error;
    its.log.info({ pid: row.pid, error }, 'a transfer ended by itself');
  }
};

const isOver = { code: 'agreement-ended', reason: ['The term of the agreement is over.'] };

const over = async (its: Exchanged, options: TransferOptions, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  if (row === undefined) return 'done';
  const agreement = await options.agreements.find(row.participant, row.data.agreementId);
  if (agreement?.overAfter !== undefined && its.clock.now() <= agreement.overAfter) return 'later'; // the clock went back
  await endOne(its, options, row, isOver);
  return 'done';
};

const endUnder = async (
  its: Exchanged,
  options: TransferOptions,
  of: { readonly participant: ParticipantId; readonly agreementId: string },
  why: { readonly code: string; readonly reason: readonly string[] },
): Promise<void> => {
  const group = { name: 'agreement', value: of.agreementId };
  for (let after = ''; ; ) {
    const rows = await its.store.listGroup(of.participant, group, { after, limit: pageSize });
    for (const row of rows) await endOne(its, options, row, why);
    const last = rows.at(-1);
    if (last === undefined || rows.length < pageSize) return;
    after = last.pid;
  }
};

const isClosed = (state: string): boolean => state === 'SUSPENDED' || state === 'COMPLETED' || state === 'TERMINATED';

/** After each change, from the outbox: it runs at least once. */
const work = async (its: Exchanged, options: TransferOptions, pushing: Pushing, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  if (row === undefined || row.process.pending !== null) return 'done';
  if (row.process.role === 'provider' && isClosed(row.process.state)) await closeData(options, row);
  if (its.machine.isFinal(row.process.state)) return 'done';
  const decision = renewalStep(row) ?? (await options.decisions.next(row));
  if (decision.do === 'wait') return pushing.look(row);
  try {
    await perform(its, options, row, decision);
  } catch (error) {
    if (isAppError(error, 'agreement-ended')) {
      await perform(its, options, row, { do: 'terminate', code: error.code, reason: [error.title] });
    } else if (!isAppError(error, 'illegal-transition')) throw error;
    its.log.info({ pid: row.pid, decision: decision.do, error }, 'a decision could not be carried out');
  }
  return 'done';
};

export const createDeciding = (its: Exchanged, options: TransferOptions): Deciding => {
  const pushing = createPushing(its, options, (row, action) => perform(its, options, row, action));
  return {
    request: async ({ participant, agreementId, format, providerBase }) => {
      const agreement = await options.agreements.find(participant, agreementId);
      if (agreement === undefined || agreement.role !== 'consumer') throw new AppError('not-found');
      mustNotBeOver(options, agreement);
      options.checkAddress(providerBase);
      const known: TransferData = { agreementId, format, dataAddress: null, suspendedBy: null, ending: null };
      const start = {
        participant,
        role: 'consumer',
        peer: agreement.peer,
        peerBase: withoutSlash(providerBase),
        kind: 'request',
        data: known,
      } as const;
      const callbackAddress = options.self(participant).base;
      return beginProcess(its, start, (pid) => {
        const inbox = format === pushFormat ? options.pushInbox.open(participant, pid) : undefined;
        const terms = { agreementId, format, callbackAddress, dataAddress: inbox?.address };
        return {
          path: '/transfers/request',
          body: writeMessage.request(pid, terms),
          ...(inbox === undefined
            ? {}
            : { data: { ...known, inbox: { secretHash: inbox.secretHash, received: null } } }),
          groups: { agreement: agreementId },
          tasks: overTasks(pid, agreement),
        };
      });
    },
    decide: async (participant, pid, action) => perform(its, options, await mustFind(its, participant, pid), action),
    find: (participant, pid) => mustFind(its, participant, pid),
    received: async (participant, pid, received) => {
      await amendProcess(its, { participant, pid }, ({ data }) =>
        data.inbox == null ? undefined : { data: { ...data, inbox: { ...data.inbox, received } }, work: false },
      );
    },
    endUnder: (participant, agreementId, why) => endUnder(its, options, { participant, agreementId }, why),
    list: (participant, page) => its.store.list(participant, page),
    handlers: {
      transfers: (task) => deliverMessage(its, task),
      'transfers-work': (task) => work(its, options, pushing, task),
      'transfers-renew': (task) => renew(its, options, task),
      'transfers-over': (task) => over(its, options, task),
    },
  };
};
