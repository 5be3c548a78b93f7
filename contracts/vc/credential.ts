import { z } from 'zod';
import type { Did } from '../ids.ts';
import { isDid } from '../ids.ts';
import { parsePeerTime } from '../time.ts';

/** Credentials of our own (wire §8): Verifiable Credentials 2.0, one canonical JSON for both forms. */

export const credentialsContext = 'https://www.w3.org/ns/credentials/v2';
/** Our terms; the document is pinned in the product and never fetched. */
export const stekkerContext = 'urn:stekker:1:credentials';

/** Each kind of credential that we issue and rely on. */
export type CredentialType = 'MembershipCredential' | 'ApplicationAccreditationCredential';
export type StatusPurpose = 'revocation' | 'suspension';

const did = z.string().refine(isDid, 'is no DID');
const iri = z
  .string()
  .max(2048)
  .regex(/^[a-z][a-z0-9+.-]*:[^\s<>"{}|\\^`]+$/i, 'is no IRI');
const dateTime = z.string().refine((text) => parsePeerTime(text) !== undefined, 'is no time of RFC 3339');
const words = z.array(z.string().min(1).max(100)).min(1).max(32);

export const statusEntry = z.strictObject({
  id: iri.optional(),
  type: z.literal('BitstringStatusListEntry'),
  statusPurpose: z.enum(['revocation', 'suspension']),
  statusListIndex: z.string().regex(/^(0|[1-9]\d{0,9})$/, 'is no plain decimal'),
  statusListCredential: z.url({ protocol: /^https?$/ }).max(2048),
});
export type StatusEntry = z.infer<typeof statusEntry>;

const frame = {
  '@context': z.tuple([z.literal(credentialsContext), z.literal(stekkerContext)]),
  id: iri,
  issuer: did,
  validFrom: dateTime,
  validUntil: dateTime,
  /** One entry for revocation and one for suspension. */
  credentialStatus: z
    .array(statusEntry)
    .length(2)
    .refine((entries) => new Set(entries.map((entry) => entry.statusPurpose)).size === 2, 'needs both purposes'),
};

export const membershipSubject = z.strictObject({ id: did, role: words, memberOf: did });

export const accreditationSubject = z.strictObject({
  id: did,
  application: z.strictObject({ id: iri, version: z.string().min(1).max(100), digest: z.string().min(1).max(200) }),
  purposes: z.array(iri).min(1).max(100),
  criteria: z.strictObject({ id: iri, version: z.string().min(1).max(100) }),
  accreditor: did,
  level: z.string().min(1).max(100).optional(),
});

export const membershipCredential = z.strictObject({
  ...frame,
  type: z.tuple([z.literal('VerifiableCredential'), z.literal('MembershipCredential')]),
  credentialSubject: membershipSubject,
});
export const accreditationCredential = z.strictObject({
  ...frame,
  type: z.tuple([z.literal('VerifiableCredential'), z.literal('ApplicationAccreditationCredential')]),
  credentialSubject: accreditationSubject,
});

/** Any credential that we know; another type is refused, not ignored. */
export const credential = z.union([membershipCredential, accreditationCredential]);
export type Credential = z.infer<typeof credential>;
export type CredentialSubject = Credential['credentialSubject'];

export const typeOf = (value: Credential): CredentialType => value.type[1];

/** The credential that carries a status list. */
export const statusListCredential = z.strictObject({
  '@context': z.tuple([z.literal(credentialsContext)]),
  id: z.url().max(2048),
  type: z.tuple([z.literal('VerifiableCredential'), z.literal('BitstringStatusListCredential')]),
  issuer: did,
  validFrom: dateTime,
  validUntil: dateTime,
  credentialSubject: z.strictObject({
    id: z.string().max(2100),
    type: z.literal('BitstringStatusList'),
    statusPurpose: z.enum(['revocation', 'suspension']),
    encodedList: z.string().min(1).max(1_500_000),
  }),
});
export type StatusListCredential = z.infer<typeof statusListCredential>;

export interface CredentialParts {
  readonly id: string;
  readonly issuer: Did;
  readonly type: CredentialType;
  readonly subject: CredentialSubject;
  readonly validFrom: string;
  readonly validUntil: string;
  readonly status: readonly StatusEntry[];
}

/** Puts a credential together. @throws ZodError when the parts do not make one of its type. */
export const buildCredential = (parts: CredentialParts): Credential =>
  credential.parse({
    '@context': [credentialsContext, stekkerContext],
    id: parts.id,
    type: ['VerifiableCredential', parts.type],
    issuer: parts.issuer,
    validFrom: parts.validFrom,
    validUntil: parts.validUntil,
    credentialSubject: parts.subject,
    credentialStatus: parts.status,
  });

const ref = (term: string) => ({ '@id': `urn:stekker:1:${term}`, '@type': '@id' });

/** Our JSON-LD context: every term protected, references typed, nothing caught by a `@vocab`. */
export const stekkerContextDocument = {
  '@context': {
    '@protected': true,
    MembershipCredential: 'urn:stekker:1:MembershipCredential',
    ApplicationAccreditationCredential: 'urn:stekker:1:ApplicationAccreditationCredential',
    role: { '@id': 'urn:stekker:1:role', '@container': '@set' },
    memberOf: ref('memberOf'),
    application: ref('application'),
    version: 'urn:stekker:1:version',
    digest: 'urn:stekker:1:digest',
    purposes: { ...ref('purposes'), '@container': '@set' },
    criteria: ref('criteria'),
    accreditor: ref('accreditor'),
    level: 'urn:stekker:1:level',
  },
} as const;

/** What a credential proves, as plain facts for the policy engine. */
export interface CredentialFacts {
  /** Ids of all credentials that these facts rest on; one of them revoked voids them. */
  readonly credentials: readonly string[];
  /** The earliest moment, ms, at which one of them ends. */
  readonly validUntil: number;
  readonly memberships: readonly { readonly memberOf: string; readonly roles: readonly string[] }[];
  readonly accreditations: readonly {
    readonly application: { readonly id: string; readonly version: string; readonly digest: string };
    readonly purposes: readonly string[];
    readonly accreditor: string;
    readonly level: string | undefined;
  }[];
}

/** The facts of verified credentials. */
export const factsOf = (credentials: readonly Credential[]): CredentialFacts => ({
  credentials: credentials.map(({ id }) => id),
  validUntil: Math.min(Number.MAX_SAFE_INTEGER, ...credentials.map(({ validUntil }) => parsePeerTime(validUntil) ?? 0)),
  memberships: credentials.flatMap((one) => {
    const read = membershipSubject.safeParse(one.credentialSubject);
    return read.success ? [{ memberOf: read.data.memberOf, roles: read.data.role }] : [];
  }),
  accreditations: credentials.flatMap((one) => {
    const read = accreditationSubject.safeParse(one.credentialSubject);
    if (!read.success) return [];
    const { application, purposes, accreditor, level } = read.data;
    return [{ application, purposes, accreditor, level }];
  }),
});
