import { dspaceContext } from '../../contracts/dsp/common.ts';
import type { DataAddress, TransferState } from '../../contracts/dsp/transfer.ts';
import type { Json, JsonObject } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';

/** Rules of transfers beyond the states (dsp §6), and the messages we write. */

/** The formats that an offer of this assurance is distributed in (wire §4). */
export const formatsOf = (assurance: Assurance): readonly string[] =>
  assurance === 'cosigned' ? ['StekkerHttp-PULL'] : ['HttpData-PULL'];

/** A consumer resumes what it suspended itself; what the provider suspended, the provider resumes (dsp §6.3). */
export const mayPeerResume = (role: 'provider' | 'consumer', suspendedBy: 'us' | 'peer' | null): boolean =>
  role === 'consumer' || suspendedBy === 'peer';

const frame = (type: string): JsonObject => ({ '@context': [dspaceContext], '@type': type });

interface Pids {
  readonly providerPid: string;
  readonly consumerPid: string;
}

const because = (code: string, reason: readonly string[]): JsonObject => ({
  code,
  ...(reason.length === 0 ? {} : { reason: [...reason] }),
});

export const writeMessage = {
  request: (
    consumerPid: string,
    terms: { readonly agreementId: string; readonly format: string; readonly callbackAddress: string },
  ): JsonObject => ({
    ...frame('TransferRequestMessage'),
    consumerPid,
    agreementId: terms.agreementId,
    format: terms.format,
    callbackAddress: terms.callbackAddress,
  }),
  start: (pids: Pids, dataAddress: DataAddress | null): JsonObject => ({
    ...frame('TransferStartMessage'),
    ...pids,
    ...(dataAddress === null ? {} : { dataAddress: dataAddress as Json }),
  }),
  suspension: (pids: Pids, code: string, reason: readonly string[]): JsonObject => ({
    ...frame('TransferSuspensionMessage'),
    ...pids,
    ...because(code, reason),
  }),
  completion: (pids: Pids): JsonObject => ({ ...frame('TransferCompletionMessage'), ...pids }),
  termination: (pids: Pids, code: string, reason: readonly string[]): JsonObject => ({
    ...frame('TransferTerminationMessage'),
    ...pids,
    ...because(code, reason),
  }),
};

/** TransferProcess: what a transfer looks like to the peer. */
export const showTransfer = (pids: Pids, state: TransferState): JsonObject => ({
  ...frame('TransferProcess'),
  ...pids,
  state,
});
