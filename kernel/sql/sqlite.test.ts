import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Kysely } from 'kysely';
import { afterAll, describe, expect, test } from 'vitest';
import { migrate } from './migrate.ts';
import { openSqlite } from './sqlite.ts';

interface Tables {
  thing: { id: string; count: number; note: string | null };
}

const folder = mkdtempSync(join(tmpdir(), 'stekker-sqlite-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const first = {
  name: '2026-01-01-first',
  up: async (db: Kysely<Tables>) => {
    await db.schema
      .createTable('thing')
      .addColumn('id', 'text', (column) => column.primaryKey())
      .addColumn('count', 'bigint', (column) => column.notNull())
      .addColumn('note', 'text')
      .execute();
  },
};

const fresh = async (name: string) => {
  const sqlite = openSqlite<Tables>({ path: join(folder, name, 'rows.sqlite') });
  await migrate(sqlite.db, 'things', [first]);
  return sqlite;
};

describe('sqlite', () => {
  test('writes and reads, and says how many rows changed', async () => {
    await using sqlite = await fresh('plain');
    const { db } = sqlite;
    await db
      .insertInto('thing')
      .values([
        { id: 'a', count: 1, note: null },
        { id: 'b', count: 2 ** 40, note: 'x' },
      ])
      .execute();
    const changed = await db.updateTable('thing').set({ note: 'y' }).where('count', '>', 0).executeTakeFirst();
    expect(changed.numUpdatedRows).toBe(2n);
    const rows = await db.selectFrom('thing').selectAll().orderBy('id').execute();
    expect(rows.map((row) => ({ ...row }))).toEqual([
      { id: 'a', count: 1, note: 'y' },
      { id: 'b', count: 2 ** 40, note: 'y' },
    ]);
  });

  test('a transaction that throws leaves nothing, and others wait for it', async () => {
    await using sqlite = await fresh('transaction');
    const { db } = sqlite;
    const failing = db.transaction().execute(async (transaction) => {
      await transaction.insertInto('thing').values({ id: 'a', count: 1, note: null }).execute();
      throw new Error('changed my mind');
    });
    const waiting = db.insertInto('thing').values({ id: 'b', count: 1, note: null }).execute();
    await expect(failing).rejects.toThrow('changed my mind');
    await waiting;
    const ids = await db.selectFrom('thing').select('id').execute();
    expect(ids.map(({ id }) => id)).toEqual(['b']);
  });

  test('of transactions that are committed together one that throws is undone alone', async () => {
    await using sqlite = await fresh('together');
    const { db } = sqlite;
    const add = (id: string, fails: boolean) =>
      db.transaction().execute(async (transaction) => {
        await transaction.insertInto('thing').values({ id, count: 1, note: null }).execute();
        if (fails) throw new Error(id);
      });
    const plain = (id: string) => db.insertInto('thing').values({ id, count: 1, note: null }).execute();
    const seen = db.selectFrom('thing').select('id').execute();
    const outcomes = await Promise.allSettled([
      add('first fails', true),
      add('a', false),
      add('fails', true),
      plain('b'),
      plain('a'),
      add('a', false),
      add('c', false),
      add('last fails', true),
    ]);
    const states = outcomes.map(({ status }) => (status === 'fulfilled' ? 1 : 0));
    expect(states).toEqual([0, 1, 0, 1, 0, 0, 1, 0]);
    expect(await seen).toEqual([]);
    const ids = await db.selectFrom('thing').select('id').orderBy('id').execute();
    expect(ids.map(({ id }) => id)).toEqual(['a', 'b', 'c']);
  });

  test('a disk that is full fails what does not fit, and what is answered stands', async () => {
    await using sqlite = await fresh('full-together');
    const { sql } = await import('kysely');
    const { db } = sqlite;
    await sql`pragma max_page_count = 40`.execute(db);
    const add = async (id: string, bytes: number) => {
      await db.transaction().execute(async (transaction) => {
        await transaction
          .insertInto('thing')
          .values({ id, count: 1, note: 'x'.repeat(bytes) })
          .execute();
        await transaction
          .insertInto('thing')
          .values({ id: `${id} too`, count: 2, note: null })
          .execute();
      });
      return id;
    };
    const sizes = [100, 20_000, 300_000, 100, 60_000, 80_000, 100];
    const outcomes = await Promise.allSettled(sizes.map((bytes, place) => add(`row ${place}`, bytes)));
    const kept = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    for (const outcome of outcomes)
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'disk-full' });
    expect(kept.length).toBeLessThan(sizes.length);
    const rows = await db.selectFrom('thing').select('id').orderBy('id').execute();
    expect(rows.map(({ id }) => id)).toEqual(kept.flatMap((id) => [id, `${id} too`]));
    await sql`pragma max_page_count = 4000`.execute(db);
    await add('row 9', 300_000);
    expect(await db.selectFrom('thing').select('id').execute()).toHaveLength(2 * kept.length + 2);
  });

  test('relaxed writes are seen at once, and wait for transactions', async () => {
    await using sqlite = await fresh('relaxed');
    const { db, relaxed } = sqlite;
    const writing = db.transaction().execute(async (transaction) => {
      await transaction.insertInto('thing').values({ id: 'a', count: 1, note: null }).execute();
      await transaction.insertInto('thing').values({ id: 'b', count: 1, note: null }).execute();
    });
    const removed = await relaxed.deleteFrom('thing').where('count', '=', 1).executeTakeFirst();
    await writing;
    expect(removed.numDeletedRows).toBe(2n);
    expect(await db.selectFrom('thing').selectAll().execute()).toEqual([]);
  });

  test('a unique value is refused, a column that cannot hold a value is our fault', async () => {
    await using sqlite = await fresh('unique');
    const { db } = sqlite;
    await db.insertInto('thing').values({ id: 'a', count: 1, note: null }).execute();
    await expect(db.insertInto('thing').values({ id: 'a', count: 1, note: null }).execute()).rejects.toThrow('UNIQUE');
    const odd = { id: 'c', count: true as unknown as number, note: null };
    await expect(db.insertInto('thing').values(odd).execute()).rejects.toMatchObject({ code: 'invariant-broken' });
  });

  test('steps run once; a database of a newer version is refused by name', async () => {
    await using sqlite = await fresh('newer');
    await migrate(sqlite.db, 'things', [first]);
    await migrate(sqlite.db, 'things', [first, { name: '2026-02-01-second', up: async () => undefined }]);
    await migrate(sqlite.db, 'others', []);
    await expect(migrate(sqlite.db, 'things', [first])).rejects.toMatchObject({
      code: 'data-newer',
      detail: expect.stringContaining('2026-02-01-second'),
    });
  });

  test('a step that fails leaves no trace and can be repeated', async () => {
    await using sqlite = await fresh('failing');
    let isBroken = true;
    const step = {
      name: '2026-03-01-third',
      up: async (db: Kysely<Tables>) => {
        await db.insertInto('thing').values({ id: 'z', count: 1, note: null }).execute();
        if (isBroken) throw new Error('no');
      },
    };
    await expect(migrate(sqlite.db, 'things', [first, step])).rejects.toThrow('no');
    expect(await sqlite.db.selectFrom('thing').selectAll().execute()).toEqual([]);
    isBroken = false;
    await migrate(sqlite.db, 'things', [first, step]);
    expect(await sqlite.db.selectFrom('thing').selectAll().execute()).toHaveLength(1);
  });

  test('a database that may not grow says that the disk is full', async () => {
    await using sqlite = await fresh('full');
    const { sql } = await import('kysely');
    await sql`pragma max_page_count = 8`.execute(sqlite.db);
    const note = 'x'.repeat(100_000);
    await expect(sqlite.db.insertInto('thing').values({ id: 'a', count: 1, note }).execute()).rejects.toMatchObject({
      code: 'disk-full',
    });
  });
});
