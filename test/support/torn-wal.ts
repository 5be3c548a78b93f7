import { closeSync, copyFileSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { Random } from '../../kernel/random.ts';
import { openSynced, type SyncedFile } from '../../kernel/sql/group-sync.ts';

/**
 * What a disk keeps of a SQLite database when the power goes: the database with all checkpoints, and of the WAL what was
 * synced: by us, or by SQLite before a checkpoint or when the WAL began anew. Of the rest anything may be there.
 */

/** Where the WAL ends, out of the index beside it (SQLite, "WAL-mode file format" §2). */
interface WalPlace {
  /** Changes when the WAL begins anew. */
  readonly salt: string;
  readonly frames: number;
  /** So many frames may stand in the database already, and were synced before. */
  readonly copied: number;
}

const walHead = 32;
const frameHead = 24;
const pageSize = 4_096;
const sector = 512;
const endOf = (frames: number): number => walHead + frames * (frameHead + pageSize);

const placeOf = (path: string): WalPlace => {
  const index = readFileSync(`${path}-shm`);
  return {
    salt: index.subarray(32, 40).toString('hex'),
    frames: index.readUInt32LE(16),
    copied: index.readUInt32LE(128),
  };
};

export interface TornWal {
  readonly openWal: (path: string) => SyncedFile;
  /** How many syncs have ended. */
  readonly syncs: () => number;
  /** The power goes now: what the disk has is at `to`. Says how many bytes nobody had synced. */
  readonly crash: (to: string, random: Random) => number;
}

/** Cuts or tears what stands behind `durable`. */
const tear = (path: string, durable: number, end: number, random: Random): void => {
  const [mode = 0, high = 0, low = 0] = random.bytes(3);
  const file = openSync(path, 'r+');
  if (mode % 3 === 0) ftruncateSync(file, durable);
  if (mode % 3 === 1) ftruncateSync(file, durable + ((high * 256 + low) % (end - durable + 1)));
  if (mode % 3 === 2)
    for (let start = Math.ceil(durable / sector) * sector; start < end; start += sector)
      if ((random.bytes(1)[0] ?? 0) % 4 === 0) writeSync(file, Buffer.alloc(sector), 0, sector, start);
  closeSync(file);
};

/** Syncs of one database that take their time, and what they leave when the power goes. */
export const tornWal = (path: string, pause: () => Promise<void>): TornWal => {
  let synced: WalPlace | undefined;
  let count = 0;
  return {
    openWal: (walPath) => {
      const file = openSynced(walPath);
      return {
        ...file,
        sync: async () => {
          const begun = placeOf(path);
          await pause();
          await file.sync();
          await pause();
          synced = begun;
          count += 1;
        },
      };
    },
    syncs: () => count,
    crash: (to, random) => {
      const { salt, frames, copied } = placeOf(path);
      copyFileSync(path, to);
      copyFileSync(`${path}-wal`, `${to}-wal`);
      const durable = endOf(Math.max(copied, synced?.salt === salt ? synced.frames : 0));
      tear(`${to}-wal`, durable, endOf(frames), random);
      return endOf(frames) - durable;
    },
  };
};
