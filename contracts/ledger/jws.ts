import { z } from 'zod';
import { fromBase64Url, orNothing, textOf, toBase64Url, utf8 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { canonicalize } from '../json.ts';
import { bad, base64Url, type Checked, check, good, isEd25519Spki, isP256Spki, readCanonical } from './forms.ts';

/**
 * General JWS (RFC 7515 §7.2.1) over canonical JSON, as the ledger uses it: each signature has its own protected header
 * of exactly `alg`, `kid` and `typ`; nothing is unprotected; each signature is verified by itself.
 */

/** The `typ` of each of our signed artifacts. */
export type JwsType =
  | 'stekker-agreement+jws'
  | 'stekker-agreement-event+jws'
  | 'stekker-usage-statement+jws'
  | 'stekker-statement-refusal+jws'
  | 'stekker-key-event+jws'
  | 'stekker-log-promise+jws'
  | 'stekker-event+jws';

export const generalJws = z.strictObject({
  payload: base64Url,
  signatures: z
    .array(z.strictObject({ protected: base64Url, signature: base64Url }))
    .min(1)
    .max(2),
});
export type GeneralJws = z.infer<typeof generalJws>;

const protectedHeader = z.strictObject({
  alg: z.enum(['Ed25519', 'ES256'], { error: 'is no algorithm of the ledger' }),
  kid: z.string().min(1).max(512),
  typ: z.string(),
});

/** One signature of a JWS, header read, not yet verified. */
export interface JwsSignature {
  readonly alg: 'Ed25519' | 'ES256';
  readonly kid: string;
  readonly signingInput: Uint8Array;
  readonly signature: Uint8Array;
}

export interface ReadJws {
  /** The signed text, as it was signed. */
  readonly payload: string;
  readonly signatures: readonly JwsSignature[];
}

/** The protected header of one signature, as it stands in the JWS. */
export const encodeProtected = (kid: string, typ: JwsType, alg: 'Ed25519' | 'ES256' = 'Ed25519'): string =>
  toBase64Url(utf8(canonicalize({ alg, kid, typ })));

/** The bytes that one signature covers. */
export const signingInput = (protectedPart: string, payload: string): Uint8Array =>
  utf8(`${protectedPart}.${toBase64Url(utf8(payload))}`);

/** Puts payload and signatures together, in the order given. */
export const assembleJws = (
  payload: string,
  signatures: readonly { readonly protected: string; readonly signature: Uint8Array }[],
): GeneralJws => ({
  payload: toBase64Url(utf8(payload)),
  signatures: signatures.map((one) => ({ protected: one.protected, signature: toBase64Url(one.signature) })),
});

/** The bytes of the artifact `A`: JCS of the JWS. */
export const jwsText = (jws: GeneralJws): string => canonicalize(jws);

type JwsPart = GeneralJws['signatures'][number];

const readSignature = (part: JwsPart, payload: string, typ: JwsType): Checked<JwsSignature> => {
  const read = readCanonical(protectedHeader, textOf(orNothing(fromBase64Url(part.protected))) ?? '');
  if (!read.ok) return bad(`a protected header ${read.reason}`);
  if (read.value.typ !== typ) return bad(`typ is ${read.value.typ} and not ${typ}`);
  const { alg, kid } = read.value;
  const signature = orNothing(fromBase64Url(part.signature));
  return good({ alg, kid, signature, signingInput: utf8(`${part.protected}.${payload}`) });
};

/** Reads a JWS of the type asked for, without verifying it. */
export const readJws = (value: unknown, typ: JwsType): Checked<ReadJws> => {
  const parsed = check(generalJws, value);
  if (!parsed.ok) return parsed;
  const payload = textOf(orNothing(fromBase64Url(parsed.value.payload)));
  if (payload === undefined) return bad('the payload is not UTF-8');
  const signatures: JwsSignature[] = [];
  for (const part of parsed.value.signatures) {
    const signature = readSignature(part, parsed.value.payload, typ);
    if (!signature.ok) return signature;
    signatures.push(signature.value);
  }
  return good({ payload, signatures });
};

/** Whether one signature is good under a key; the key's kind must be the one the algorithm asks for. */
export const verifySignature = (crypto: Crypto, signature: JwsSignature, spki: Uint8Array): boolean => {
  const fits = signature.alg === 'Ed25519' ? isEd25519Spki(spki) : isP256Spki(spki);
  return (
    fits &&
    signature.signature.length === 64 &&
    crypto.verify(signature.alg, spki, signature.signingInput, signature.signature)
  );
};
