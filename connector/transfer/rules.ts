import { dspaceContext, address as httpAddress } from '../../contracts/dsp/common.ts';
import { buildDataAddress, type DataAddress, propertiesOf, type TransferState } from '../../contracts/dsp/transfer.ts';
import type { Json, JsonObject } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { PushSink, TransferRow } from './ports.ts';

/** Rules of transfers beyond the states (dsp §6), and the messages we write. */

/** The formats that an offer of this assurance is distributed in (wire §4). A push proves no possession, so none is cosigned. */
export const formatsOf = (assurance: Assurance): readonly string[] =>
  assurance === 'cosigned' ? ['StekkerHttp-PULL'] : ['HttpData-PULL', pushFormat];

export const pushFormat = 'HttpData-PUSH';
const edc = 'https://w3id.org/edc/v0.0.1/ns/';
const maxHeader = 8_192;

const withScheme = (authorization: string, authType: string): string =>
  authType.toLowerCase() === 'bearer' && !/^bearer /i.test(authorization) ? `Bearer ${authorization}` : authorization;

/** Where and how a consumer wants to be sent its data (dsp §6.2), as Stekker and as EDC write it; or what is wrong with it. */
export const sinkOf = (address: DataAddress | undefined | null): PushSink | { readonly fault: string } => {
  if (address == null) return { fault: 'is needed for a push' };
  const given = propertiesOf(address);
  const read = (name: string) => given[name] ?? given[`${edc}${name}`];
  const url = address.endpoint ?? read('endpoint') ?? read('baseUrl') ?? '';
  const method = (read('method') ?? 'POST').toUpperCase();
  const authorization = withScheme(read('authorization') ?? read('authCode') ?? '', read('authType') ?? '');
  if (!httpAddress.safeParse(url).success) return { fault: 'has no address' };
  if (method !== 'POST' && method !== 'PUT') return { fault: 'has a method that is neither POST nor PUT' };
  if (authorization.length > maxHeader || /[^\x20-\x7e]/.test(authorization))
    return { fault: 'has an authorization that is no header' };
  return { url, method, authorization };
};

/** An address of our own for one push, as Stekker and EDC read it. */
export const pushAddress = (url: string, secret: string): DataAddress =>
  buildDataAddress('HttpData', url, {
    authorization: secret,
    authType: 'bearer',
    method: 'PUT',
    [`${edc}baseUrl`]: url,
    [`${edc}method`]: 'PUT',
    [`${edc}authKey`]: 'Authorization',
    [`${edc}authCode`]: `Bearer ${secret}`,
  });

/** A consumer resumes what it suspended itself; what the provider suspended, the provider resumes (dsp §6.3). */
export const mayPeerResume = (role: 'provider' | 'consumer', suspendedBy: 'us' | 'peer' | null): boolean =>
  role === 'consumer' || suspendedBy === 'peer';

export const renewalCode = 'token-renewal';
/** A fresh address comes so long before the old one ends. */
export const renewBeforeMs = 30_000;

/** How a provider gives a fresh address in plain DSP: it suspends, and starts again (dsp §12.5). */
export const renewalStep = ({
  process,
  data,
}: Pick<TransferRow, 'process' | 'data'>):
  | { readonly do: 'start' }
  | { readonly do: 'suspend'; readonly code: string; readonly reason: readonly string[] }
  | undefined => {
  if (process.role !== 'provider' || data.renew !== true) return undefined;
  if (process.state === 'STARTED')
    return { do: 'suspend', code: renewalCode, reason: ['A fresh address follows at once.'] };
  return process.state === 'SUSPENDED' && data.suspendedBy === 'us' ? { do: 'start' } : undefined;
};

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
    terms: {
      readonly agreementId: string;
      readonly format: string;
      readonly callbackAddress: string;
      readonly dataAddress?: DataAddress | undefined;
    },
  ): JsonObject => ({
    ...frame('TransferRequestMessage'),
    consumerPid,
    agreementId: terms.agreementId,
    format: terms.format,
    callbackAddress: terms.callbackAddress,
    ...(terms.dataAddress === undefined ? {} : { dataAddress: terms.dataAddress as Json }),
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
