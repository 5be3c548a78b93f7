import { constants, createPublicKey, type KeyObject, verify } from 'node:crypto';
import { compactVerify } from 'jose';
import { z } from 'zod';
import { fromBase64Url, toBase64Url, utf8 } from '../contracts/bytes.ts';
import { isJsonObject, type Json, parseJson } from '../contracts/json.ts';
import type { PublicJwk, SigningKey } from './keys.ts';

/**
 * Compact JWS with JSON claims (RFC 7515, RFC 7519), read strictly. The algorithm is never taken from the token alone: it
 * must be the one that fits the key (credentials §3). `verifyJwt` is for tokens, of which every message brings one;
 * credentials and presentations are verified by jose, behind the same strict reading.
 */

const algorithms = ['ES256', 'ES384', 'EdDSA', 'Ed25519', 'RS256', 'PS256'] as const;
type Algorithm = (typeof algorithms)[number];

/** A protected header: an asymmetric algorithm, and none of the members that bring keys along. */
const header = z
  .looseObject({
    alg: z.enum(algorithms),
    kid: z.string().min(1).max(512).optional(),
    typ: z.string().max(100).optional(),
  })
  .refine((value) => !['jku', 'x5u', 'jwk', 'x5c', 'crit', 'b64', 'zip', 'enc'].some((name) => name in value));

export interface ReadJwt {
  readonly alg: Algorithm;
  readonly kid: string | undefined;
  readonly typ: string | undefined;
  readonly claims: { readonly [name: string]: Json };
  /** All of it, as it came. */
  readonly text: string;
  /** What was signed, and the signature. */
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

const maxDepth = 16;

const part = (text: string | undefined, maxBytes: number): Json | undefined => {
  const bytes = fromBase64Url(text ?? '');
  if (bytes === undefined) return undefined;
  try {
    return parseJson(bytes, { maxBytes, maxDepth });
  } catch {
    return undefined;
  }
};

/** Reads a JWT without verifying it; undefined when it is none, too large, or has a header that we never accept. */
export const readJwt = (text: string, maxBytes = 16_384): ReadJwt | undefined => {
  if (text.length > maxBytes) return undefined;
  const parts = text.split('.');
  if (parts.length !== 3) return undefined;
  const read = header.safeParse(part(parts[0], 4096));
  const claims = part(parts[1], maxBytes);
  const signature = fromBase64Url(parts[2] ?? '');
  if (!read.success || !isJsonObject(claims) || signature === undefined) return undefined;
  const { alg, kid, typ } = read.data;
  return { alg, kid, typ, claims, text, signature, signed: utf8(`${parts[0]}.${parts[1]}`) };
};

/** Signs claims. */
export const signJwt = (
  key: Pick<SigningKey, 'kid' | 'alg' | 'sign'>,
  typ: string,
  claims: { readonly [name: string]: unknown },
): string => {
  const encode = (value: unknown) => toBase64Url(utf8(JSON.stringify(value)));
  const input = `${encode({ alg: key.alg, kid: key.kid, typ })}.${encode(claims)}`;
  return `${input}.${toBase64Url(key.sign(utf8(input)))}`;
};

const minRsaBits = 2048;

const fits = (alg: Algorithm, key: KeyObject): boolean => {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  switch (alg) {
    case 'ES256':
      return namedCurve === 'prime256v1';
    case 'ES384':
      return namedCurve === 'secp384r1';
    case 'EdDSA':
    case 'Ed25519':
      return key.asymmetricKeyType === 'ed25519';
    case 'RS256':
    case 'PS256':
      return key.asymmetricKeyType === 'rsa' && (modulusLength ?? 0) >= minRsaBits;
  }
};

/** By the object, as documents that are kept hand it out, and by what it says. */
const known = new WeakMap<PublicJwk, KeyObject>();
const cache = new Map<string, KeyObject>();
const cacheLimit = 4096;

const importAnew = (jwk: PublicJwk): KeyObject | undefined => {
  const id = JSON.stringify([jwk.kty, jwk.crv, jwk.x, jwk.y, jwk.n, jwk.e]);
  const same = cache.get(id);
  if (same !== undefined) return same;
  try {
    const { kty, crv, x, y, n, e } = jwk;
    const clean = Object.fromEntries(
      Object.entries({ kty, crv, x, y, n, e }).filter(([, value]) => value !== undefined),
    );
    const key = createPublicKey({ key: clean as Record<string, string>, format: 'jwk' });
    if (cache.size >= cacheLimit) cache.clear();
    cache.set(id, key);
    return key;
  } catch {
    return undefined;
  }
};

/** A public key out of a JWK, imported once; undefined when it is none. */
export const importJwk = (jwk: PublicJwk): KeyObject | undefined => {
  const key = known.get(jwk) ?? importAnew(jwk);
  if (key !== undefined) known.set(jwk, key);
  return key;
};

/** Whether the signature holds under this key, with an algorithm that fits it. Never throws. */
export const verifyJwt = (jwt: ReadJwt, jwk: PublicJwk): boolean => {
  const key = importJwk(jwk);
  if (key === undefined || !fits(jwt.alg, key)) return false;
  const { signed, signature } = jwt;
  try {
    switch (jwt.alg) {
      case 'ES256':
        return verify('sha256', signed, { key, dsaEncoding: 'ieee-p1363' }, signature);
      case 'ES384':
        return verify('sha384', signed, { key, dsaEncoding: 'ieee-p1363' }, signature);
      case 'EdDSA':
      case 'Ed25519':
        return verify(null, signed, key, signature);
      case 'RS256':
        return verify('sha256', signed, key, signature);
      case 'PS256':
        return verify('sha256', signed, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }, signature);
    }
  } catch {
    return false;
  }
};

/** Signs claims by jose: credentials and presentations. */
export const signByJose = (
  key: Pick<SigningKey, 'kid' | 'signJwt'>,
  typ: string,
  claims: { readonly [name: string]: unknown },
): Promise<string> => key.signJwt({ kid: key.kid, typ }, claims);

/** Whether such a signature holds under this key, with an algorithm that fits it. Never throws. */
export const verifyByJose = async ({ text, alg }: ReadJwt, jwk: PublicJwk): Promise<boolean> => {
  const key = importJwk(jwk);
  if (key === undefined) return false;
  try {
    await compactVerify(text, key, { algorithms: [alg] });
    return true;
  } catch {
    return false;
  }
};
