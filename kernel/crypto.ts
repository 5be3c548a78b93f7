import { createHmac, createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import type { Crypto, SignatureAlgorithm } from '../contracts/crypto.ts';
import { ed25519Spki, p256Spki } from '../contracts/ledger/forms.ts';

const cacheLimit = 4096;
const keys = new Map<string, KeyObject>();

const importSpki = (spki: Uint8Array): KeyObject => {
  const id = Buffer.from(spki).toString('latin1');
  const cached = keys.get(id);
  if (cached !== undefined) return cached;
  const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
  if (keys.size >= cacheLimit) keys.clear();
  keys.set(id, key);
  return key;
};

/**
 * The SPKI of a key's public half, DER, put together from its JWK: OpenSSL takes longer to write one than to check a signature.
 */
export const spkiOf = (key: KeyObject): Uint8Array => {
  const { crv, x = '', y = '' } = key.export({ format: 'jwk' });
  if (crv === 'P-256') return p256Spki(Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url'));
  if (crv === 'Ed25519') return ed25519Spki(Buffer.from(x, 'base64url'));
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return publicKey.export({ format: 'der', type: 'spki' });
};

/** Whether a key is of the one kind that an algorithm takes. */
export const keyFits = (algorithm: SignatureAlgorithm, key: KeyObject): boolean =>
  algorithm === 'Ed25519'
    ? key.asymmetricKeyType === 'ed25519'
    : key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';

/** `Crypto` over `node:crypto`. Public keys are imported once and kept, at most 4,096 of them. */
export const nodeCrypto: Crypto = {
  sha256: (bytes) => hash('sha256', bytes, 'buffer'),
  hmacSha256: (key, bytes) => createHmac('sha256', key).update(bytes).digest(),
  verify: (algorithm, spki, message, signature) => {
    try {
      const key = importSpki(spki);
      if (!keyFits(algorithm, key)) return false;
      if (algorithm === 'Ed25519') return verify(null, message, key, signature);
      const dsaEncoding = algorithm === 'ES256' ? 'ieee-p1363' : 'der';
      return verify('sha256', message, { key, dsaEncoding }, signature);
    } catch {
      return false; // a key or signature that cannot be read verifies nothing
    }
  },
};
