import { z } from 'zod';
import { isDid } from '../ids.ts';

/** Messages of the Decentralized Claims Protocol 1.0.1 (dcp §5, §6). Unknown members are ignored; ours are complete. */

export const dcpContext = 'https://w3id.org/dspace-dcp/v1.0/dcp.jsonld';
/** The profile of what we issue and present: VC 2.0, Bitstring Status List, enveloped with JOSE (dcp §8). */
export const jwtProfile = 'vc20-bssl/jwt';

const context = z.array(z.string()).refine((contexts) => contexts.includes(dcpContext), {
  message: `must be a list that names ${dcpContext}`,
});
const did = z.string().refine(isDid, 'is no DID');
const id = z.string().min(1).max(512);
const maxItems = 32;

const message = <Type extends string, Shape extends z.ZodRawShape>(type: Type, shape: Shape) =>
  z.looseObject({ '@context': context, type: z.literal(type), ...shape });

export const presentationQueryMessage = message('PresentationQueryMessage', {
  scope: z.array(z.string().max(1024)).max(maxItems).optional(),
  presentationDefinition: z.unknown().optional(),
});
export type PresentationQueryMessage = z.infer<typeof presentationQueryMessage>;

export const presentationResponseMessage = message('PresentationResponseMessage', {
  presentation: z.array(z.union([z.string().max(131_072), z.looseObject({})])).max(8),
});

export const credentialMessage = message('CredentialMessage', {
  issuerPid: id,
  holderPid: id,
  status: z.enum(['ISSUED', 'REJECTED'], { error: 'is neither ISSUED nor REJECTED' }),
  credentials: z
    .array(z.looseObject({ credentialType: id, payload: z.string().min(1).max(65_536), format: z.string().max(64) }))
    .max(maxItems)
    .optional(),
  rejectionReason: z.string().max(1024).optional(),
});
export type CredentialMessage = z.infer<typeof credentialMessage>;

const credentialObject = z.looseObject({ id, type: z.literal('CredentialObject').optional() });

export const credentialOfferMessage = message('CredentialOfferMessage', {
  issuer: did,
  credentials: z.array(credentialObject).min(1).max(maxItems),
});

export const credentialRequestMessage = message('CredentialRequestMessage', {
  holderPid: id,
  credentials: z.array(z.looseObject({ id })).min(1).max(maxItems),
});
export type CredentialRequestMessage = z.infer<typeof credentialRequestMessage>;

export const credentialStatus = message('CredentialStatus', {
  issuerPid: id,
  holderPid: id,
  status: z.enum(['RECEIVED', 'REJECTED', 'ISSUED']),
});

export const issuerMetadata = message('IssuerMetadata', {
  issuer: did,
  credentialsSupported: z.array(z.looseObject({ id, credentialType: id, profile: z.string() })).max(100),
});

/** The frame of a message of ours. */
export const dcpMessage = <Body extends object>(type: string, body: Body) => ({
  '@context': [dcpContext],
  type,
  ...body,
});
