import { z } from 'zod';

/**
 * The forms of the Dataspace Protocol 2025-1, written down once more from the standard alone: what a connector writes is
 * held against these, not against its own schemas. Unknown members are free, as the standard's schemas have it.
 */

export const protocolContext = 'https://w3id.org/dspace/2025/1/context.jsonld';

const text = z.string().min(1);
const list = <Item extends z.ZodType>(item: Item) => z.array(item).min(1, 'is empty: it is to be left out');

/** An object of this type: `@type` is one bare word. */
const typed = <Type extends string, Shape extends z.ZodRawShape>(type: Type, shape: Shape) =>
  z.looseObject({ '@type': z.literal(type), ...shape });

/** The same as a message or answer of its own: with a list of contexts, the protocol's among them. */
const framed = <Type extends string, Shape extends z.ZodRawShape>(type: Type, shape: Shape) =>
  typed(type, {
    '@context': z.array(z.string()).refine((all) => all.includes(protocolContext), `does not name ${protocolContext}`),
    '@id': text.optional(),
    ...shape,
  });

const operators = [
  'eq',
  'gt',
  'gteq',
  'hasPart',
  'isA',
  'isAllOf',
  'isAnyOf',
  'isNoneOf',
  'isPartOf',
  'lt',
  'lteq',
  'term-lteq',
  'neq',
] as const;

const comparison = z.looseObject({
  leftOperand: text,
  operator: z.enum(operators),
  rightOperand: z.union([z.string(), z.array(z.json()), z.record(z.string(), z.json())], 'is a number or a boolean'),
});
type Constraint =
  | z.infer<typeof comparison>
  | { readonly and?: unknown; readonly or?: unknown; readonly xone?: unknown; readonly andSequence?: unknown };
const constraint: z.ZodType<Constraint> = z.lazy(() => z.union([comparison, logical]));
const logical = z
  .looseObject({
    and: list(constraint).optional(),
    or: list(constraint).optional(),
    xone: list(constraint).optional(),
    andSequence: list(constraint).optional(),
  })
  .refine((its) => its.and ?? its.or ?? its.xone ?? its.andSequence, 'is no constraint');

const rule = z
  .looseObject({ action: text, constraint: list(constraint).optional() })
  .refine((its) => !('target' in its), 'has a target: the policy around it has it')
  .refine((its) => !('duty' in its), 'has a duty');

const rules = {
  profile: z.union([z.string(), z.array(z.string())], 'is neither a name nor a list of names').optional(),
  permission: list(rule).optional(),
  prohibition: list(rule).optional(),
  obligation: list(rule).optional(),
};
const hasRules = (policy: { readonly permission?: unknown; readonly prohibition?: unknown }): boolean =>
  policy.permission !== undefined || policy.prohibition !== undefined;
const noRules = 'has neither permission nor prohibition';

const messageOffer = typed('Offer', {
  '@id': text,
  target: text,
  assigner: text.optional(),
  assignee: text.optional(),
  ...rules,
}).refine(hasRules, noRules);

/** `xsd:dateTime`. */
const dateTime = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$/;

const agreement = typed('Agreement', {
  '@id': text,
  target: text,
  assigner: text,
  assignee: text,
  timestamp: z.string().regex(dateTime, 'is no xsd:dateTime'),
  ...rules,
}).refine(hasRules, noRules);

const pids = { providerPid: text, consumerPid: text };
const because = { code: text.optional(), reason: list(z.json()).optional() };
const callback = z.string().regex(/^https?:\/\/./, 'is no address');

const catalogOffer = z
  .looseObject({ '@type': z.literal('Offer').optional(), '@id': text, ...rules })
  .refine(hasRules, noRules)
  .refine((offer) => !('target' in offer), 'has a target: the dataset around it is it');
const dataService = typed('DataService', { '@id': text, endpointURL: text });
const distribution = typed('Distribution', {
  format: text,
  accessService: z.union([text, dataService], 'is neither an id nor one DataService'),
});
const dataset = { '@id': text, hasPolicy: list(catalogOffer), distribution: list(distribution) };

const hasNoPolicy = (catalog: object): boolean => !('hasPolicy' in catalog);
const ownPolicy = 'has a policy of its own';
/** A catalog may hold catalogs; only the outermost names its participant. */
const innerCatalog: z.ZodType<object> = z.lazy(() =>
  typed('Catalog', { '@id': text, ...catalogMembers }).refine(hasNoPolicy, ownPolicy),
);
const catalogMembers = {
  service: list(dataService).optional(),
  dataset: list(typed('Dataset', dataset)).optional(),
  distribution: list(distribution).optional(),
  catalog: list(innerCatalog).optional(),
};

const dataAddress = typed('DataAddress', {
  endpointType: text,
  endpoint: text.optional(),
  endpointProperties: list(typed('EndpointProperty', { name: text, value: z.string() })).optional(),
});

const negotiationStates = [
  'REQUESTED',
  'OFFERED',
  'ACCEPTED',
  'AGREED',
  'VERIFIED',
  'FINALIZED',
  'TERMINATED',
] as const;
const transferStates = ['REQUESTED', 'STARTED', 'SUSPENDED', 'COMPLETED', 'TERMINATED'] as const;

/** Documents and messages, by `@type`; a first request differs from a counter-offer. */
const forms = {
  Versions: z
    .looseObject({
      protocolVersions: list(
        z.looseObject({
          version: text,
          path: z.string().startsWith('/', 'does not begin with /'),
          binding: z.literal('HTTPS'),
          auth: z.looseObject({ protocol: text, version: text, profile: z.array(z.string()).optional() }).optional(),
          serviceId: z.string().optional(),
          identifierType: z.string().optional(),
        }),
      ),
    })
    .refine((its) => !('@context' in its), 'has a @context: it is plain JSON'),
  Catalog: framed('Catalog', { '@id': text, participantId: text, ...catalogMembers }).refine(hasNoPolicy, ownPolicy),
  Dataset: framed('Dataset', dataset),
  CatalogError: framed('CatalogError', { code: text.optional(), reason: z.array(z.json()).optional() }),

  FirstContractRequestMessage: framed('ContractRequestMessage', {
    consumerPid: text,
    callbackAddress: callback,
    offer: messageOffer,
  }).refine((its) => !('providerPid' in its), 'has a callbackAddress and a providerPid'),
  ContractRequestMessage: framed('ContractRequestMessage', { ...pids, offer: messageOffer }).refine(
    (its) => !('callbackAddress' in its),
    'has a callbackAddress and a providerPid',
  ),
  ContractOfferMessage: framed('ContractOfferMessage', { ...pids, offer: messageOffer }).refine(
    (its) => !('callbackAddress' in its),
    'has a callbackAddress and a consumerPid',
  ),
  ContractAgreementMessage: framed('ContractAgreementMessage', { ...pids, agreement }),
  ContractAgreementVerificationMessage: framed('ContractAgreementVerificationMessage', pids),
  ContractNegotiationEventMessage: framed('ContractNegotiationEventMessage', {
    ...pids,
    eventType: z.enum(['ACCEPTED', 'FINALIZED']),
  }),
  ContractNegotiationTerminationMessage: framed('ContractNegotiationTerminationMessage', { ...pids, ...because }),
  ContractNegotiation: framed('ContractNegotiation', { ...pids, state: z.enum(negotiationStates) }),
  ContractNegotiationError: framed('ContractNegotiationError', { ...pids, ...because }),

  TransferRequestMessage: framed('TransferRequestMessage', {
    consumerPid: text,
    agreementId: text,
    format: text,
    callbackAddress: callback,
    dataAddress: dataAddress.optional(),
  }),
  TransferStartMessage: framed('TransferStartMessage', { ...pids, dataAddress: dataAddress.optional() }),
  TransferSuspensionMessage: framed('TransferSuspensionMessage', { ...pids, ...because }),
  TransferCompletionMessage: framed('TransferCompletionMessage', pids),
  TransferTerminationMessage: framed('TransferTerminationMessage', { ...pids, ...because }),
  TransferProcess: framed('TransferProcess', { ...pids, state: z.enum(transferStates) }),
  TransferError: framed('TransferError', { ...pids, ...because }),
} as const;

export type FormName = keyof typeof forms;

/** Any JSON object: what came, before or after its form was checked. */
export type Body = { readonly [member: string]: unknown };

const sentenceOf = ({ path, message }: z.core.$ZodIssue): string =>
  `${path.length === 0 ? 'it' : path.join('/')}: ${message}`;

const contextFault = (value: unknown, known: readonly string[]): string | undefined => {
  const contexts = typeof value === 'object' && value !== null ? (value as Body)['@context'] : undefined;
  const unknown = Array.isArray(contexts)
    ? contexts.filter((one) => one !== protocolContext && !known.includes(one))
    : [];
  return unknown.length === 0 ? undefined : `it names contexts that nobody knows: ${unknown.join(' ')}`;
};

/** What is wrong with the form of a value, in one line; undefined when nothing is. */
export const formFault = (name: FormName, value: unknown, knownContexts: readonly string[]): string | undefined => {
  const read = forms[name].safeParse(value);
  return read.success ? contextFault(value, knownContexts) : read.error.issues.map(sentenceOf).join('; ');
};
