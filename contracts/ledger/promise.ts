import { z } from 'zod';
import { toHex } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { canonicalize } from '../json.ts';
import { bad, type Checked, decimal, ed25519Spki, hash32, name, readCanonical, time, version } from './forms.ts';
import { readJws, verifySignature } from './jws.ts';
import type { VerifierKey } from './note.ts';

/** The log's promise that an entry is sequenced (ledger §9). One whose entry is not in the tree is evidence against the log. */

export const logPromise = z.strictObject({
  v: version,
  type: z.literal('log-promise'),
  origin: name,
  index: decimal,
  leafHash: hash32,
  at: time,
});
export type LogPromise = z.infer<typeof logPromise>;

export const promiseText = (promise: LogPromise): string => canonicalize(promise);

/** `<origin>+<hex keyid>` */
export const promiseKid = (key: VerifierKey): string => `${key.name}+${toHex(key.keyId)}`;

/** Reads and verifies a promise under the log's key. */
export const verifyPromise = (crypto: Crypto, value: unknown, key: VerifierKey): Checked<LogPromise> => {
  const jws = readJws(value, 'stekker-log-promise+jws');
  if (!jws.ok) return jws;
  const payload = readCanonical(logPromise, jws.value.payload);
  if (!payload.ok) return payload;
  const [signature, ...more] = jws.value.signatures;
  if (signature === undefined || more.length > 0 || signature.kid !== promiseKid(key))
    return bad('is not signed by the log alone');
  if (payload.value.origin !== key.name) return bad('is of another log');
  return verifySignature(crypto, signature, ed25519Spki(key.publicKey))
    ? payload
    : bad('the signature of the log does not hold');
};
