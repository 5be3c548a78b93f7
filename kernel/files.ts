import { constants } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { AppError } from '../contracts/errors.ts';

/** A file that is open for appending. */
export interface AppendFile {
  /** Writes all bytes at the end; durable only after `sync`. */
  readonly append: (bytes: Uint8Array) => Promise<void>;
  /** `fdatasync`. One that failed is never repeated on the same file: nobody knows what it dropped (ledger §7). */
  readonly sync: () => Promise<void>;
  readonly close: () => Promise<void>;
}

/** A file of fixed size, filled with zeros when it was made, whose writes are on the disk when they return. */
export interface FixedFile {
  /** Durable when it returns. After one that failed nobody knows what stands there: the file is given up (ledger §7). */
  readonly write: (bytes: Uint8Array, offset: number) => Promise<void>;
  readonly close: () => Promise<void>;
}

/**
 * The files of everything that must survive a crash: journal, tiles, intent. What is not synced may be lost or torn, and a
 * new or renamed name is durable only after `syncFolder`; the test double does exactly that.
 */
export interface FilePort {
  /** Opens for appending, and creates the file and its folders when they are not there. */
  readonly open: (path: string) => Promise<AppendFile>;
  /** The same for a file that is not there yet: of several that ask at once one gets it, and the others undefined. */
  readonly create: (path: string) => Promise<AppendFile | undefined>;
  /**
   * Makes a file of zeros and its folders; content and size are durable when it returns, the name after `syncFolder`. A file
   * that is there is replaced.
   */
  readonly allocate: (path: string, size: number) => Promise<FixedFile>;
  /** Cuts a file to its first bytes, durably. */
  readonly cut: (path: string, size: number) => Promise<void>;
  /** All bytes, or undefined when there is no such file. */
  readonly read: (path: string) => Promise<Uint8Array | undefined>;
  /** Names in a folder, sorted; none when there is no such folder. */
  readonly list: (folder: string) => Promise<readonly string[]>;
  /** With its parents; nothing when it is there. */
  readonly makeFolder: (folder: string) => Promise<void>;
  /** Atomic replacement; the folder of `to` must be there. */
  readonly rename: (from: string, to: string) => Promise<void>;
  /** A file or a folder with all in it; nothing when it is not there. */
  readonly remove: (path: string) => Promise<void>;
  /** Makes the names in a folder durable. */
  readonly syncFolder: (folder: string) => Promise<void>;
}

const codeOf = (error: unknown): unknown =>
  typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;

const fullCodes = new Set<unknown>(['ENOSPC', 'EDQUOT', 'EFBIG']);

/** A full disk gets its own code: the operator can do something about it. */
const mapped = (cause: unknown): unknown =>
  fullCodes.has(codeOf(cause)) ? new AppError('disk-full', { cause }) : cause;

const attempt = async <Value>(work: () => Promise<Value>): Promise<Value> => {
  try {
    return await work();
  } catch (cause) {
    throw mapped(cause);
  }
};

const isMissing = (error: unknown): boolean => codeOf(error) === 'ENOENT';

const orUndefined = async <Value>(work: Promise<Value>): Promise<Value | undefined> => {
  try {
    return await work;
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
};

const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/'))) || '.';

const openAppend = async (path: string, flags: 'a' | 'ax'): Promise<AppendFile> => {
  await mkdir(folderOf(path), { recursive: true });
  const handle = await open(path, flags, 0o600);
  return {
    append: (bytes) =>
      attempt(async () => {
        for (let offset = 0; offset < bytes.length; )
          offset += (await handle.write(bytes, offset, bytes.length - offset)).bytesWritten;
      }),
    sync: () => attempt(() => handle.datasync()),
    close: () => handle.close(),
  };
};

const createAppend = async (path: string): Promise<AppendFile | undefined> => {
  try {
    return await openAppend(path, 'ax');
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return undefined;
    throw error;
  }
};

const zeros = new Uint8Array(1 << 20);

/** In steps, each on the disk before the next: one large flush would hold up everybody else's small ones. */
const fill = async (path: string, size: number): Promise<void> => {
  const handle = await open(path, 'w', 0o600);
  try {
    for (let left = size; left > 0; ) {
      left -= (await handle.write(zeros, 0, Math.min(left, zeros.length))).bytesWritten;
      await handle.datasync();
    }
    await handle.datasync();
  } finally {
    await handle.close();
  }
};

/** Zeros first, so that later writes change no size and need no second trip to the disk (hot-path). */
const allocate = async (path: string, size: number): Promise<FixedFile> => {
  await mkdir(folderOf(path), { recursive: true });
  try {
    await fill(path, size);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  }
  const handle = await open(path, constants.O_WRONLY | constants.O_DSYNC);
  return {
    write: (bytes, offset) =>
      attempt(async () => {
        for (let done = 0; done < bytes.length; )
          done += (await handle.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
      }),
    close: () => handle.close(),
  };
};

const cut = async (path: string, size: number): Promise<void> => {
  const handle = await open(path, 'r+');
  try {
    await handle.truncate(size);
    await handle.sync();
  } finally {
    await handle.close();
  }
};

/** Files of the machine. Throws AppError `disk-full` when it takes no more. */
export const nodeFiles: FilePort = {
  open: (path) => attempt(() => openAppend(path, 'a')),
  create: (path) => attempt(() => createAppend(path)),
  allocate: (path, size) => attempt(() => allocate(path, size)),
  cut: (path, size) => attempt(() => cut(path, size)),
  read: (path) => orUndefined(readFile(path)),
  list: async (folder) => ((await orUndefined(readdir(folder))) ?? []).toSorted(),
  makeFolder: (folder) => attempt(async () => void (await mkdir(folder, { recursive: true }))),
  rename: (from, to) => attempt(() => rename(from, to)),
  remove: (path) => rm(path, { recursive: true, force: true }),
  syncFolder: async (folder) => {
    const handle = await open(folder, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

/** Replaces a file as a whole: temporary name, sync, rename, sync of the folder. A crash leaves the old or the new one. */
export const writeWhole = async (files: FilePort, path: string, bytes: Uint8Array): Promise<void> => {
  const folder = folderOf(path);
  await files.makeFolder(folder);
  const next = `${path}.next`;
  await files.remove(next);
  const file = await files.open(next);
  try {
    await file.append(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await files.rename(next, path);
  await files.syncFolder(folder);
};
