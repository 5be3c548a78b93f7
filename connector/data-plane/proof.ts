import { type KeyObject, sign, verify } from 'node:crypto';
import { z } from 'zod';
import { importJwk } from '../../kernel/jwt.ts';
import { type PublicJwk, thumbprint } from '../../kernel/keys.ts';

/** DPoP proofs (RFC 9449) as wire §5 has them: a compact JWS whose header brings its public key. */

const maxProofLength = 4_096;
const form = /^([A-Za-z0-9_-]{1,1024})\.([A-Za-z0-9_-]{1,2900})\.([A-Za-z0-9_-]{86})$/;
const hash = /^[A-Za-z0-9_-]{43}$/;

const proofHeader = z.looseObject({
  typ: z.literal('dpop+jwt'),
  alg: z.enum(['ES256', 'EdDSA']),
  jwk: z
    .looseObject({ kty: z.enum(['EC', 'OKP']), crv: z.string(), x: z.string(), y: z.string().optional() })
    .refine((jwk) => !('d' in jwk), 'brings a private key'),
});
const strangeMembers = ['crit', 'b64', 'zip', 'enc', 'jku', 'x5u', 'x5c', 'kid'];

const proofClaims = z.looseObject({
  jti: z.string().min(1).max(256),
  htm: z.string().max(16),
  htu: z.string().max(8_192),
  iat: z.number().int().min(0).max(8_640_000_000_000),
  ath: z.string().regex(hash).optional(),
  tgt: z.string().regex(hash).optional(),
});
export type ProofClaims = z.infer<typeof proofClaims>;

/** The key that a proof header brings. */
export interface ProofKey {
  readonly alg: 'ES256' | 'EdDSA';
  readonly key: KeyObject;
  /** RFC 7638 thumbprint, b64u. */
  readonly jkt: string;
}

/** A proof that was read; nothing of it is verified. */
export interface Proof {
  /** The header as it stands: a consumer sends the same one with each request. */
  readonly header: string;
  readonly claims: ProofClaims;
  readonly signed: string;
  readonly signature: Uint8Array;
}

/** Bytes of base64url that encodes back to itself: the decoder of the platform forgives too much (hot-path, traps). */
const strictBytes = (text: string): Buffer | undefined => {
  const bytes = Buffer.from(text, 'base64url');
  return bytes.toString('base64url') === text ? bytes : undefined;
};

const jsonOf = (text: string): unknown => {
  try {
    return JSON.parse(strictBytes(text)?.toString('utf8') ?? '');
  } catch {
    return undefined;
  }
};

export const readProof = (text: string): Proof | undefined => {
  const match = text.length > maxProofLength ? null : form.exec(text);
  if (match === null) return undefined;
  const [, header = '', body = '', end = ''] = match;
  const claims = proofClaims.safeParse(jsonOf(body));
  const signature = strictBytes(end);
  if (!claims.success || signature === undefined) return undefined;
  return { header, claims: claims.data, signed: `${header}.${body}`, signature };
};

/** The key of a proof header; undefined for a header that is not one of a proof, and for a key that does not fit its algorithm. */
export const readProofKey = (header: string): ProofKey | undefined => {
  const value = jsonOf(header);
  const read = proofHeader.safeParse(value);
  if (!read.success || strangeMembers.some((name) => name in read.data)) return undefined;
  const { alg, jwk } = read.data;
  const { kty, crv, x, y } = jwk;
  const clean: PublicJwk = { kty, crv, x, ...(y === undefined ? {} : { y }) };
  const key = importJwk(clean);
  if (key === undefined) return undefined;
  const fits = alg === 'ES256' ? crv === 'P-256' : crv === 'Ed25519' && y === undefined;
  return fits ? { alg, key, jkt: thumbprint(clean) } : undefined;
};

/** Whether the signature holds. Never throws; (r, n−s) holds as well, so nothing is keyed on signatures. */
export const verifyProof = ({ signed, signature }: Proof, { alg, key }: ProofKey): boolean =>
  verify(
    alg === 'ES256' ? 'sha256' : null,
    Buffer.from(signed, 'latin1'),
    { key, dsaEncoding: 'ieee-p1363' },
    signature,
  );

/** Makes proofs with one P-256 key. */
export interface ProofMaker {
  readonly jkt: string;
  readonly make: (claims: ProofClaims) => string;
}

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

export const createProofMaker = (publicJwk: PublicJwk, privateKey: KeyObject): ProofMaker => {
  const { kty, crv, x, y } = publicJwk;
  const header = encode({ typ: 'dpop+jwt', alg: 'ES256', jwk: { crv, kty, x, y } });
  return {
    jkt: thumbprint(publicJwk),
    make: (claims) => {
      const signed = `${header}.${encode(claims)}`;
      const signature = sign('sha256', Buffer.from(signed), { key: privateKey, dsaEncoding: 'ieee-p1363' });
      return `${signed}.${signature.toString('base64url')}`;
    },
  };
};
