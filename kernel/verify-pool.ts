import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import type { Crypto, SignatureAlgorithm } from '../contracts/crypto.ts';
import { keyFits } from './crypto.ts';

/** Runs a check that is written with the synchronous `Crypto`, its signatures verified in the thread pool. */
export type VerifyInPool = <Value>(check: (crypto: Crypto) => Value) => Promise<Value>;

const cacheLimit = 4096;
const parties = new Map<string, KeyObject>();

/** Keys of parties come again and are kept; a P-256 key here is mostly a leaf key, used once. */
const importKey = (algorithm: SignatureAlgorithm, spki: Uint8Array): KeyObject => {
  const encoded = Buffer.from(spki.buffer, spki.byteOffset, spki.byteLength);
  const id = algorithm === 'Ed25519' ? encoded.toString('latin1') : '';
  const known = parties.get(id);
  if (known !== undefined) return known;
  const key = createPublicKey({ key: encoded, format: 'der', type: 'spki' });
  if (id === '' || !keyFits(algorithm, key)) return key;
  if (parties.size >= cacheLimit) parties.clear();
  parties.set(id, key);
  return key;
};

/** One signature in the pool of libuv; false for anything that cannot be read. */
const verifyOne = (
  algorithm: SignatureAlgorithm,
  spki: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): Promise<boolean> =>
  new Promise((resolve) => {
    try {
      const key = importKey(algorithm, spki);
      if (!keyFits(algorithm, key)) return resolve(false);
      const dsaEncoding = algorithm === 'ES256' ? 'ieee-p1363' : 'der';
      const digest = algorithm === 'Ed25519' ? null : 'sha256';
      verify(digest, message, { key, dsaEncoding }, signature, (error, holds) => resolve(error === null && holds));
    } catch {
      resolve(false);
    }
  });

/**
 * The check runs once in the belief that every signature holds, which collects them all; they are verified side by side
 * off the main thread. Only when one does not hold, the check runs again with the true answers, to say which.
 *
 * The check must be a pure function of its `Crypto`: it asks the same questions in the same order, up to the first "no".
 */
export const createVerifyPool =
  (crypto: Crypto): VerifyInPool =>
  async (check) => {
    const asked: Promise<boolean>[] = [];
    const believing = check({
      ...crypto,
      verify: (...question) => {
        asked.push(verifyOne(...question));
        return true;
      },
    });
    const answers = await Promise.all(asked);
    if (answers.every(Boolean)) return believing;
    let next = 0;
    return check({
      ...crypto,
      verify: () => {
        const answer = answers[next] ?? false;
        next += 1;
        return answer;
      },
    });
  };
