import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { fileSignedStore } from '../../broker/adapters/files/signed-store.ts';
import { sqlHandoverStore } from '../../broker/adapters/sql/log-handover.ts';
import { sqlWriterLease } from '../../broker/adapters/sql/log-lease.ts';
import { sqlFoundedAs, sqlLogStore } from '../../broker/adapters/sql/log-store.ts';
import { type LogTables, logMigrations } from '../../broker/adapters/sql/log-tables.ts';
import type { Batch, HandoverStore, LogStore, Published, WriterLease } from '../../broker/ledger/ports.ts';
import { manualClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createLeases, leaseMigrations } from '../../kernel/sql/leases.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { onDatabases } from '../support/databases.ts';
import { tornFiles } from '../support/torn-files.ts';

/** What the processes of one log share: the lease of its writer, and the queue before it. */

const origin = 'broker.example/log/2026';
const start = 1_795_431_600_000;

interface Shared {
  readonly clock: ReturnType<typeof manualClock>;
  readonly leaseOf: (holder: string) => WriterLease;
  readonly queue: HandoverStore;
  readonly rows: LogStore;
  readonly foundedAs: (host: string, proposed: string) => Promise<string>;
}

const adapters: Readonly<Record<string, () => Promise<Shared>>> = onDatabases(async (db: Kysely<LogTables>) => {
  await migrate(db, 'leases', leaseMigrations);
  await migrate(db, 'ledger', logMigrations);
  const clock = manualClock(start);
  return {
    clock,
    leaseOf: (holder) => sqlWriterLease(db, createLeases({ db, clock, holder })),
    queue: sqlHandoverStore(db),
    rows: sqlLogStore(db),
    foundedAs: (host, proposed) => sqlFoundedAs(db, host, proposed),
  };
});

const batch = (from: number, fence: number | null): Batch => ({
  from,
  fence,
  head: { size: from + 1, root: `root${from + 1}`, stack: [] },
  entries: [
    {
      entry: { index: from, leaf: `leaf${from}`, entry: '{}', at: start },
      subject: {
        kind: 'public',
        row: { index: from, kind: 'key-event', text: '{}', at: start },
        joinCode: null,
      },
      artifact: { index: from, digest: `digest${from}`, agreementDigest: null, text: '{}' },
    },
  ],
});

const checkpoint = (size: number): Published => ({ size, root: `root${size}`, note: `note ${size}` });

describe.each(Object.entries(adapters))('WriterLease, HandoverStore on %s', (_name, make) => {
  test('one process has the lease at a time; it ends by itself, and a given one is free at once', async () => {
    const { clock, leaseOf } = await make();
    const [a, b] = [leaseOf('a'), leaseOf('b')];
    const first = await a.take(1_000);
    expect(await b.take(1_000)).toBeUndefined();
    clock.advance(900);
    expect(await a.renew(first ?? 0, 1_000)).toBe(true);
    clock.advance(900);
    expect(await b.take(1_000)).toBeUndefined();
    clock.advance(100);
    const second = await b.take(1_000);
    expect(second).toBeGreaterThan(first ?? 0);
    expect([await a.isHeld(first ?? 0), await b.isHeld(second ?? 0)]).toEqual([false, true]);
    expect(await a.renew(first ?? 0, 1_000)).toBe(false);
    await a.release(first ?? 0);
    expect(await b.isHeld(second ?? 0)).toBe(true);
    await b.release(second ?? 0);
    expect(await a.take(1_000)).toBeGreaterThan(second ?? 0);
  });

  test('of many that ask at once exactly one gets it', async () => {
    const { leaseOf } = await make();
    const asked = await Promise.all(Array.from({ length: 8 }, (_, index) => leaseOf(String(index)).take(1_000)));
    expect(asked.filter((fence) => fence !== undefined)).toHaveLength(1);
  });

  test('whoever lost the lease writes no row, no checkpoint and no answer, however late it comes', async () => {
    const { clock, leaseOf, queue, rows } = await make();
    const old = await leaseOf('a').take(1_000);
    expect(await rows.commit(origin, batch(0, old ?? 0))).toBe('committed');
    expect(await rows.publish(origin, checkpoint(1), old ?? 0)).toBe('published');
    clock.advance(1_000);
    const own = await leaseOf('b').take(1_000);
    await queue.put(origin, [{ id: '1', candidate: 'one' }]);
    expect(await rows.commit(origin, batch(1, old ?? 0))).toBe('fenced');
    expect(await rows.publish(origin, checkpoint(2), old ?? 0)).toBe('fenced');
    const answers = [{ id: '1', outcome: 'refused' }];
    expect(await queue.answer(origin, answers, { at: start, fence: old ?? 0 })).toBe('fenced');
    expect(await rows.head(origin)).toEqual(batch(0, null).head);
    expect(await rows.entries(origin, 0, 9)).toHaveLength(1);
    expect(await rows.published(origin)).toEqual(checkpoint(1));
    expect(await queue.waiting(origin, 9)).toEqual([{ id: '1', candidate: 'one' }]);
    expect(await queue.answers(origin, ['1'])).toEqual([]);
    expect(await rows.commit(origin, batch(1, own ?? 0))).toBe('committed');
    expect(await rows.publish(origin, checkpoint(2), own ?? 0)).toBe('published');
    expect(await queue.answer(origin, answers, { at: start, fence: own ?? 0 })).toBe('answered');
  });

  test('a checkpoint never goes back', async () => {
    const { rows } = await make();
    expect(await rows.published(origin)).toBeUndefined();
    for (const size of [3, 2, 3, 5]) await rows.publish(origin, checkpoint(size), null);
    expect(await rows.published(origin)).toEqual(checkpoint(5));
    await rows.publish(origin, checkpoint(4), null);
    expect(await rows.published(origin)).toEqual(checkpoint(5));
    expect(await rows.published('broker.example/log/2027')).toBeUndefined();
  });

  test('what is handed over waits in order until it is answered, and an answer until it was read', async () => {
    const { queue } = await make();
    const handed = ['1', '2', '3', '4'].map((id) => ({ id, candidate: `candidate ${id}` }));
    await queue.put(origin, handed.slice(2));
    await queue.put(origin, handed.slice(0, 2));
    await queue.put('broker.example/log/2027', [{ id: '0', candidate: 'of another log' }]);
    expect(await queue.waiting(origin, 3)).toEqual(handed.slice(0, 3));
    const told = (id: string, outcome = `told ${id}`) => ({ id, outcome });
    await queue.answer(origin, [told('2'), told('4')], { at: start, fence: null });
    await queue.answer(origin, [told('2', 'other')], { at: start, fence: null });
    expect((await queue.waiting(origin, 9)).map(({ id }) => id)).toEqual(['1', '3']);
    expect(await queue.answers(origin, ['4', '2', '3'])).toEqual([told('2'), told('4')]);
    await queue.forget(origin, ['2'], 0);
    expect(await queue.answers(origin, ['2', '4'])).toEqual([told('4')]);
    await queue.forget(origin, [], start + 1);
    expect(await queue.answers(origin, ['2', '4'])).toEqual([]);
    expect(await queue.waiting('broker.example/log/2027', 9)).toHaveLength(1);
  });

  test('of several names that are proposed for a log the first counts', async () => {
    const { foundedAs } = await make();
    const both = await Promise.all([
      foundedAs('b.example', 'b.example/log/2026'),
      foundedAs('b.example', 'b.example/log/2027'),
    ]);
    expect(new Set(both).size).toBe(1);
    expect(await foundedAs('b.example', 'b.example/log/2028')).toBe(both[0]);
    expect(await foundedAs('c.example', 'c.example/log/2028')).toBe('c.example/log/2028');
  });
});

describe('the intent among several processes', () => {
  test('once a process decided under its own fence, no line of an earlier writer counts', async () => {
    const files = tornFiles();
    const open = (token: string) => fileSignedStore({ files, crypto: nodeCrypto, token }, '/intent');
    const [a, b] = [open('a'), open('b')];
    const first = { size: 7, root: 'r7', fence: 1 };
    expect(await a.swap(undefined, first)).toBe(true);
    expect(await b.swap(first, { size: 7, root: 'r7', fence: 2 })).toBe(true);
    expect(await a.swap(first, { size: 9, root: 'r9', fence: 1 })).toBe(false);
    expect(await b.read()).toEqual({ size: 7, root: 'r7', fence: 2 });
    expect(await b.swap({ size: 7, root: 'r7', fence: 2 }, { size: 8, root: 'r8', fence: 2 })).toBe(true);
    expect(await open('c').read()).toEqual({ size: 8, root: 'r8', fence: 2 });
  });
});
