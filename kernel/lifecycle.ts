import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { z } from 'zod';
import { textOf, utf8 } from '../contracts/bytes.ts';
import { AppError } from '../contracts/errors.ts';
import type { Clock } from './clock.ts';
import { type FilePort, writeWhole } from './files.ts';
import type { Logger } from './log.ts';

/** How a service lives: a data folder that is its alone, parts that are released in reverse order, one way to stop. */

/** The layout of the data folder that this program writes; a later one is not opened. */
const dataFormat = 1;
const markName = 'stekker.json';
const lockName = 'lock';

const mark = z.object({ format: z.number().int().min(1), program: z.string().min(1).max(64) });

export interface DataFolderOptions {
  readonly path: string;
  /** Whose folder it is; another program's is not opened. */
  readonly program: 'connector' | 'broker' | 'accreditor';
  readonly files: FilePort;
}

const sqliteBusy = 5;
const sqliteReadOnly = 8;
const sqliteFull = 13;
const sqliteCannotOpen = 14;

const codeOf = (error: unknown, member: 'code' | 'errcode'): unknown =>
  typeof error === 'object' && error !== null && member in error
    ? (error as Record<string, unknown>)[member]
    : undefined;

const makeFolder = (path: string): void => {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const code = codeOf(cause, 'code') === 'ENOSPC' ? 'disk-full' : 'config-invalid';
    throw new AppError(code, { detail: `the data folder ${path} cannot be made`, cause });
  }
};

const lockFault = (cause: unknown, path: string): unknown => {
  const code = codeOf(cause, 'errcode');
  switch (typeof code === 'number' ? code % 256 : undefined) {
    case sqliteBusy:
      return new AppError('data-in-use', { detail: `another process works in ${path}`, cause });
    case sqliteFull:
      return new AppError('disk-full', { detail: `there is no room to work in ${path}`, cause });
    case sqliteReadOnly:
    case sqliteCannotOpen:
      return new AppError('config-invalid', { detail: `this process may not write in the data folder ${path}`, cause });
    default:
      return cause;
  }
};

/**
 * A lock of the operating system that ends with the process, however it ends: a file with a process id in it would
 * survive a crash, and says nothing inside a container. SQLite takes it, on every platform, in one way.
 */
const lockFolder = (path: string): DatabaseSync => {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(join(path, lockName));
    database.exec('pragma busy_timeout = 0');
    database.exec('begin exclusive');
    return database;
  } catch (cause) {
    database?.close();
    throw lockFault(cause, path);
  }
};

const readMark = (bytes: Uint8Array): z.infer<typeof mark> => {
  try {
    return mark.parse(JSON.parse(textOf(bytes) ?? ''));
  } catch (cause) {
    throw new AppError('data-damaged', { detail: `${markName} in the data folder cannot be read`, cause });
  }
};

const checkMark = async ({ path, program, files }: DataFolderOptions): Promise<void> => {
  const place = join(path, markName);
  const bytes = await files.read(place);
  if (bytes === undefined) {
    await writeWhole(files, place, utf8(`${JSON.stringify({ format: dataFormat, program })}\n`));
    return;
  }
  const found = readMark(bytes);
  if (found.format > dataFormat)
    throw new AppError('data-newer', {
      detail: `the data folder has format ${found.format}, this program knows ${dataFormat}`,
    });
  if (found.program !== program)
    throw new AppError('config-invalid', { detail: `the data folder ${path} belongs to a ${found.program}` });
};

/**
 * Opens the data folder of a service, or makes it, and keeps every other process out until it is disposed.
 *
 * @throws AppError `data-in-use`, `data-newer`, `data-damaged`, `config-invalid`, `disk-full`.
 */
export const openDataFolder = async (options: DataFolderOptions): Promise<AsyncDisposable> => {
  makeFolder(options.path);
  const lock = lockFolder(options.path);
  try {
    await checkMark(options);
  } catch (error) {
    lock.close();
    throw error;
  }
  return { [Symbol.asyncDispose]: async () => lock.close() };
};

/** Takes over what must be released when the service stops, and hands it back. */
export type Own = <Resource extends AsyncDisposable>(resource: Resource) => Resource;

/** A service that works until it is disposed, or until the signal it was started with aborts. */
export interface RunningService extends AsyncDisposable {
  /** Resolves when everything is released. */
  readonly stopped: Promise<void>;
}

const releaseAll = async (owned: AsyncDisposable[]): Promise<unknown[]> => {
  const errors: unknown[] = [];
  for (let last = owned.pop(); last !== undefined; last = owned.pop()) {
    try {
      await last[Symbol.asyncDispose]();
    } catch (error) {
      errors.push(error); // the others are released all the same
    }
  }
  return errors;
};

/** A part cannot go on, and nothing without it: the service stops, and whoever runs it starts it anew. */
export type Fail = (fault: unknown) => void;

/**
 * Builds a service out of parts. What it owns is released in reverse order: when it stops, when a part fails for good, and
 * when a later part cannot be made.
 */
export const startService = async <Parts extends object>(
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
  build: (own: Own, fail: Fail) => Promise<Parts>,
): Promise<Parts & RunningService> => {
  const owned: AsyncDisposable[] = [];
  const { promise: stopped, resolve } = Promise.withResolvers<void>();
  const report = (errors: readonly unknown[]) => {
    for (const err of errors) log.error({ err }, 'a part of the service did not stop as it should');
  };
  const dispose = async (): Promise<void> => {
    signal.removeEventListener('abort', onAbort);
    report(await releaseAll(owned));
    resolve();
    await stopped;
  };
  let disposing: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    disposing ??= dispose();
    return disposing;
  };
  const onAbort = () => void stop();
  let isBuilt = false;
  let hasFailed = false;
  const fail: Fail = (err) => {
    log.error({ err }, 'a part of the service cannot go on, so the service stops');
    hasFailed = true;
    if (isBuilt) void stop();
  };
  let parts: Parts;
  try {
    parts = await build((resource) => {
      owned.push(resource);
      return resource;
    }, fail);
    isBuilt = true;
  } catch (error) {
    report(await releaseAll(owned));
    throw error;
  }
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted || hasFailed) await stop();
  return { ...parts, stopped, [Symbol.asyncDispose]: stop };
};

interface RepeatOptions {
  readonly everyMs: number;
  readonly work: () => Promise<void>;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Does some work now and then again after each pause, until it is disposed. A failure waits for the next time. */
export const startRepeating = ({ everyMs, work, clock, log }: RepeatOptions): AsyncDisposable => {
  const stop = new AbortController();
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await work().catch((err: unknown) => log.error({ err }, 'repeated work failed'));
      await clock.sleep(everyMs, stop.signal);
    }
  };
  const looping = loop();
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await looping;
    },
  };
};
