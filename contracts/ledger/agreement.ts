import { z } from 'zod';
import { toBase64Url, utf8 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { type AgreementDigest, didOfKid, isDid } from '../ids.ts';
import { canonicalize, type Json } from '../json.ts';
import {
  bad,
  type Checked,
  did,
  good,
  hash32,
  hashOrNone,
  name,
  party,
  readCanonical,
  time,
  version,
} from './forms.ts';
import { type GeneralJws, type ReadJws, readJws } from './jws.ts';

/** Agreements that both sides sign, and the events that void or end them (wire §3). */

export const assurances = ['cosigned', 'plain-dsp'] as const;
export type Assurance = (typeof assurances)[number];

/** The `agreement` member of the DSP message, as sent: the ledger reads only what it needs and keeps all of it. */
const embeddedAgreement = z.looseObject({
  '@type': z.literal('Agreement'),
  '@id': name,
  target: name,
  assigner: did,
  assignee: party,
  timestamp: z.string().min(1).max(64),
});

export const agreementPayload = z
  .strictObject({
    v: version,
    type: z.literal('agreement'),
    agreement: embeddedAgreement,
    providerPid: name,
    consumerPid: name,
    provider: did,
    consumer: party,
    offers: z.array(hash32).min(1).max(64),
    price: hashOrNone,
    assurance: z.enum(assurances),
    leafKey: hash32,
    salt: hash32,
  })
  .refine((payload) => payload.provider !== payload.consumer, { path: ['consumer'], message: 'is the provider' })
  .refine((payload) => payload.assurance === 'plain-dsp' || isDid(payload.consumer), {
    path: ['consumer'],
    message: 'is no DID',
  })
  .refine((payload) => payload.agreement.assigner === payload.provider, {
    path: ['provider'],
    message: 'is not the assigner',
  })
  .refine((payload) => payload.agreement.assignee === payload.consumer, {
    path: ['consumer'],
    message: 'is not the assignee',
  });
export type AgreementPayload = z.infer<typeof agreementPayload>;

/** The text that both sign. */
export const agreementText = (payload: AgreementPayload): string => canonicalize(payload as Json);
export const readAgreement = (text: string): Checked<AgreementPayload> => readCanonical(agreementPayload, text);

/** `b64u H(payload)` of the signed text. */
export const agreementDigestOf = (crypto: Pick<Crypto, 'sha256'>, payloadText: string): AgreementDigest =>
  toBase64Url(crypto.sha256(utf8(payloadText))) as AgreementDigest;

/** `b64u H(JCS(offer as sent))` */
export const offerDigest = (crypto: Pick<Crypto, 'sha256'>, offer: Json): string =>
  toBase64Url(crypto.sha256(utf8(canonicalize(offer))));

export const agreementEvent = z.strictObject({
  v: version,
  type: z.literal('agreement-event'),
  agreementDigest: hash32,
  event: z.enum(['void', 'end']),
  effectiveAt: time,
  reason: z.string().max(1000),
  leafKey: hash32,
  salt: hash32,
});
export type AgreementEvent = z.infer<typeof agreementEvent>;

export const agreementEventText = (event: AgreementEvent): string => canonicalize(event);

/** A signed document of two parties: the JWS as read, and what it says. */
export interface SignedBy<Payload> extends ReadJws {
  readonly jws: GeneralJws;
  readonly value: Payload;
}

/** Reads an agreement artifact; signatures are not verified yet. */
export const readAgreementArtifact = (value: unknown): Checked<SignedBy<AgreementPayload>> => {
  const jws = readJws(value, 'stekker-agreement+jws');
  if (!jws.ok) return jws;
  const payload = readAgreement(jws.value.payload);
  return payload.ok ? good({ ...jws.value, jws: value as GeneralJws, value: payload.value }) : payload;
};

/** Reads an agreement event; one signature suffices for `void` and for an `end` that the agreement allows. */
export const readAgreementEvent = (value: unknown): Checked<SignedBy<AgreementEvent>> => {
  const jws = readJws(value, 'stekker-agreement-event+jws');
  if (!jws.ok) return jws;
  const payload = readCanonical(agreementEvent, jws.value.payload);
  return payload.ok ? good({ ...jws.value, jws: value as GeneralJws, value: payload.value }) : payload;
};

/** How many signatures an artifact under this assurance must have: exactly that many (wire §3). */
export const signatureCount = (assurance: Assurance): 1 | 2 => (assurance === 'cosigned' ? 2 : 1);

/**
 * Whether the signatures stand in their roles: the provider's first, then the consumer's, exactly as many as the
 * assurance asks for. Whether they hold is another question.
 */
export const checkRoles = (
  signatures: readonly { readonly kid: string }[],
  parties: { readonly provider: string; readonly consumer: string },
  assurance: Assurance,
): Checked<undefined> => {
  const expected = [parties.provider, parties.consumer].slice(0, signatureCount(assurance));
  if (signatures.length !== expected.length)
    return bad(`${signatures.length} signatures where ${assurance} has ${expected.length}`);
  const wrong = signatures.findIndex(({ kid }, index) => didOfKid(kid) !== expected[index]);
  return wrong < 0 ? good(undefined) : bad(`signature ${wrong + 1} is not by ${expected[wrong]}`);
};
