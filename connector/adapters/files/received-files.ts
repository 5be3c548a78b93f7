import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../../../contracts/errors.ts';
import type { FilePort } from '../../../kernel/files.ts';
import type { ReceivedFiles } from '../../data-plane/ports.ts';

/** What was pushed to us, a file for each transfer, named after it. */

const name = /^urn:uuid:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

/** Where they are kept. */
export const receivedFolder = (config: { readonly STEKKER_DATA: string }): string =>
  join(config.STEKKER_DATA, 'received');

export interface KeptFiles extends ReceivedFiles {
  /** The bytes of a transfer. @throws AppError `not-found`. */
  readonly read: (transfer: string) => Promise<{ readonly bytes: number; readonly body: AsyncIterable<Uint8Array> }>;
}

export const createReceivedFiles = (files: FilePort, folder: string): KeptFiles => {
  const pathOf = (transfer: string): string => {
    const match = name.exec(transfer);
    if (match === null) throw new AppError('not-found');
    return join(folder, match[1] ?? '');
  };
  return {
    begin: async (transfer) => {
      const path = pathOf(transfer);
      const part = `${path}.part`;
      await files.remove(part);
      const file = await files.open(part);
      let isOpen = true;
      const close = async () => {
        if (isOpen) await file.close();
        isOpen = false;
      };
      return {
        append: file.append,
        keep: async () => {
          await file.sync();
          await close();
          await files.rename(part, path);
          await files.syncFolder(folder);
        },
        drop: async () => {
          await close();
          await files.remove(part);
        },
      };
    },
    read: async (transfer) => {
      const path = pathOf(transfer);
      const found = await stat(path).catch((cause: unknown) => {
        throw new AppError('not-found', { detail: 'nothing was pushed for this transfer', cause });
      });
      return { bytes: found.size, body: createReadStream(path) };
    },
  };
};
