import type { AppendFile, FilePort, FixedFile } from '../../kernel/files.ts';
import type { Random } from '../../kernel/random.ts';

/** What a process sees after its machine went down. */
export class Crash extends Error {
  override readonly name = 'Crash';
}

interface Inode {
  bytes: Buffer;
  /** How many of the bytes are surely on the disk. */
  synced: number;
  /** A write at a fixed place that was under way when the machine went down. */
  torn?: { readonly offset: number; readonly bytes: Uint8Array } | undefined;
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
   * dropped, torn anywhere, or zeros; of a write at a fixed place some sectors are there, and others are not.
   */
  readonly restart: (random: Random) => void;
}

const folderOf = (path: string): string => path.slice(0, Math.max(0, path.lastIndexOf('/'))) || '.';

const sector = 512;

/** What the disk kept of a write that was under way: nothing, all, a beginning, or some of its sectors. */
const tear = (inode: Inode, random: Random): void => {
  if (inode.torn === undefined) return;
  const { offset, bytes } = inode.torn;
  inode.torn = undefined;
  const [mode = 0, high = 0, low = 0] = random.bytes(3);
  const kept = mode % 4 === 0 ? bytes.length : (high * 256 + low) % (bytes.length + 1);
  if (mode % 4 < 3) {
    inode.bytes.set(bytes.subarray(0, kept), offset);
    return;
  }
  const end = offset + bytes.length;
  for (let start = offset; start < end; start = (Math.floor(start / sector) + 1) * sector) {
    const next = Math.min(end, (Math.floor(start / sector) + 1) * sector);
    if ((random.bytes(1)[0] ?? 0) % 2 === 0) inode.bytes.set(bytes.subarray(start - offset, next - offset), start);
  }
};

/** Files in memory that lose what was not synced. */
export const tornFiles = (): TornFiles => {
  const durable = new Map<string, Inode>();
  let current = new Map<string, Inode>();
  let changes: NameChange[] = [];
  let count = 0;
  let limit = Number.POSITIVE_INFINITY;
  /** The operation at which the machine went down: later writes never reached the disk. */
  let downAt = Number.POSITIVE_INFINITY;
  /** Handles of before a crash are dead. */
  let life = 0;

  const step = (): void => {
    count += 1;
    if (count >= limit) {
      downAt = Math.min(downAt, count);
      throw new Crash('the machine went down');
    }
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

  const fixedFile = (inode: Inode): FixedFile => {
    const born = life;
    return {
      write: async (bytes, offset) => {
        if (born !== life) throw new Crash('the process is gone');
        if (offset + bytes.length > inode.bytes.length) throw new Error('a write behind the end of a fixed file');
        if (count + 1 >= limit && !Number.isFinite(downAt)) {
          downAt = count;
          inode.torn = { offset, bytes: Uint8Array.from(bytes) };
        }
        step();
        inode.bytes.set(bytes, offset);
      },
      close: async () => undefined,
    };
  };

  const create = (path: string): AppendFile => {
    step();
    const inode: Inode = { bytes: Buffer.alloc(0), synced: 0 };
    change([path, inode]);
    return openFile(inode);
  };

  return {
    allocate: async (path, size) => {
      step();
      const inode: Inode = { bytes: Buffer.alloc(size), synced: size };
      change([path, inode]);
      return fixedFile(inode);
    },
    cut: async (path, size) => {
      step();
      const inode = current.get(path);
      if (inode === undefined) throw Object.assign(new Error(`${path} is not there`), { code: 'ENOENT' });
      inode.bytes = Buffer.from(inode.bytes.subarray(0, size));
      inode.synced = inode.bytes.length;
    },
    open: async (path) => {
      const found = current.get(path);
      return found === undefined ? create(path) : openFile(found);
    },
    create: async (path) => (current.has(path) ? undefined : create(path)),
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
        tear(inode, random);
        const loose = inode.bytes.length - inode.synced;
        const kept = loose === 0 ? 0 : (byte() * 256 + byte()) % (loose + 1);
        const rest = byte() % 4 === 0 ? loose - kept : 0;
        inode.bytes = Buffer.concat([inode.bytes.subarray(0, inode.synced + kept), Buffer.alloc(rest)]);
        inode.synced = inode.bytes.length;
      }
      current = new Map(durable);
      changes = [];
      limit = Number.POSITIVE_INFINITY;
      downAt = Number.POSITIVE_INFINITY;
      life += 1;
    },
  };
};
