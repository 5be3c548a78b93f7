import { type TransferState, transferProcess } from '../../contracts/dsp/transfer.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { ExchangeOptions, Outgoing } from '../exchange/commit.ts';
import type { LaterTask } from '../exchange/ports.ts';
import type { TransferKind } from './machine.ts';
import type {
  Agreements,
  DataPlane,
  Pusher,
  PushInbox,
  TransferAgreement,
  TransferData,
  TransferDecisions,
  TransferRow,
  TransferStore,
} from './ports.ts';
import { showTransfer, writeMessage } from './rules.ts';

/** What receiving and deciding share. */

export type Exchanged = ExchangeOptions<TransferState, TransferKind, TransferData>;

export interface TransferOptions extends Pick<Exchanged, 'transport' | 'clock' | 'newId' | 'log' | 'wake' | 'watch'> {
  readonly store: TransferStore;
  readonly agreements: Agreements;
  readonly dataPlane: DataPlane;
  readonly pusher: Pusher;
  readonly pushInbox: PushInbox;
  /** A random id of this process, never used before. */
  readonly holder: string;
  readonly decisions: TransferDecisions;
  readonly self: (participant: ParticipantId) => { readonly did: Did; readonly base: string };
  /** @throws AppError when we may not call this address. */
  readonly checkAddress: (url: string) => void;
}

/** @throws AppError `agreement-ended` when nothing can be transferred under an agreement any more. */
export const mustNotBeOver = (
  { clock }: Pick<TransferOptions, 'clock'>,
  { isInForce, overAfter }: Pick<TransferAgreement, 'isInForce' | 'overAfter'>,
): void => {
  if (!isInForce || (overAfter !== undefined && clock.now() > overAfter)) throw new AppError('agreement-ended');
};

/** The end of a transfer whose agreement has a term. */
export const overTasks = (pid: string, { overAfter }: Pick<TransferAgreement, 'overAfter'>): readonly LaterTask[] =>
  overAfter === undefined ? [] : [{ topic: 'transfers-over', id: pid, dueAt: overAfter + 1 }];

export const pidsOf = (row: TransferRow) =>
  row.process.role === 'provider'
    ? { providerPid: row.pid, consumerPid: row.peerPid ?? '' }
    : { providerPid: row.peerPid ?? '', consumerPid: row.pid };

export const show = (row: TransferRow): Json =>
  showTransfer(pidsOf(row), row.process.state === 'INITIAL' ? 'REQUESTED' : row.process.state);

export const readState: Exchanged['readState'] = (body) => {
  const parsed = transferProcess.safeParse(body);
  if (!parsed.success) return undefined;
  const { state, providerPid, consumerPid } = parsed.data;
  return { state, peerPid: (role) => (role === 'provider' ? consumerPid : providerPid) };
};

/** An address opens or names something with a secret: it is kept no longer than it is of use, and a consumer's not while suspended. */
export const withoutAddress = ({ process, data }: TransferRow, next: 'ended' | 'suspended'): TransferData =>
  next === 'ended' || process.role === 'consumer' ? { ...data, dataAddress: null } : data;

export const termination = (row: TransferRow, code: string, reason: readonly string[]): Outgoing<TransferData> => ({
  path: '/transfers/:pid/termination',
  body: writeMessage.termination(pidsOf(row), code, reason),
  data: { ...withoutAddress(row, 'ended'), ending: { by: 'us', code, reason: [...reason] } },
});
