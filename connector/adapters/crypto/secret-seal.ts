import { createCipheriv, createDecipheriv } from 'node:crypto';
import { AppError } from '../../../contracts/errors.ts';
import type { Random } from '../../../kernel/random.ts';

/** Secrets of the owner at rest (AES-256-GCM): what a source asks for is readable only by this connector. */
export interface SecretSeal {
  readonly seal: (text: string) => string;
  /** @throws AppError `data-damaged` for what this key did not seal. */
  readonly unseal: (sealed: string) => string;
}

const secretLabel = 'stekker secret 1';
/** For places in our lists that others carry: what one label sealed, no other opens. */
export const cursorLabel = 'stekker cursor 1';
const nonceBytes = 12;
const tagBytes = 16;

/** Under a key of 32 bytes, from the file of keys. */
export const createSecretSeal = (key: Uint8Array, random: Random, label = secretLabel): SecretSeal => ({
  seal: (text) => {
    const nonce = random.bytes(nonceBytes);
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(label));
    const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString('base64url');
  },
  unseal: (text) => {
    const bytes = Buffer.from(text, 'base64url');
    try {
      const nonce = bytes.subarray(0, nonceBytes);
      const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: tagBytes }).setAAD(
        Buffer.from(label),
      );
      decipher.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
      const opened = [decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()];
      return Buffer.concat(opened).toString('utf8');
    } catch {
      // No cause: it could hold what was opened.
      throw new AppError('data-damaged', { detail: 'a secret in the database cannot be opened with this key' });
    }
  },
});
