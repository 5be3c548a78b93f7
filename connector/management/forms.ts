import { z } from '@hono/zod-openapi';
import { type Did, isDid, isPartyId } from '../../contracts/ids.ts';
import { isJsonObject, type JsonObject } from '../../contracts/json.ts';
import { assurances } from '../../contracts/ledger/agreement.ts';
import { pageQuery } from '../../kernel/http/paging.ts';
import type { NegotiationAction, NewAsset, NewOffer, Publication, TransferAction } from './ports.ts';

/** What the operator's API reads and answers. Every schema is also a part of its OpenAPI document. */

/** Any JSON object: bodies were parsed strictly before, so that what is in it is JSON. */
const jsonObject = z
  .custom<JsonObject>(isJsonObject, 'is no object')
  .openapi({ type: 'object', additionalProperties: true });

/** An identifier of somebody's choice. */
export const id = z.string().regex(/^[^\p{Cc}\p{Cs}]{1,2048}$/u, 'is empty, too long, or has control characters');
export const did = z
  .custom<Did>((value) => typeof value === 'string' && isDid(value), 'is no DID')
  .openapi({ type: 'string', example: 'did:web:connector.example' });
/** Whom the Dataspace Protocol is spoken with. */
const peer = z
  .custom<Did>((value) => typeof value === 'string' && isPartyId(value), 'is no DID')
  .openapi({ type: 'string', example: 'did:web:connector.example' });
const time = z.string().openapi({ format: 'date-time' });
const iri = z
  .string()
  .max(2048)
  .regex(/^[a-z][a-z0-9+.-]*:[^\s]+$/i, 'is no IRI such as urn:stekker:1:purpose:crisis');
/** `<application id>@<version>`, as tokens and records name it (wire §1). */
export const application = z
  .string()
  .max(512)
  .regex(/^[a-z][a-z0-9+.-]*:[^\s@]+@[^\s@]+$/i, 'is no application such as urn:stekker:1:app:flood@1.0.0');

export const byId = z.strictObject({ id });

// The owner's catalog

const upstreamUrl = z
  .string()
  .max(2048)
  .refine((text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol), 'is no http address');

const newUpstream = z.discriminatedUnion(
  'kind',
  [
    z.strictObject({
      kind: z.literal('http'),
      url: upstreamUrl,
      credential: z
        .strictObject({
          name: z.string().regex(/^[A-Za-z0-9-]{1,100}$/, 'is no header name'),
          value: z.string().min(1).max(8192),
        })
        .optional(),
    }),
    z.strictObject({ kind: z.literal('file'), path: z.string().min(1).max(4096) }),
    z.strictObject({ kind: z.literal('folder'), path: z.string().min(1).max(4096) }),
  ],
  { error: 'is none of http, file, folder' },
);

const described = {
  id: id.optional(),
  title: z.string().min(1).max(500),
  description: z.string().max(20_000).optional(),
  keywords: z.array(z.string().min(1).max(200)).max(100).optional(),
  extra: jsonObject.optional(),
  upstream: newUpstream,
};

export const newAsset = z.strictObject(described).openapi('NewAsset') satisfies z.ZodType<NewAsset>;

const upstreamView = z.union([
  z.object({
    kind: z.literal('http'),
    url: z.string(),
    credential: z.object({ name: z.string() }).nullable(),
  }),
  z.object({ kind: z.enum(['file', 'folder']), path: z.string() }),
]);

export const assetView = z
  .object({
    id: z.string(),
    title: z.string(),
    description: z.string(),
    keywords: z.array(z.string()),
    extra: jsonObject,
    upstream: upstreamView,
    createdAt: time,
    offers: z.array(z.string()).openapi({ description: 'Offers that stand.' }),
  })
  .openapi('Asset');

const assurance = z.enum(assurances);
const silence = z
  .union([z.literal('strict'), z.number().int().min(1_000).max(86_400_000)], {
    error: 'is neither strict nor a number of milliseconds from 1000',
  })
  .openapi({ description: 'What happens when the broker is silent: `strict`, or how long access goes on, in ms.' });

export const newOffer = z
  .strictObject({
    id: id.optional(),
    asset: id,
    rules: jsonObject,
    price: z.string().max(64).optional(),
    assurance: assurance.optional(),
    silence: silence.optional(),
  })
  .openapi('NewOffer') satisfies z.ZodType<NewOffer>;

export const offerView = z
  .object({
    id: z.string(),
    asset: z.string(),
    rules: jsonObject,
    assurance,
    price: z.string().nullable().openapi({ description: 'Digest of the price plan.' }),
    silence,
    createdAt: time,
    withdrawnAt: time.nullable(),
  })
  .openapi('Offer');

const planLine = z.strictObject({ unit: z.string().max(16), quantity: z.string().max(20), value: z.string().max(20) });
const planMembers = {
  currency: z.string().max(3),
  scale: z.string().max(2),
  lines: z.array(planLine).max(16),
};

export const newPricePlan = jsonObject.openapi('NewPricePlan', {
  description: 'A price plan as it is digested: `v`, `type`, `currency`, `scale`, `lines`, `notice`, `free`.',
});
const pricePlanView = z
  .object({ ...planMembers, v: z.literal(1), type: z.literal('price-plan'), notice: z.string(), free: z.boolean() })
  .openapi('PricePlan');
export const digestedPlanView = z.object({ digest: z.string(), plan: pricePlanView }).openapi('DigestedPricePlan');

export const publicationMembers = {
  ...described,
  mediaType: z
    .string()
    .max(200)
    .regex(/^[a-z]+\/[a-z0-9.+-]+$/i, 'is no media type')
    .optional(),
  policy: z.union(
    [
      z.strictObject({
        template: z.string().max(100),
        parameters: z.record(z.string().max(100), z.string().max(4096)).optional(),
      }),
      z.strictObject({ rules: jsonObject }),
    ],
    { error: 'is neither {template, parameters} nor {rules}' },
  ),
  price: z.strictObject({ ...planMembers, notice: z.string().max(1000).optional() }).optional(),
  assurance: assurance.optional(),
  silence: silence.optional(),
  replace: z.boolean().optional(),
};

export const publication = z.strictObject(publicationMembers).openapi('Publication') satisfies z.ZodType<Publication>;

export const publishedView = z
  .object({
    asset: assetView,
    offer: offerView,
    price: digestedPlanView.nullable(),
    withdrawn: z.array(z.string()),
  })
  .openapi('Published');

const text = z.object({ nl: z.string(), en: z.string() }).openapi('Text');

export const templateView = z
  .object({
    name: z.string(),
    title: text,
    about: text,
    parameters: z.record(z.string(), z.object({ about: text, example: z.string(), list: z.boolean() })),
  })
  .openapi('PolicyTemplate');

// Other catalogs

const priced = { assurance, price: pricePlanView.nullable() };

const foundOfferView = z.object({ id: z.string(), rules: jsonObject, priceDigest: z.string().nullable(), ...priced });

const datasetMembers = {
  id: z.string(),
  title: z.string(),
  description: z.string(),
  keywords: z.array(z.string()),
  formats: z.array(z.string()),
};

export const foundDatasetView = z
  .object({
    ...datasetMembers,
    offers: z.array(foundOfferView),
    unreadable: z.array(z.object({ id: z.string(), why: z.string() })),
  })
  .openapi('FoundDataset');

export const catalogQuery = z.strictObject({ provider: peer, after: z.string().max(4096).default('') });
export const datasetQuery = z.strictObject({ provider: peer });

export const searchQuery = z.strictObject({
  q: z.string().max(300).default(''),
  purpose: iri.optional(),
  application: application.optional(),
  after: z.string().max(4096).default(''),
});

export const judgedView = z
  .object({
    ...datasetMembers,
    provider: z.object({ did: z.string(), name: z.string() }),
    harvestedAt: z.string(),
    offers: z
      .array(
        foundOfferView.extend({
          verdict: z.enum(['fits', 'depends', 'refused']),
          reasons: z.array(text),
          missing: z.array(z.string()),
        }),
      )
      .openapi({ description: 'The one that fits best first.' }),
    unreadable: z.array(z.object({ id: z.string(), why: z.string() })),
  })
  .openapi('JudgedDataset');

// Processes

const endingView = z.object({ by: z.enum(['us', 'peer']), code: z.string(), reasons: z.array(z.string()) });

const processMembers = {
  id: z.string(),
  peer: z.string(),
  peerPid: z.string().nullable(),
  role: z.enum(['provider', 'consumer']),
  state: z.string(),
  pending: z.string().nullable().openapi({ description: 'The message that is under way.' }),
  ending: endingView.nullable(),
  createdAt: time,
  updatedAt: time,
};

const agreementStatus = z.enum(['none', 'signed', 'in-force', 'ended', 'superseded', 'void']);

export const negotiationView = z
  .object({
    ...processMembers,
    dataset: z.string(),
    offer: jsonObject.openapi({ description: 'The last offer, as it was sent.' }),
    offerBy: z.enum(['provider', 'consumer']),
    assurance,
    price: z.string().nullable(),
    mandate: z
      .union([z.object({ least: jsonObject, prices: z.array(z.string()) }), z.literal('operator')])
      .nullable()
      .openapi({ description: 'What our side may agree to without asking.' }),
    agreementId: z.string().nullable(),
    amends: z.string().nullable().openapi({ description: 'The agreement that its agreement takes the place of.' }),
    status: agreementStatus,
  })
  .openapi('Negotiation');

const mandate = z
  .strictObject({
    least: jsonObject.openapi({
      description: 'Rules: what must be permitted at least, and what may be forbidden or asked in return.',
    }),
    prices: z
      .array(z.string().max(64))
      .max(100)
      .optional()
      .openapi({ description: 'Digests of the price plans that may be agreed to; by default the one of the offer.' }),
  })
  .openapi('Mandate');
const ask = jsonObject.openapi({ description: 'The rules to ask for; by default those of the offer.' });

export const newNegotiation = z
  .strictObject({
    provider: peer.optional().openapi({ description: 'Ask this provider for an offer of its catalog.' }),
    consumer: peer.optional().openapi({ description: 'Or make this consumer an offer of our own.' }),
    dataset: id,
    offer: z
      .union([id, foundOfferView], { error: 'is neither the id of an offer nor an offer as the catalog shows it' })
      .optional()
      .openapi({
        description:
          'By its id it is looked up in the catalog as that is now. As it was shown it is asked for as it was: nothing is read again, and the provider refuses what no longer stands.',
      }),
    ask: ask.optional(),
    mandate: z
      .union([mandate, z.literal('operator')], { error: 'is neither a mandate nor operator' })
      .optional()
      .openapi({ description: 'What may be agreed to without asking; `operator` leaves every answer to a person.' }),
  })
  .refine((its) => (its.provider === undefined) !== (its.consumer === undefined), {
    path: ['provider'],
    message: 'exactly one of provider and consumer is there',
  })
  .refine((its) => its.consumer === undefined || typeof its.offer === 'string', {
    path: ['offer'],
    message: 'is the id of an offer when a consumer is named',
  })
  .refine((its) => its.consumer === undefined || (its.ask === undefined && its.mandate === undefined), {
    path: ['consumer'],
    message: 'takes neither ask nor mandate',
  })
  .openapi('NewNegotiation');

const because = {
  code: z.string().min(1).max(256).default('operator'),
  reason: z.array(z.string().min(1).max(1000)).max(20).default([]),
};

export const negotiationDecision = z
  .discriminatedUnion(
    'do',
    [
      z.strictObject({ do: z.enum(['agree', 'accept', 'verify', 'finalize']) }),
      z.strictObject({ do: z.enum(['offer', 'request']), rules: jsonObject }),
      z.strictObject({ do: z.literal('terminate'), ...because }),
    ],
    { error: 'is none of agree, accept, verify, finalize, offer, request, terminate' },
  )
  .openapi('NegotiationDecision') satisfies z.ZodType<NegotiationAction>;

export const transferView = z
  .object({
    ...processMembers,
    agreementId: z.string(),
    format: z.string(),
    endpoint: z.string().nullable(),
    received: z
      .object({ bytes: z.number(), sha256: z.string(), mediaType: z.string() })
      .nullable()
      .openapi({ description: 'What was pushed to us; its bytes are at `/v1/transfers/{id}/content`.' }),
  })
  .openapi('Transfer');

const push = z
  .boolean()
  .default(false)
  .openapi({ description: 'Have the provider push it to us (plain-dsp alone), instead of fetching it.' });

export const newTransfer = z.strictObject({ agreementId: id, push }).openapi('NewTransfer');

export const transferDecision = z
  .discriminatedUnion(
    'do',
    [
      z.strictObject({ do: z.enum(['start', 'complete']) }),
      z.strictObject({ do: z.enum(['suspend', 'terminate']), ...because }),
    ],
    { error: 'is none of start, complete, suspend, terminate' },
  )
  .openapi('TransferDecision') satisfies z.ZodType<TransferAction>;

export const agreementView = z
  .object({
    id: z.string(),
    digest: z.string(),
    negotiation: z.string(),
    role: z.enum(['provider', 'consumer']),
    peer: z.string(),
    dataset: z.string(),
    assurance,
    price: z.string().nullable(),
    status: agreementStatus,
    agreement: jsonObject,
    createdAt: time,
  })
  .openapi('Agreement');

export const endOfAgreement = z.strictObject({ reason: z.string().max(1000).default('') }).openapi('EndOfAgreement');

export const newAmendment = z
  .strictObject({
    offer: id.optional().openapi({ description: 'The offer that takes its place; a provider must name it.' }),
    ask: ask.optional(),
    mandate: z
      .union([mandate, z.literal('operator')], { error: 'is neither a mandate nor operator' })
      .optional()
      .openapi({ description: 'What may be agreed to without asking; `operator` leaves every answer to a person.' }),
  })
  .openapi('NewAmendment');

/** Below the patience of the command line, so that an answer comes before it hangs up. */
const maxWaitSeconds = 55;

export const newAcquisition = z
  .strictObject({
    dataset: id,
    provider: peer.optional(),
    offer: id.optional(),
    purpose: iri.optional(),
    application: application.optional(),
    push,
    ask: ask.optional(),
    mandate: mandate
      .optional()
      .openapi({ description: 'What may be agreed to where the provider offers something else.' }),
    timeoutSeconds: z.number().int().min(1).max(maxWaitSeconds).optional(),
  })
  .openapi('NewAcquisition');

export const acquiredView = z
  .object({
    provider: z.string(),
    dataset: z.string(),
    agreementId: z.string(),
    agreementDigest: z.string(),
    transfer: z.string(),
    dataUrl: z.string(),
    reused: z.boolean(),
  })
  .openapi('Acquisition');

// Identity

export const newApplication = z.strictObject({ application }).openapi('NewApplication');
export const applicationView = z.object({ application: z.string(), createdAt: time }).openapi('Application');
export const applicationKeyView = z
  .object({ application: z.string(), key: z.string().openapi({ description: 'Shown once.' }) })
  .openapi('ApplicationKey');
export const byApplication = z.strictObject({ application });

export const newMembership = z.strictObject({ code: z.string().min(1).max(512) }).openapi('NewMembership');
export const membershipView = z.object({ broker: z.string(), member: z.boolean() }).openapi('Membership');

export const credentialView = z
  .object({
    id: z.string(),
    type: z.string(),
    issuer: z.string(),
    validFrom: z.string(),
    validUntil: z.string(),
    subject: jsonObject,
  })
  .openapi('Credential');

export const newCredentialRequest = z
  .strictObject({ issuer: did, type: z.string().regex(/^[A-Za-z0-9]{1,100}$/, 'is no type of credential') })
  .openapi('NewCredentialRequest');
export const credentialRequestView = z
  .object({
    id: z.string(),
    issuer: z.string(),
    type: z.string(),
    state: z.enum(['open', 'received', 'refused']),
    reason: z.string(),
    requestedAt: time,
  })
  .openapi('CredentialRequest');

// Evidence

export const usageQuery = pageQuery.extend({ agreement: id.optional() });

export const usageView = z
  .object({
    role: z.enum(['provider', 'consumer']),
    agreementId: z.string(),
    agreementDigest: z.string(),
    peer: z.string(),
    dataset: z.string(),
    application: z.string(),
    purpose: z.string(),
    accesses: z.number().int(),
    bytes: z.number().int(),
    units: z.record(z.string(), z.string()),
    currency: z.string(),
    scale: z.string(),
    amount: z.string(),
  })
  .openapi('UsageLine');

const withheld = z.enum(['context', 'sums', 'context,sums']).optional();
export const receiptQuery = z.strictObject({ withhold: withheld });
export const byRequest = z.strictObject({ request: z.uuid('is no request id') });
export const packedQuery = z.strictObject({ agreement: id, withhold: withheld });
export const packedView = z
  .object({
    items: z.array(z.string()).openapi({ description: 'The text of one file each; they verify byte for byte.' }),
  })
  .openapi('PackedReceipts');
export const receiptView = jsonObject;

export const statusView = z
  .object({
    did: z.string(),
    name: z.string(),
    publicUrl: z.string(),
    dataUrl: z.string(),
    gatewayUrl: z.string(),
    broker: z.string().nullable(),
    member: z.boolean(),
    troubles: z.array(z.string()).openapi({ description: 'Why nothing would be served now.' }),
  })
  .openapi('Status');
