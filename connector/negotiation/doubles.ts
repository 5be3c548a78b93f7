import { isAppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { Task, TaskResult } from '../../kernel/sql/outbox.ts';
import { mayRetry } from '../exchange/rules.ts';
import { amendProcess } from '../exchange/send.ts';
import type { NegotiationRow } from './ports.ts';
import type { Exchanged } from './process.ts';
import { writeMessage } from './rules.ts';

/**
 * A provider that takes each repeat of our first request for a new negotiation (EDC, edc-interop §5): the first that we know
 * of counts, and the others are terminated, so that no second agreement comes of one wish.
 */

const topic = 'negotiations-double';
const maxTries = 12;

/** Keeps that a second negotiation runs at the provider, to be terminated. */
export const noteDouble = async (its: Exchanged, row: NegotiationRow, providerPid: string): Promise<void> => {
  const task = { topic, id: `${row.pid} ${providerPid}`, dueAt: its.clock.now() };
  await amendProcess(its, row, ({ data }) => ({ data, work: false, tasks: [task] }));
};

/** Refuses a message of a second negotiation as any other that does not fit, and sees to its end. */
export const refusingDoubles = async <Result>(
  its: Exchanged,
  incoming: {
    readonly participant: ParticipantId;
    readonly pid: string;
    readonly message: { readonly providerPid: string };
  },
  receive: () => Promise<Result>,
): Promise<Result> => {
  try {
    return await receive();
  } catch (error) {
    if (isAppError(error, 'pid-mismatch')) {
      const row = await its.store.find(incoming.participant, incoming.pid);
      const { providerPid } = incoming.message;
      if (row !== undefined && row.peerPid !== providerPid) await noteDouble(its, row, providerPid);
    }
    throw error;
  }
};

const text = ['Another negotiation of the same request is under way.'];

/** The outbox handler that terminates one at the provider. */
export const terminateDouble = async (its: Exchanged, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  const providerPid = task.id.slice(task.subject.length + 1);
  if (row === undefined || row.process.role !== 'consumer' || row.peerPid === providerPid) return 'done';
  const { participant, peer, peerBase, pid, trace } = row;
  const id = its.newId();
  const answer = await its.transport.post({
    participant,
    peer,
    url: `${peerBase}/negotiations/${encodeURIComponent(providerPid)}/termination`,
    id,
    body: { ...writeMessage.termination({ providerPid, consumerPid: pid }, 'duplicate', text), '@id': id },
    trace,
  });
  its.log.warn({ pid, peer, other: providerPid, status: answer.status }, 'a second negotiation of one request');
  return (mayRetry(answer.status, true) || answer.status === 409) && task.attempts < maxTries ? 'later' : 'done';
};
