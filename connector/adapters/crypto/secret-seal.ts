import { createCipheriv, createDecipheriv } from 'node:crypto';
import { fromBase64Url, toBase64Url, utf8 } from '../../../contracts/bytes.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { Random } from '../../../kernel/random.ts';
import type { Seal } from '../../catalog/ports.ts';

/** Secrets of the owner at rest (a source's credential): AES-256-GCM under a key of the participant's own key file. */

export interface SecretSeal extends Seal {
  /** @throws AppError `data-damaged` for a text that was not sealed here. */
  readonly open: (sealed: string) => string;
}

const nonceBytes = 12;
const tagBytes = 16;

export const createSecretSeal = (key: Uint8Array, random: Random): SecretSeal => ({
  seal: (text) => {
    const nonce = random.bytes(nonceBytes);
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    const sealed = Buffer.concat([cipher.update(utf8(text)), cipher.final()]);
    return toBase64Url(Buffer.concat([nonce, cipher.getAuthTag(), sealed]));
  },
  open: (sealed) => {
    const bytes = fromBase64Url(sealed);
    if (bytes === undefined || bytes.length < nonceBytes + tagBytes)
      throw new AppError('data-damaged', { detail: 'a sealed secret cannot be read' });
    const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, nonceBytes), { authTagLength: tagBytes });
    decipher.setAuthTag(bytes.subarray(nonceBytes, nonceBytes + tagBytes));
    try {
      const text = Buffer.concat([decipher.update(bytes.subarray(nonceBytes + tagBytes)), decipher.final()]);
      return text.toString('utf8');
    } catch {
      throw new AppError('data-damaged', { detail: 'a sealed secret was changed, or sealed with another key' });
    }
  },
});
