import { z } from 'zod';
import { address, code, message, pid, reason } from './common.ts';

/** Transfer process: messages and states of DSP 2025-1 (dsp §6). */

export const transferStates = ['REQUESTED', 'STARTED', 'SUSPENDED', 'COMPLETED', 'TERMINATED'] as const;
export type TransferState = (typeof transferStates)[number];

/** Both strings: a number or boolean is no value of a property (dsp §10.10). */
const endpointProperty = z.looseObject({
  '@type': z.literal('EndpointProperty'),
  name: z.string().min(1).max(2048),
  value: z.string().max(16_384),
});

export const dataAddress = z.looseObject({
  '@type': z.literal('DataAddress'),
  endpointType: z.string().min(1).max(2048),
  endpoint: z.string().max(2048).optional(),
  endpointProperties: z.array(endpointProperty).min(1).max(100).optional(),
});
export type DataAddress = z.infer<typeof dataAddress>;

export const transferRequestMessage = message('TransferRequestMessage', {
  consumerPid: pid,
  agreementId: z.string().min(1).max(2048),
  format: z.string().min(1).max(256),
  callbackAddress: address,
  dataAddress: dataAddress.optional(),
});
export type TransferRequestMessage = z.infer<typeof transferRequestMessage>;

export const transferStartMessage = message('TransferStartMessage', {
  providerPid: pid,
  consumerPid: pid,
  dataAddress: dataAddress.optional(),
});
export type TransferStartMessage = z.infer<typeof transferStartMessage>;

const ending = { providerPid: pid, consumerPid: pid, code: code.optional(), reason: reason.min(1).optional() };

export const transferSuspensionMessage = message('TransferSuspensionMessage', ending);
export type TransferSuspensionMessage = z.infer<typeof transferSuspensionMessage>;

export const transferTerminationMessage = message('TransferTerminationMessage', ending);
export type TransferTerminationMessage = z.infer<typeof transferTerminationMessage>;

export const transferCompletionMessage = message('TransferCompletionMessage', { providerPid: pid, consumerPid: pid });
export type TransferCompletionMessage = z.infer<typeof transferCompletionMessage>;

export const transferProcess = message('TransferProcess', {
  providerPid: pid,
  consumerPid: pid,
  state: z.enum(transferStates),
});
export type TransferProcess = z.infer<typeof transferProcess>;

export type TransferMessage =
  | TransferRequestMessage
  | TransferStartMessage
  | TransferSuspensionMessage
  | TransferCompletionMessage
  | TransferTerminationMessage;

/** The value of a property of a data address, by its name. */
export const propertyOf = (its: DataAddress | undefined, name: string): string | undefined =>
  its?.endpointProperties?.find((property) => property.name === name)?.value;

/** All properties of a data address by name; of two with one name the first counts. */
export const propertiesOf = (its: DataAddress): Readonly<Record<string, string>> =>
  Object.fromEntries((its.endpointProperties ?? []).toReversed().map(({ name, value }) => [name, value]));

const edcNames = 'https://w3id.org/edc/v0.0.1/ns/';

/** Where a data address leads: EDC says it only in a property of its own (edc-interop §4). */
export const endpointOf = (its: DataAddress): string => its.endpoint ?? propertyOf(its, `${edcNames}endpoint`) ?? '';

/** A data address from names and values, in the standard's form. */
export const buildDataAddress = (
  endpointType: string,
  endpoint: string,
  properties: Readonly<Record<string, string>>,
): DataAddress => {
  const endpointProperties = Object.entries(properties).map(([name, value]) => ({
    '@type': 'EndpointProperty' as const,
    name,
    value,
  }));
  return {
    '@type': 'DataAddress',
    endpointType,
    endpoint,
    ...(endpointProperties.length === 0 ? {} : { endpointProperties }),
  };
};
