import { z } from 'zod';
import { address, code, message, messageAgreement, messageOffer, pid, reason } from './common.ts';

/** Contract negotiation: messages and states of DSP 2025-1 (dsp §5). */

export const negotiationStates = [
  'REQUESTED',
  'OFFERED',
  'ACCEPTED',
  'AGREED',
  'VERIFIED',
  'FINALIZED',
  'TERMINATED',
] as const;
export type NegotiationState = (typeof negotiationStates)[number];

const exactlyOne = (first: string, second: string) => ({
  check: (value: Readonly<Record<string, unknown>>) => (value[first] === undefined) !== (value[second] === undefined),
  message: `must have exactly one of ${first} and ${second}`,
});
const requestAddressing = exactlyOne('callbackAddress', 'providerPid');
const offerAddressing = exactlyOne('callbackAddress', 'consumerPid');

export const contractRequestMessage = message('ContractRequestMessage', {
  consumerPid: pid,
  providerPid: pid.optional(),
  callbackAddress: address.optional(),
  offer: messageOffer,
}).refine(requestAddressing.check, { message: requestAddressing.message });
export type ContractRequestMessage = z.infer<typeof contractRequestMessage>;

export const contractOfferMessage = message('ContractOfferMessage', {
  providerPid: pid,
  consumerPid: pid.optional(),
  callbackAddress: address.optional(),
  offer: messageOffer,
}).refine(offerAddressing.check, { message: offerAddressing.message });
export type ContractOfferMessage = z.infer<typeof contractOfferMessage>;

export const contractAgreementMessage = message('ContractAgreementMessage', {
  providerPid: pid,
  consumerPid: pid,
  agreement: messageAgreement,
});
export type ContractAgreementMessage = z.infer<typeof contractAgreementMessage>;

export const contractAgreementVerificationMessage = message('ContractAgreementVerificationMessage', {
  providerPid: pid,
  consumerPid: pid,
});
export type ContractAgreementVerificationMessage = z.infer<typeof contractAgreementVerificationMessage>;

export const contractNegotiationEventMessage = message('ContractNegotiationEventMessage', {
  providerPid: pid,
  consumerPid: pid,
  eventType: z.enum(['ACCEPTED', 'FINALIZED'], { error: 'is no event of a negotiation' }),
});
export type ContractNegotiationEventMessage = z.infer<typeof contractNegotiationEventMessage>;

export const contractNegotiationTerminationMessage = message('ContractNegotiationTerminationMessage', {
  providerPid: pid,
  consumerPid: pid,
  code: code.optional(),
  reason: reason.min(1).optional(),
});
export type ContractNegotiationTerminationMessage = z.infer<typeof contractNegotiationTerminationMessage>;

export const contractNegotiation = message('ContractNegotiation', {
  providerPid: pid,
  consumerPid: pid,
  state: z.enum(negotiationStates),
});
export type ContractNegotiation = z.infer<typeof contractNegotiation>;

export type NegotiationMessage =
  | ContractRequestMessage
  | ContractOfferMessage
  | ContractAgreementMessage
  | ContractAgreementVerificationMessage
  | ContractNegotiationEventMessage
  | ContractNegotiationTerminationMessage;
