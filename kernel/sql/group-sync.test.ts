import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import { afterAll, describe, expect, test } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import { tornWal } from '../../test/support/torn-wal.ts';
import { systemClock } from '../clock.ts';
import { type Random, seededRandom, systemRandom } from '../random.ts';
import { createGroupSync, type SyncedFile } from './group-sync.ts';
import { openSqlite } from './sqlite.ts';

interface Tables {
  thing: { id: number; part: number; body: string };
}

const folder = mkdtempSync(join(tmpdir(), 'stekker-group-sync-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const seed = process.env.STEKKER_TEST_SEED ?? Buffer.from(systemRandom.bytes(6)).toString('hex');
const below = (random: Random, limit: number): number => Buffer.from(random.bytes(4)).readUInt32BE() % limit;

const open = (path: string, rest: Partial<Parameters<typeof openSqlite>[0]> = {}) =>
  openSqlite<Tables>({ path, ...rest });

const withTable = async ({ db }: ReturnType<typeof open>) => {
  await db.schema
    .createTable('thing')
    .addColumn('id', 'integer', (column) => column.notNull())
    .addColumn('part', 'integer', (column) => column.notNull())
    .addColumn('body', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('thing_pk', ['id', 'part'])
    .execute();
};

type Database = ReturnType<typeof open>;

/** Writes and reads in one lane, and notes what it was told to be durable. */
const work = async ({ db, relaxed }: Database, random: Random, told: Set<number>, nextId: () => number) => {
  for (let step = 0; step < 12; step += 1) {
    const id = nextId();
    const body = 'x'.repeat(below(random, 9_000));
    switch (below(random, 5)) {
      case 0:
        await relaxed.insertInto('thing').values({ id: -id, part: 0, body }).execute();
        break;
      case 1: {
        const seen = await relaxed.selectFrom('thing').select('id').where('id', '>', 0).execute();
        for (const row of seen) told.add(row.id);
        break;
      }
      case 2:
        await db.insertInto('thing').values({ id, part: 0, body }).returning('id').execute();
        told.add(id);
        break;
      default:
        await db.transaction().execute(async (transaction) => {
          for (const part of [0, 1, 2]) await transaction.insertInto('thing').values({ id, part, body }).execute();
        });
        told.add(id);
    }
  }
};

/** One run of many lanes in which the power goes now and then; how much was at stake. */
const powerCuts = async (name: string) => {
  const random = seededRandom(name);
  const path = join(folder, `${name.replaceAll(/\W/g, '-')}.sqlite`);
  const pause = async () => systemClock.sleep(below(random, 4));
  const torn = tornWal(path, pause);
  await using database = open(path, { openWal: torn.openWal });
  await withTable(database);
  await sql.raw(`pragma wal_autocheckpoint = ${below(random, 2) === 0 ? 1_000 : 25}`).execute(database.db);
  const told = new Set<number>();
  let last = 0;
  const nextId = () => (last += 1);
  let unsynced = 0;
  let cuts = 0;
  let isDone = false;
  const cut = async () => {
    while (!isDone) {
      await systemClock.sleep(below(random, 8));
      const [image, known] = [`${path}.${cuts}`, [...told]];
      unsynced += torn.crash(image, random);
      cuts += 1;
      await using after = open(image);
      const rows = await after.db.selectFrom('thing').select(['id', 'part']).where('id', '>', 0).execute();
      const there = new Map<number, number>();
      for (const { id } of rows) there.set(id, (there.get(id) ?? 0) + 1);
      expect(
        known.filter((id) => !there.has(id)),
        `${name}: what was told to be durable`,
      ).toEqual([]);
      expect(
        [...there.values()].filter((parts) => parts === 2),
        `${name}: half a transaction`,
      ).toEqual([]);
    }
  };
  const lanes = Array.from({ length: 8 }, () => work(database, random, told, nextId));
  const working = Promise.all(lanes).finally(() => {
    isDone = true;
  });
  await Promise.all([working, cut()]);
  return { unsynced, cuts, commits: told.size, syncs: torn.syncs() };
};

describe('one sync for many commits', () => {
  test('a power cut takes nothing that was answered, read or claimed, wherever it tears the WAL', async () => {
    console.log(`seed ${seed}`);
    const all = { unsynced: 0, cuts: 0, commits: 0, syncs: 0 };
    for (const name of ['first', 'second', 'third', seed]) {
      const seen = await powerCuts(name);
      for (const key of ['unsynced', 'cuts', 'commits', 'syncs'] as const) all[key] += seen[key];
    }
    expect(all.cuts).toBeGreaterThan(20);
    expect(all.unsynced).toBeGreaterThan(100_000);
    expect(all.syncs).toBeLessThan(all.commits);
  });

  /** A sync that ends when it is told to. */
  const slowSync = () => {
    const begun: PromiseWithResolvers<void>[] = [];
    const file: SyncedFile = {
      sync: () => {
        const one = Promise.withResolvers<void>();
        begun.push(one);
        return one.promise;
      },
      close: () => undefined,
    };
    return { begun, file };
  };
  /** All that has been asked for is committed, and its sync has begun. */
  const settle = async () => {
    for (let turn = 0; turn < 4; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
  };

  test('others work while a sync is under way, and one sync ends for all that came before it', async () => {
    const { begun, file } = slowSync();
    await using database = open(join(folder, 'slow.sqlite'), { openWal: () => file });
    const ended: string[] = [];
    const creating = withTable(database).then(() => ended.push('table'));
    await settle();
    begun[0]?.resolve();
    await creating;
    const insert = (id: number) =>
      database.db
        .insertInto('thing')
        .values({ id, part: 0, body: '' })
        .execute()
        .then(() => ended.push(`row ${id}`));
    const first = insert(1);
    await settle();
    const second = insert(2);
    const claimed = database.relaxed
      .updateTable('thing')
      .set({ body: 'claimed' })
      .where('id', '=', 2)
      .executeTakeFirst()
      .then(({ numUpdatedRows }) => ended.push(`claimed ${numUpdatedRows}`));
    await settle();
    expect(ended).toEqual(['table']);
    expect(begun).toHaveLength(2);
    begun[1]?.resolve();
    await first;
    await settle();
    expect(ended).toEqual(['table', 'row 1']);
    expect(begun).toHaveLength(3);
    begun[2]?.resolve();
    await Promise.all([second, claimed]);
    expect(ended.toSorted()).toEqual(['claimed 1', 'row 1', 'row 2', 'table']);
    expect(begun).toHaveLength(3);
  });

  test('what changed nothing, and what need not be durable, asks for no sync', async () => {
    const { begun, file } = slowSync();
    await using database = open(join(folder, 'idle.sqlite'), { openWal: () => file });
    const creating = withTable(database);
    await settle();
    begun[0]?.resolve();
    await creating;
    const { db, relaxed } = database;
    await relaxed.insertInto('thing').values({ id: 1, part: 0, body: '' }).execute();
    await db.updateTable('thing').set({ body: 'x' }).where('id', '=', 2).execute();
    await db.selectFrom('thing').selectAll().execute();
    await db
      .transaction()
      .execute(async (transaction) => {
        await transaction.deleteFrom('thing').execute();
        throw new Error('changed my mind');
      })
      .catch(() => undefined);
    expect(begun).toHaveLength(1);
    expect(await db.selectFrom('thing').select('body').execute()).toMatchObject([{ body: '' }]);
  });

  test.each([
    ['ENOSPC', 'disk-full'],
    ['EIO', 'database-unavailable'],
  ])('a sync that fails with %s fails all that waited, and nothing works until a new start', async (code, fault) => {
    const { begun, file } = slowSync();
    const faults: AppError[] = [];
    const path = join(folder, `fails-${code}.sqlite`);
    {
      await using database = open(path, { openWal: () => file, onFault: (one) => faults.push(one) });
      const creating = withTable(database);
      await settle();
      begun[0]?.resolve();
      await creating;
      const insert = (id: number) => database.db.insertInto('thing').values({ id, part: 0, body: '' }).execute();
      const waiting = [insert(1), insert(2), database.relaxed.selectFrom('thing').selectAll().execute()];
      await settle();
      begun[1]?.reject(Object.assign(new Error('the disk said no'), { code }));
      const outcomes = await Promise.allSettled(waiting);
      for (const outcome of outcomes) expect(outcome).toMatchObject({ status: 'rejected', reason: { code: fault } });
      await expect(insert(3)).rejects.toMatchObject({ code: fault });
      await expect(database.relaxed.selectFrom('thing').selectAll().execute()).rejects.toBeInstanceOf(AppError);
      expect(faults.map((one) => one.code)).toEqual([fault]);
      expect(begun).toHaveLength(2);
    }
    await using again = open(path);
    expect(await again.db.selectFrom('thing').select('id').where('id', '=', 3).execute()).toEqual([]);
  });

  test('what is committed while a sync is under way waits for the next', async () => {
    const { begun, file } = slowSync();
    const sync = createGroupSync({ open: () => file, onFault: () => undefined });
    const ended: string[] = [];
    const commit = (name: string) => {
      sync.committed();
      void sync.settled().then(() => ended.push(name));
    };
    expect(sync.underWay()).toBeUndefined();
    commit('first');
    expect(sync.underWay()).toBeDefined();
    commit('late');
    begun[0]?.resolve();
    await settle();
    expect(ended).toEqual(['first']);
    begun[1]?.resolve();
    await settle();
    expect(ended).toEqual(['first', 'late']);
    expect(begun).toHaveLength(2);
    expect(sync.underWay()).toBeUndefined();
    await sync.close();
  });

  test('a file that cannot be opened is a failed sync', async () => {
    const faults: AppError[] = [];
    const sync = createGroupSync({
      open: () => {
        throw Object.assign(new Error('gone'), { code: 'ENOENT' });
      },
      onFault: (fault) => faults.push(fault),
    });
    await sync.settled();
    sync.committed();
    await expect(sync.settled()).rejects.toMatchObject({ code: 'database-unavailable' });
    expect(() => sync.check()).toThrow(AppError);
    expect(faults).toHaveLength(1);
    await sync.close();
  });
});
