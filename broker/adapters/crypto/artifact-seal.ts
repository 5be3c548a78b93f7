import { createCipheriv, createDecipheriv } from 'node:crypto';
import { AppError } from '../../../contracts/errors.ts';
import type { Random } from '../../../kernel/random.ts';
import type { ArtifactSeal } from '../../ledger/ports.ts';

const nonceBytes = 12;
const tagBytes = 16;
const keyBytes = 32;

/** Artifacts at rest under AES-256-GCM, each bound to its label; `key` is 32 bytes that only this log has. */
export const aesArtifactSeal = (key: Uint8Array, random: Random): ArtifactSeal => {
  if (key.length !== keyBytes) throw new AppError('invariant-broken', { detail: 'the seal needs a key of 32 bytes' });
  return {
    seal: (text, label) => {
      const nonce = random.bytes(nonceBytes);
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(label));
      const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
      return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64');
    },
    open: (sealed, label) => {
      const bytes = Buffer.from(sealed, 'base64');
      if (bytes.length < nonceBytes + tagBytes) return undefined;
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, nonceBytes), { authTagLength: tagBytes })
        .setAAD(Buffer.from(label))
        .setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
      try {
        const text = decipher.update(bytes.subarray(nonceBytes + tagBytes));
        return Buffer.concat([text, decipher.final()]).toString('utf8');
      } catch {
        return undefined; // changed, or sealed with another key or label
      }
    },
  };
};
