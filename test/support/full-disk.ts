import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Disks that take no more: a small file system of its own (Linux, as root), or a limit on the files of one process (Linux). */

export interface SmallDisk extends Disposable {
  readonly folder: string;
  /** Writes until there is no room left. */
  readonly fill: () => void;
  /** Takes away what `fill` wrote. */
  readonly free: () => void;
  readonly grow: (megabytes: number) => void;
}

const mountAt = (folder: string, options: string) =>
  spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', folder]);

/** A disk of its own of a few megabytes. */
export const smallDisk = (megabytes: number): SmallDisk => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-disk-'));
  const { status, stderr } = mountAt(folder, `size=${megabytes}m`);
  if (status !== 0) throw new Error(`no small disk: ${stderr}`);
  const filler = join(folder, 'filler');
  return {
    folder,
    fill: () => {
      const file = openSync(filler, 'a');
      try {
        for (let size = 1 << 20; size >= 1; size >>= 1) while (write(file, size)) {}
      } finally {
        closeSync(file);
      }
    },
    free: () => rmSync(filler, { force: true }),
    grow: (size) => void execFileSync('mount', ['-o', `remount,size=${size}m`, folder]),
    [Symbol.dispose]: () => {
      execFileSync('umount', ['--lazy', folder]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
};

const write = (file: number, size: number): boolean => {
  try {
    return writeSync(file, new Uint8Array(size)) === size;
  } catch {
    return false;
  }
};

/** Whether this machine lets us make one. */
export const canMakeDisks = (): boolean => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-disk-'));
  const isMounted = mountAt(folder, 'size=1m').status === 0;
  if (isMounted) execFileSync('umount', [folder]);
  rmSync(folder, { recursive: true, force: true });
  return isMounted;
};

export const canLimitFiles = (): boolean => spawnSync('prlimit', ['--version']).status === 0;

/** No file of this process grows beyond so many bytes, and nothing is written behind them; `unlimited` takes that back. */
export const limitFiles = (pid: number, bytes: number | 'unlimited'): void =>
  void execFileSync('prlimit', ['--pid', String(pid), `--fsize=${bytes}:`]);
