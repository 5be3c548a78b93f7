import { randomUUID } from 'node:crypto';
import { type Body, type FormName, protocolContext } from './forms.ts';

/** Every message of the two protocols: how it is called, where it goes, what state it leads to, and how the kit writes it. */

export type Kind =
  | 'request'
  | 'offer'
  | 'accepted'
  | 'agreement'
  | 'verification'
  | 'finalized'
  | 'termination'
  | 'start'
  | 'suspension'
  | 'completion';
export type Protocol = 'negotiations' | 'transfers';
export type Role = 'provider' | 'consumer';

interface MessageKind {
  /** The state that both sides are in when it was acknowledged. */
  readonly state: string;
  /** Behind `/<protocol>/<pid of the receiver>`. */
  readonly path: string;
  readonly form: FormName;
  /** Who sends it. */
  readonly by: Role | 'both';
}

/** `request` stands for the counter-offer here; the first one has a path of its own and opens the process. */
export const kinds: Readonly<Record<Protocol, Readonly<Partial<Record<Kind, MessageKind>>>>> = {
  negotiations: {
    request: { state: 'REQUESTED', path: '/request', form: 'ContractRequestMessage', by: 'consumer' },
    offer: { state: 'OFFERED', path: '/offers', form: 'ContractOfferMessage', by: 'provider' },
    accepted: { state: 'ACCEPTED', path: '/events', form: 'ContractNegotiationEventMessage', by: 'consumer' },
    agreement: { state: 'AGREED', path: '/agreement', form: 'ContractAgreementMessage', by: 'provider' },
    verification: {
      state: 'VERIFIED',
      path: '/agreement/verification',
      form: 'ContractAgreementVerificationMessage',
      by: 'consumer',
    },
    finalized: { state: 'FINALIZED', path: '/events', form: 'ContractNegotiationEventMessage', by: 'provider' },
    termination: {
      state: 'TERMINATED',
      path: '/termination',
      form: 'ContractNegotiationTerminationMessage',
      by: 'both',
    },
  },
  transfers: {
    start: { state: 'STARTED', path: '/start', form: 'TransferStartMessage', by: 'both' },
    suspension: { state: 'SUSPENDED', path: '/suspension', form: 'TransferSuspensionMessage', by: 'both' },
    completion: { state: 'COMPLETED', path: '/completion', form: 'TransferCompletionMessage', by: 'both' },
    termination: { state: 'TERMINATED', path: '/termination', form: 'TransferTerminationMessage', by: 'both' },
  },
};

/** How each protocol shows a process, answers a fault, and opens. */
export const surfaces = {
  negotiations: {
    process: 'ContractNegotiation',
    error: 'ContractNegotiationError',
    opening: 'FirstContractRequestMessage',
  },
  transfers: { process: 'TransferProcess', error: 'TransferError', opening: 'TransferRequestMessage' },
} as const satisfies Record<Protocol, Record<string, FormName>>;

export const participant = 'TCK_PARTICIPANT';

/** What a case is about, of the settings. */
export interface Subject {
  readonly dataset: string;
  readonly offer: string;
  readonly agreement: string;
  readonly format: string;
}

/** The rules of everything that the kit offers, asks for and agrees to. */
const rules = { permission: [{ action: 'use' }] };

const frame = (type: string): Body => ({
  '@type': type,
  '@id': `urn:uuid:${randomUUID()}`,
  '@context': [protocolContext],
});

export const writeError = (form: FormName, pids: Body, reason: string): Body => ({
  ...frame(form),
  ...pids,
  code: 'conformance',
  reason: [reason],
});

export const writeOffer = ({ dataset, offer }: Subject): Body => ({
  '@type': 'Offer',
  '@id': offer,
  target: dataset,
  ...rules,
});

const negotiationTypes = {
  request: 'ContractRequestMessage',
  offer: 'ContractOfferMessage',
  accepted: 'ContractNegotiationEventMessage',
  agreement: 'ContractAgreementMessage',
  verification: 'ContractAgreementVerificationMessage',
  finalized: 'ContractNegotiationEventMessage',
} as const;

/** A message of the kit for a process that is there. `agentId` is the connector's participant id. */
export const writeMessage = (
  protocol: Protocol,
  kind: Kind,
  its: { readonly pids: Body; readonly subject: Subject; readonly agentId: string },
): Body => {
  const { pids, subject, agentId } = its;
  switch (kind) {
    case 'request':
    case 'offer':
      return { ...frame(negotiationTypes[kind]), ...pids, offer: writeOffer(subject) };
    case 'accepted':
    case 'finalized':
      return { ...frame(negotiationTypes[kind]), ...pids, eventType: kind.toUpperCase() };
    case 'agreement': {
      const agreement = {
        '@type': 'Agreement',
        '@id': `urn:uuid:${randomUUID()}`,
        target: subject.dataset,
        assigner: participant,
        assignee: agentId,
        timestamp: new Date().toISOString().replace('Z', '000000Z'),
        ...rules,
      };
      return { ...frame(negotiationTypes[kind]), ...pids, agreement };
    }
    case 'verification':
      return { ...frame(negotiationTypes[kind]), ...pids };
    case 'start': {
      const dataAddress = {
        '@type': 'DataAddress',
        endpointType: 'https://w3id.org/idsa/v4.1/HTTP',
        endpoint: 'http://example.com',
      };
      return { ...frame('TransferStartMessage'), ...pids, dataAddress };
    }
    case 'suspension':
      return { ...frame('TransferSuspensionMessage'), ...pids, code: '1', reason: ['the case asks for it'] };
    case 'completion':
      return { ...frame('TransferCompletionMessage'), ...pids };
    case 'termination': {
      const type = protocol === 'negotiations' ? 'ContractNegotiationTerminationMessage' : 'TransferTerminationMessage';
      return { ...frame(type), ...pids, code: '1', reason: ['the case asks for it'] };
    }
  }
};

/** The first message of a process that the kit begins as consumer. */
export const writeOpening = (
  protocol: Protocol,
  its: { readonly consumerPid: string; readonly callbackAddress: string; readonly subject: Subject },
): Body => {
  const { consumerPid, callbackAddress, subject } = its;
  return protocol === 'negotiations'
    ? { ...frame('ContractRequestMessage'), consumerPid, callbackAddress, offer: writeOffer(subject) }
    : {
        ...frame('TransferRequestMessage'),
        consumerPid,
        callbackAddress,
        agreementId: subject.agreement,
        format: subject.format,
      };
};

/** Why a message does not say what this case is about; undefined when it does. */
export const contentFault = (
  kind: Kind,
  body: Body,
  its: {
    readonly subject: Subject;
    readonly agentId: string;
    /** The provider's answer to a request, which had no `dataAddress` and so asked for a pull. */
    readonly isFirstStart: boolean;
  },
): string | undefined => {
  const { subject, agentId } = its;
  const said = (body.offer ?? body.agreement ?? {}) as Body;
  const wrong = (member: string, expected: string): string | undefined =>
    said[member] === expected ? undefined : `its ${member} is ${JSON.stringify(said[member])} and not ${expected}`;
  if (kind === 'offer' || kind === 'request') return wrong('target', subject.dataset);
  if (kind === 'accepted' || kind === 'finalized')
    return body.eventType === kind.toUpperCase() ? undefined : `its eventType is ${String(body.eventType)}`;
  if (kind === 'start')
    return its.isFirstStart && body.dataAddress === undefined ? 'a pull has no dataAddress' : undefined;
  if (kind !== 'agreement') return undefined;
  const isSame = JSON.stringify(said.permission) === JSON.stringify(rules.permission);
  return (
    wrong('target', subject.dataset) ??
    wrong('assigner', agentId) ??
    wrong('assignee', participant) ??
    (isSame && said.prohibition === undefined && said.obligation === undefined
      ? undefined
      : 'its rules are not those of the last offer')
  );
};
