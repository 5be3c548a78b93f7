import { describe, expect, test } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import { createLogger } from '../../kernel/log.ts';
import { origin } from '../../test/support/ledger-world.ts';
import { joinAll, type LogBench, logBench, logKeys, published } from '../../test/support/log-bench.ts';
import { agreementBody, provider } from '../../test/support/log-parties.ts';
import type { LedgerOptions } from './service.ts';

/** Each dependency fails once, before or after it did its work; what must hold is in the table (ledger §12, §17). */

interface Fault {
  readonly name: string;
  readonly break: (bench: LogBench, fail: () => void) => Partial<LedgerOptions>;
  /** What the submitter hears: an index, or a code. */
  readonly heard: number | string;
  /** Whether the log goes on by itself. */
  readonly goesOn: boolean;
  /** Entries after a restart, of the three that were there and the one that was sent. */
  readonly sizeAfter: number;
}

const once = (fail: () => void) => {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    fail();
  };
};

const faults: readonly Fault[] = [
  {
    name: 'the commit fails before it wrote',
    break: ({ store }, fail) => {
      const first = once(fail);
      return {
        store: {
          ...store,
          commit: async (...batch) => {
            first();
            return await store.commit(...batch);
          },
        },
      };
    },
    heard: 'disk-full',
    goesOn: true,
    sizeAfter: 4,
  },
  {
    name: 'the commit wrote and its answer was lost',
    break: ({ store }, fail) => {
      const first = once(fail);
      return {
        store: {
          ...store,
          commit: async (...batch) => {
            const answer = await store.commit(...batch);
            first();
            return answer;
          },
        },
      };
    },
    heard: 3,
    goesOn: true,
    sizeAfter: 5,
  },
  {
    name: 'the commit fails and the rows cannot be read',
    break: ({ store }, fail) => ({
      store: {
        ...store,
        commit: async () => {
          fail();
          return 'conflict' as const;
        },
        head: async (name) => {
          const head = await store.head(name);
          if ((head?.size ?? 0) > 2 && isBroken) throw new Error('no answer');
          return head;
        },
      },
    }),
    heard: 'log-stopped',
    goesOn: false,
    sizeAfter: 3,
  },
  {
    name: 'the rows cannot be asked what they hold',
    break: ({ store }, fail) => {
      const first = once(fail);
      return {
        store: {
          ...store,
          load: async (...wanted) => {
            first();
            return await store.load(...wanted);
          },
        },
      };
    },
    heard: 'disk-full',
    goesOn: true,
    sizeAfter: 4,
  },
  {
    name: 'tiles cannot be written',
    break: ({ options }, fail) => {
      const first = once(fail);
      return {
        files: {
          ...options.files,
          write: async (files) => {
            first();
            await options.files.write(files);
          },
        },
      };
    },
    heard: 3,
    goesOn: true,
    sizeAfter: 5,
  },
  {
    name: 'the log key does not sign a checkpoint',
    break: (_bench, fail) => {
      const first = once(fail);
      return {
        keys: {
          ...logKeys,
          signAsLog: async (message) => {
            if (Buffer.from(message).toString().startsWith(origin)) first();
            return await logKeys.signAsLog(message);
          },
        },
      };
    },
    heard: 3,
    goesOn: true,
    sizeAfter: 5,
  },
  {
    name: 'the log key signs something else',
    break: () => ({
      keys: {
        ...logKeys,
        signAsLog: async (message) => {
          const isCheckpoint = Buffer.from(message).toString().startsWith(origin);
          return await logKeys.signAsLog(isCheckpoint && isBroken ? Buffer.from('x') : message);
        },
      },
    }),
    heard: 3,
    goesOn: false,
    sizeAfter: 4,
  },
  {
    name: 'another process decided what is signed',
    break: ({ options }) => ({ signed: { read: options.signed.read, swap: async () => false } }),
    heard: 3,
    goesOn: false,
    sizeAfter: 4,
  },
  {
    name: 'the witnesses do not cosign at first',
    break: (_bench, fail) => {
      const first = once(fail);
      return {
        witness: async (note) => {
          try {
            first();
          } catch {
            return { note, isReached: false };
          }
          return { note, isReached: true };
        },
      };
    },
    heard: 3,
    goesOn: true,
    sizeAfter: 5,
  },
];

let isBroken = false;

describe('faults of the sequencer', () => {
  test.each(faults.map((fault) => [fault.name, fault] as const))('%s', async (_name, fault) => {
    isBroken = false;
    const bench = logBench();
    const founder = await bench.start();
    await joinAll(founder);
    await published(bench, 3);
    await founder.close();
    const lines: string[] = [];
    const log = createLogger({ name: 'log', level: 'warn', destination: { write: (line) => void lines.push(line) } });
    const fail = () => {
      isBroken = true;
      throw new AppError('disk-full');
    };
    const changes = fault.break(bench, fail);
    const ledger = await bench.start({ ...changes, log });
    isBroken = true;
    const heard = await ledger.register(agreementBody().body, provider.did).then(
      ({ index }) => index,
      (error: AppError) => error.code,
    );
    expect(heard).toBe(fault.heard);
    if (fault.heard === 3 && !fault.goesOn) await stopped(lines);
    const next = await ledger.register(agreementBody({ name: 'two' }).body, provider.did).then(
      ({ index }) => index,
      (error: AppError) => error.code,
    );
    expect(typeof next === 'number').toBe(fault.goesOn);
    if (!fault.goesOn) expect(next).toBe('log-stopped');
    if (fault.goesOn) await published(bench, fault.sizeAfter);
    expect(lines.length > 0 || fault.name.includes('its answer was lost')).toBe(true);
    await ledger.close();
    isBroken = false;
    const again = await bench.start();
    expect(again.size).toBe(fault.sizeAfter);
    await published(bench, fault.sizeAfter);
    expect((await again.audit({ repair: false })).damaged).toEqual([]);
    await again.close();
    const roots = Map.groupBy(bench.notes, (note) => note.split('\n')[1]);
    for (const notes of roots.values()) expect(new Set(notes.map((note) => note.split('\n')[2])).size).toBe(1);
  });
});

const stopped = async (lines: readonly string[]): Promise<void> => {
  for (let tries = 0; tries < 1_000 && !lines.some((line) => line.includes('the log stops')); tries += 1)
    await new Promise((resolve) => setTimeout(resolve, 1));
};
