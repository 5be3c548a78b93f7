import { createPublicKey, type KeyObject, sign } from 'node:crypto';
import { AppError } from '../../../contracts/errors.ts';
import { buildVerifierKey } from '../../../contracts/ledger/note.ts';
import { nodeCrypto } from '../../../kernel/crypto.ts';
import type { LogKeys, Origin } from '../../ledger/ports.ts';

interface PrivateKeys {
  /** Ed25519: checkpoints and promises. */
  readonly log: KeyObject;
  /** P-256: entries of public artifacts. */
  readonly registry: KeyObject;
}

const spkiOf = (key: KeyObject): Buffer => createPublicKey(key).export({ format: 'der', type: 'spki' });

const inPool = (digest: 'sha256' | null, message: Uint8Array, key: Parameters<typeof sign>[2]): Promise<Uint8Array> =>
  new Promise((resolve, reject) => {
    sign(digest, message, key, (error, signature) => (error === null ? resolve(signature) : reject(error)));
  });

/** The keys of one log. Signatures are made in the thread pool: thousands of promises a second must not hold up the batch. */
export const nodeLogKeys = (origin: Origin, { log, registry }: PrivateKeys): LogKeys => {
  if (log.asymmetricKeyType !== 'ed25519' || registry.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw new AppError('config-invalid', { detail: 'a log needs an Ed25519 key and a P-256 registry key' });
  return {
    vkey: buildVerifierKey(nodeCrypto, origin, spkiOf(log).subarray(12)),
    registryKey: spkiOf(registry),
    signAsLog: (message) => inPool(null, message, log),
    signAsRegistry: (message, form) =>
      inPool('sha256', message, { key: registry, dsaEncoding: form === 'der' ? 'der' : 'ieee-p1363' }),
  };
};
