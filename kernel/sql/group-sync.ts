import { closeSync, fdatasync, openSync } from 'node:fs';
import { promisify } from 'node:util';
import { AppError } from '../../contracts/errors.ts';

/**
 * One sync for many commits. A commit is in the file when SQLite returns and on the disk when a sync that began later has
 * ended; while one sync is under way commits gather for the next.
 */

/** A file that somebody else writes. */
export interface SyncedFile {
  /** Puts all that was written before the call on the disk. */
  readonly sync: () => Promise<void>;
  readonly close: () => void;
}

/** A file by its path, synced in the thread pool: whoever writes it has it open under a descriptor of its own. */
export const openSynced = (path: string): SyncedFile => {
  const descriptor = openSync(path, 'r+');
  const sync = promisify(fdatasync);
  return { sync: () => sync(descriptor), close: () => closeSync(descriptor) };
};

export interface GroupSync {
  /** Something was committed that must be durable. */
  readonly committed: () => void;
  /** Resolves once everything committed until now is on the disk. @throws AppError for what is not. */
  readonly settled: () => Promise<void>;
  /** Resolves when the sync that is under way ends, however it does; undefined while there is none. */
  readonly underWay: () => Promise<void> | undefined;
  /** @throws AppError once a sync has failed. */
  readonly check: () => void;
  readonly close: () => Promise<void>;
}

/** Where nothing needs a sync: in memory, and in simulations. */
export const noSync: GroupSync = {
  committed: () => undefined,
  settled: async () => undefined,
  underWay: () => undefined,
  check: () => undefined,
  close: async () => undefined,
};

const fullCodes = new Set<unknown>(['ENOSPC', 'EDQUOT', 'EFBIG']);

const faultOf = (cause: unknown): AppError => {
  const code = typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined;
  const detail = 'commits could not be put on the disk; the database is not used any more';
  return new AppError(fullCodes.has(code) ? 'disk-full' : 'database-unavailable', { detail, cause });
};

interface GroupSyncOptions {
  /** Called once there is something to sync. */
  readonly open: () => SyncedFile;
  /** Told once, when a sync failed: nobody knows what the disk has, and only a new start reads what it has. */
  readonly onFault: (fault: AppError) => void;
}

/** At most one sync at a time, each for all commits that were made before it began. */
export const createGroupSync = ({ open, onFault }: GroupSyncOptions): GroupSync => {
  let file: SyncedFile | undefined;
  let made = 0;
  let durable = 0;
  let fault: AppError | undefined;
  let round: Promise<void> | undefined;

  const run = async (): Promise<void> => {
    const covered = made;
    try {
      file ??= open();
      await file.sync();
      durable = covered;
    } catch (cause) {
      fault = faultOf(cause);
      onFault(fault);
    } finally {
      round = undefined;
    }
  };
  const check = (): void => {
    if (fault !== undefined) throw fault;
  };
  return {
    committed: () => {
      made += 1;
    },
    settled: async () => {
      const wanted = made;
      while (durable < wanted) {
        check();
        round ??= run();
        await round;
      }
    },
    underWay: () => round,
    check,
    close: async () => {
      await round;
      file?.close();
    },
  };
};
