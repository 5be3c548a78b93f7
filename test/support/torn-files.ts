import type { AppendFile, FilePort } from '../../kernel/files.ts';
import type { Random } from '../../kernel/random.ts';

/** What a process sees after its machine went down. */
export class Crash extends Error {
  override readonly name = 'Crash';
}

interface Inode {
  bytes: Buffer;
  /** How many of the bytes are surely on the disk. */
  synced: number;
}

/** Names that change together or not at all: a rename is one change. */
interface NameChange {
  readonly folder: string;
  readonly names: readonly (readonly [path: string, inode: Inode | undefined])[];
}

export interface TornFiles extends FilePort {
  /** How many operations that change something were asked for. */
  readonly operations: () => number;
  /** The machine goes down at operation `count` from now: it and all later ones throw `Crash`. */
  readonly crashAt: (count: number) => void;
  /**
   * Starts the machine again: names that were not synced may be missing, each on its own; bytes that were not synced are
   * dropped, torn anywhere, or zeros.
   */
  readonly restart: (random: Random) => void;
}

const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/'))) || '.';

/** Files in memory that lose what was not synced. */
export const tornFiles = (): TornFiles => {
  const durable = new Map<string, Inode>();
  let current = new Map<string, Inode>();
  let changes: NameChange[] = [];
  let count = 0;
  let limit = Number.POSITIVE_INFINITY;
  /** Handles of before a crash are dead. */
  let life = 0;

  const step = (): void => {
    count += 1;
    if (count >= limit) throw new Crash('the machine went down');
  };
  const apply = (names: Map<string, Inode>, change: NameChange): void => {
    for (const [path, inode] of change.names) {
      if (inode === undefined) names.delete(path);
      else names.set(path, inode);
    }
  };
  const change = (...names: NameChange['names']): void => {
    const made = { folder: folderOf(names[0]?.[0] ?? ''), names };
    apply(current, made);
    changes.push(made);
  };

  const openFile = (inode: Inode): AppendFile => {
    const born = life;
    const mustLive = (): void => {
      if (born !== life) throw new Crash('the process is gone');
    };
    return {
      append: async (bytes) => {
        mustLive();
        inode.bytes = Buffer.concat([inode.bytes, bytes]);
        step();
      },
      sync: async () => {
        mustLive();
        step();
        inode.synced = inode.bytes.length;
      },
      close: async () => undefined,
    };
  };

  return {
    open: async (path) => {
      const found = current.get(path);
      if (found !== undefined) return openFile(found);
      step();
      const inode: Inode = { bytes: Buffer.alloc(0), synced: 0 };
      change([path, inode]);
      return openFile(inode);
    },
    read: async (path) => {
      const inode = current.get(path);
      return inode && new Uint8Array(inode.bytes);
    },
    list: async (folder) => {
      const inside = [...current.keys()].filter((path) => path.startsWith(`${folder}/`));
      return [...new Set(inside.map((path) => path.slice(folder.length + 1).split('/')[0] ?? ''))].toSorted();
    },
    makeFolder: async () => undefined,
    rename: async (from, to) => {
      step();
      const inode = current.get(from);
      if (inode === undefined) throw Object.assign(new Error(`${from} is not there`), { code: 'ENOENT' });
      change([to, inode], [from, undefined]);
    },
    remove: async (path) => {
      step();
      for (const inside of [...current.keys()])
        if (inside === path || inside.startsWith(`${path}/`)) change([inside, undefined]);
    },
    syncFolder: async (folder) => {
      step();
      for (const made of changes) if (made.folder === folder) apply(durable, made);
      changes = changes.filter((made) => made.folder !== folder);
    },
    operations: () => count,
    crashAt: (from) => {
      limit = count + from;
    },
    restart: (random) => {
      const byte = () => random.bytes(1)[0] ?? 0;
      for (const made of changes) if (byte() % 2 === 0) apply(durable, made);
      for (const inode of new Set(durable.values())) {
        const loose = inode.bytes.length - inode.synced;
        const kept = loose === 0 ? 0 : (byte() * 256 + byte()) % (loose + 1);
        const rest = byte() % 4 === 0 ? loose - kept : 0;
        inode.bytes = Buffer.concat([inode.bytes.subarray(0, inode.synced + kept), Buffer.alloc(rest)]);
        inode.synced = inode.bytes.length;
      }
      current = new Map(durable);
      changes = [];
      limit = Number.POSITIVE_INFINITY;
      life += 1;
    },
  };
};
