import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { toBase64 } from '../contracts/bytes.ts';
import type { Did } from '../contracts/ids.ts';
import { leafKeyId } from '../contracts/ledger/entry.ts';
import {
  assembleJws,
  encodeProtected,
  type GeneralJws,
  type JwsType,
  readJws,
  signingInput,
  verifySignature,
} from '../contracts/ledger/jws.ts';
import { nodeCrypto, spkiOf } from './crypto.ts';
import type { DidResolver } from './did.ts';
import { importJwk } from './jwt.ts';
import type { ParticipantKeys, SigningKey } from './keys.ts';

/** Signatures of the ledger (ledger §2): general JWS by assertion keys, and one-time leaf keys for log entries. */

/** A private JWK of a leaf key, as it travels to the other party (wire §3, §6). */
export interface LeafKeyJwk {
  readonly [member: string]: string;
}

export interface LeafKey {
  /** `b64u H(SPKI)`: how the artifact names it. */
  readonly id: string;
  readonly privateJwk: LeafKeyJwk;
}

/** What a party sends beside an artifact to register it: the leaf key's signature over `A`, and its public half. */
export interface LeafSignature {
  /** b64 DER */
  readonly leafSignature: string;
  /** b64 SPKI */
  readonly spki: string;
}

/** One signature with its protected header, ready for `assembleJws`. */
export interface HeadedSignature {
  readonly protected: string;
  readonly signature: Uint8Array;
}

/** Signs a payload of the ledger with an Ed25519 assertion key. */
export const signAssertion = (key: SigningKey, payload: string, typ: JwsType): HeadedSignature => {
  const header = encodeProtected(key.kid, typ);
  return { protected: header, signature: key.sign(signingInput(header, payload)) };
};

/** A JWS of one signature by this participant. */
export const signedBy = (keys: ParticipantKeys, payload: string, typ: JwsType): GeneralJws =>
  assembleJws(payload, [signAssertion(keys.assertion, payload, typ)]);

/**
 * Whether the signature at `index` is by a key that `did` publishes under assertionMethod now. A key's standing in the
 * log is the log's and the auditor's to judge (ledger §4); here the peer speaks to us today.
 */
export const isAssertionOf = async (
  resolver: DidResolver,
  artifact: unknown,
  { index, did, typ }: { readonly index: number; readonly did: Did; readonly typ: JwsType },
): Promise<boolean> => {
  const read = readJws(artifact, typ);
  const signature = read.ok ? read.value.signatures[index] : undefined;
  if (signature === undefined || !signature.kid.startsWith(`${did}#`)) return false;
  const key = await resolver.key(did, signature.kid, 'assertionMethod');
  const imported = key === undefined ? undefined : importJwk(key.jwk);
  return imported !== undefined && verifySignature(nodeCrypto, signature, spkiOf(imported));
};

/** A P-256 key for exactly one artifact (ledger §4). */
export const makeLeafKey = (): LeafKey => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { kty, crv, x, y, d } = privateKey.export({ format: 'jwk' });
  const privateJwk = { kty: kty ?? '', crv: crv ?? '', x: x ?? '', y: y ?? '', d: d ?? '' };
  return { id: leafKeyId(nodeCrypto, spkiOf(privateKey)), privateJwk };
};

/** A leaf key out of its JWK; undefined when that is no P-256 key. */
const importLeafKey = (privateJwk: LeafKeyJwk): { readonly key: KeyObject; readonly spki: Uint8Array } | undefined => {
  try {
    const key = createPrivateKey({ key: { ...privateJwk }, format: 'jwk' });
    if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') return undefined;
    return { key, spki: spkiOf(key) };
  } catch {
    return undefined;
  }
};

/** How an artifact names the leaf key with this private half; undefined when the JWK is no P-256 key. */
export const leafKeyIdOf = (privateJwk: LeafKeyJwk): string | undefined => {
  const leaf = importLeafKey(privateJwk);
  return leaf && leafKeyId(nodeCrypto, leaf.spki);
};

/** Signs the bytes of `A` with its leaf key; undefined when the JWK is no P-256 key. */
export const signWithLeafKey = (privateJwk: LeafKeyJwk, artifact: Uint8Array): LeafSignature | undefined => {
  const leaf = importLeafKey(privateJwk);
  return leaf && { leafSignature: toBase64(sign('sha256', artifact, leaf.key)), spki: toBase64(leaf.spki) };
};
