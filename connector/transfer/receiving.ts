import { withoutSlash } from '../../contracts/dsp/common.ts';
import type {
  DataAddress,
  TransferRequestMessage,
  TransferStartMessage,
  TransferSuspensionMessage,
  TransferTerminationMessage,
} from '../../contracts/dsp/transfer.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { lookUpToShow } from '../exchange/commit.ts';
import type { Caller } from '../exchange/ports.ts';
import { type Answer, type Opening, openProcess, type Reaction, receiveMessage } from '../exchange/receive.ts';
import type { Body } from '../exchange/rules.ts';
import type { TransferData, TransferRow } from './ports.ts';
import { type Exchanged, mustNotBeOver, overTasks, show, type TransferOptions, withoutAddress } from './process.ts';
import { formatsOf, mayPeerResume, pushFormat, sinkOf } from './rules.ts';

/** The messages that arrive for a transfer, and what is checked beyond the state (dsp §6). */

export interface Incoming<Message> {
  readonly participant: ParticipantId;
  readonly caller: Caller;
  readonly message: Message;
  readonly body: Body;
}
type Following<Message> = Incoming<Message> & { readonly pid: string };

export interface Receiving {
  readonly onRequest: (incoming: Incoming<TransferRequestMessage>) => Promise<Answer>;
  readonly onStart: (incoming: Following<TransferStartMessage>) => Promise<Answer>;
  readonly onSuspension: (incoming: Following<TransferSuspensionMessage>) => Promise<Answer>;
  readonly onCompletion: (incoming: Following<object>) => Promise<Answer>;
  readonly onTermination: (incoming: Following<TransferTerminationMessage>) => Promise<Answer>;
  readonly show: (participant: ParticipantId, caller: Did, pid: string) => Promise<Json>;
}

const requested = async (
  options: TransferOptions,
  incoming: Incoming<TransferRequestMessage>,
): Promise<Opening<TransferData>> => {
  const { agreementId, format, callbackAddress } = incoming.message;
  const agreement = await options.agreements.find(incoming.participant, agreementId);
  if (agreement === undefined || agreement.role !== 'provider' || agreement.peer !== incoming.caller.did)
    throw new AppError('not-found');
  if (agreement.isBeingFinalized === true) throw new AppError('not-yet', { retryAfterSeconds: 1 });
  mustNotBeOver(options, agreement);
  if (!formatsOf(agreement.assurance).includes(format)) {
    throw new AppError('format-unsupported', {
      detail: `this offer is distributed as ${formatsOf(agreement.assurance).join(', ')}`,
    });
  }
  try {
    options.checkAddress(callbackAddress);
  } catch (cause) {
    throw new AppError('callback-refused', { cause });
  }
  const dataAddress = format === pushFormat ? checkedSink(options, incoming.message.dataAddress) : null;
  const data: TransferData = { agreementId, format, dataAddress, suspendedBy: null, ending: null };
  const peerBase = withoutSlash(callbackAddress);
  const tasks = (pid: string) => overTasks(pid, agreement);
  return { role: 'provider', peerBase, data, groups: { agreement: agreementId }, tasks };
};

/** The address of a push is given by a stranger, like a call-back address (dsp §8). */
const checkedSink = (options: TransferOptions, address: DataAddress | undefined): DataAddress | null => {
  const sink = sinkOf(address);
  if ('fault' in sink) throw new AppError('body-invalid', { faults: [{ path: '/dataAddress', message: sink.fault }] });
  options.checkAddress(sink.url);
  return address ?? null;
};

const started = ({ process, data }: TransferRow, message: TransferStartMessage): Reaction<TransferData> => {
  if (process.state === 'SUSPENDED' && !mayPeerResume(process.role, data.suspendedBy)) {
    throw new AppError('illegal-transition', { detail: 'the provider suspended this transfer and resumes it itself' });
  }
  // What the suspension closed is void: a fresh address follows (dsp §12.5).
  if (process.role === 'provider') return { data: { ...data, suspendedBy: null, renew: data.format !== pushFormat } };
  if (process.state === 'REQUESTED' && message.dataAddress === undefined && data.format.endsWith('-PULL')) {
    throw new AppError('body-invalid', { faults: [{ path: '/dataAddress', message: 'is needed for a pull' }] });
  }
  return { data: { ...data, suspendedBy: null, dataAddress: message.dataAddress ?? data.dataAddress } };
};

const endedByPeer = (
  row: TransferRow,
  message: { readonly code?: string | undefined; readonly reason?: readonly Json[] | undefined },
): Reaction<TransferData> => ({
  data: {
    ...withoutAddress(row, 'ended'),
    ending: { by: 'peer', code: message.code ?? '', reason: message.reason ?? [] },
  },
});

export const createReceiving = (its: Exchanged, options: TransferOptions): Receiving => ({
  onRequest: (incoming) =>
    openProcess(its, { ...incoming, kind: 'request', peerPid: incoming.message.consumerPid }, () =>
      requested(options, incoming),
    ),
  onStart: (incoming) => receiveMessage(its, { ...incoming, kind: 'start' }, (row) => started(row, incoming.message)),
  onSuspension: (incoming) =>
    receiveMessage(
      its,
      { ...incoming, kind: 'suspension' },
      (row): Reaction<TransferData> => ({
        data: { ...withoutAddress(row, 'suspended'), suspendedBy: 'peer', renew: false },
      }),
    ),
  onCompletion: (incoming) =>
    receiveMessage(its, { ...incoming, kind: 'completion' }, (row) => ({
      data: withoutAddress(row, 'ended'),
    })),
  onTermination: (incoming) =>
    receiveMessage(its, { ...incoming, kind: 'termination' }, (row) => endedByPeer(row, incoming.message)),
  show: async (participant, caller, pid) => show(await lookUpToShow(its, { participant, caller, pid })),
});
