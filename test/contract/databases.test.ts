import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { type Database, openDatabase } from '../../kernel/sql/database.ts';
import { type Migration, migrate } from '../../kernel/sql/migrate.ts';
import { databases, postgresOfFile } from '../support/databases.ts';
import { hasPostgres } from '../support/postgres.ts';

/** What every store relies on, whichever database is below. */

interface Tables {
  thing: { id: string; count: number };
  numbered: { n: number };
}

const things: readonly Migration<Tables>[] = [
  {
    name: '2026-01-01-things',
    up: async ({ schema }) => {
      await schema
        .createTable('thing')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('count', 'bigint', (column) => column.notNull())
        .execute();
      await schema
        .createTable('numbered')
        .addColumn('n', 'bigint', (column) => column.primaryKey())
        .execute();
    },
  },
];

const add = (db: Kysely<Tables>, id: string, count = 0) => db.insertInto('thing').values({ id, count }).execute();
const countOf = async (db: Kysely<Tables>, id: string) =>
  (await db.selectFrom('thing').select('count').where('id', '=', id).executeTakeFirstOrThrow()).count;

describe.each(Object.entries(databases))('database: %s', (_name, empty) => {
  const open = async (): Promise<Database<Tables>> => {
    const database = await empty<Tables>();
    await migrate(database.db, 'things', things);
    return database;
  };

  test('large integers come back as the numbers they are, and counts too', async () => {
    const { db } = await open();
    for (const count of [0, -1, 1_795_000_000_000, Number.MAX_SAFE_INTEGER]) await add(db, `of ${count}`, count);
    expect(await countOf(db, 'of 1795000000000')).toBe(1_795_000_000_000);
    expect(await countOf(db, `of ${Number.MAX_SAFE_INTEGER}`)).toBe(Number.MAX_SAFE_INTEGER);
    const all = await db
      .selectFrom('thing')
      .select(({ fn }) => fn.countAll<number>().as('all'))
      .executeTakeFirst();
    expect(all?.all).toBe(4);
  });

  test('says how many rows changed', async () => {
    const { db } = await open();
    for (const id of ['a', 'b', 'c']) await add(db, id);
    const one = (query: { readonly executeTakeFirst: () => Promise<object | undefined> }) => query.executeTakeFirst();
    expect(await one(db.updateTable('thing').set({ count: 1 }).where('id', '>', 'a'))).toEqual({ numUpdatedRows: 2n });
    expect(await one(db.deleteFrom('thing').where('id', '=', 'z'))).toEqual({ numDeletedRows: 0n });
    const repeated = db
      .insertInto('thing')
      .values({ id: 'a', count: 9 })
      .onConflict((its) => its.doNothing());
    expect(await repeated.executeTakeFirst()).toMatchObject({ numInsertedOrUpdatedRows: 0n });
  });

  test('text has the order of its bytes, so pages by key leave nothing out', async () => {
    const { db } = await open();
    const ids = ['a', 'B', 'b', 'A', 'é', 'e', 'z', 'Z', '~', '_', '-', '10', '9', 'ab', 'a b', 'urn:x', 'urn-x', '🌊'];
    for (const id of ids) await add(db, id);
    const seen: string[] = [];
    for (;;) {
      const page = await db
        .selectFrom('thing')
        .select('id')
        .where('id', '>', seen.at(-1) ?? '')
        .orderBy('id')
        .limit(3)
        .execute();
      if (page.length === 0) break;
      seen.push(...page.map(({ id }) => id));
    }
    expect(seen).toEqual(ids.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
  });

  test('transactions that read, compute and write at once behave as one after the other', async () => {
    const { db } = await open();
    await add(db, 'sum');
    const addOne = () =>
      db.transaction().execute(async (transaction) => {
        const count = await countOf(transaction, 'sum');
        await transaction
          .updateTable('thing')
          .set({ count: count + 1 })
          .where('id', '=', 'sum')
          .execute();
      });
    await Promise.all(Array.from({ length: 30 }, addOne));
    expect(await countOf(db, 'sum')).toBe(30);
  });

  test('transactions that number their rows from a count at once give each a number of its own', async () => {
    const { db } = await open();
    await add(db, 'last');
    const number = () =>
      db.transaction().execute(async (transaction) => {
        const n = (await countOf(transaction, 'last')) + 1;
        await transaction.insertInto('numbered').values({ n }).execute();
        await transaction.updateTable('thing').set({ count: n }).where('id', '=', 'last').execute();
      });
    await Promise.all(Array.from({ length: 8 }, number));
    const rows = await db.selectFrom('numbered').select('n').orderBy('n').execute();
    expect(rows.map(({ n }) => n)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test('two that take the same rows in another order both end', async () => {
    const { db } = await open();
    for (const id of ['a', 'b']) await add(db, id);
    const both = (order: readonly string[]) =>
      db.transaction().execute(async (transaction) => {
        for (const id of order)
          await transaction
            .updateTable('thing')
            .set((its) => ({ count: its('count', '+', 1) }))
            .where('id', '=', id)
            .execute();
      });
    await Promise.all(Array.from({ length: 10 }, (_, n) => both(n % 2 === 0 ? ['a', 'b'] : ['b', 'a'])));
    expect(await Promise.all(['a', 'b'].map((id) => countOf(db, id)))).toEqual([10, 10]);
  });

  test('a transaction that throws leaves nothing behind, and is not done again', async () => {
    const { db } = await open();
    let runs = 0;
    const failing = db.transaction().execute(async (transaction) => {
      runs += 1;
      await add(transaction, 'a');
      throw new Error('changed my mind');
    });
    await expect(failing).rejects.toThrow('changed my mind');
    expect(await db.selectFrom('thing').selectAll().execute()).toEqual([]);
    expect(runs).toBe(1);
  });

  test('what is written relaxed is seen by both handles at once', async () => {
    const { db, relaxed } = await open();
    await add(relaxed, 'a', 1);
    expect(await countOf(db, 'a')).toBe(1);
    await relaxed.updateTable('thing').set({ count: 2 }).execute();
    expect(await countOf(db, 'a')).toBe(2);
  });

  test('a unique value that is taken is refused, and a column that cannot hold a value is our fault', async () => {
    const { db } = await open();
    await add(db, 'a');
    await expect(add(db, 'a')).rejects.toThrow(/unique/i);
    await expect(db.transaction().execute((transaction) => add(transaction, 'a'))).rejects.toThrow(/unique/i);
    await expect(add(db, 'b', true as unknown as number)).rejects.toMatchObject({ code: 'invariant-broken' });
  });

  test('many that start at once make the tables once', async () => {
    const { db } = await empty<Tables>();
    let steps = 0;
    const counted = things.map(({ name, up }) => ({
      name,
      up: async (transaction: Kysely<Tables>) => {
        await up(transaction);
        steps += 1;
      },
    }));
    await Promise.all(Array.from({ length: 8 }, () => migrate(db, 'things', counted)));
    expect(steps).toBe(1);
    await add(db, 'a');
  });

  test('tables of a newer version are refused by name', async () => {
    const { db } = await open();
    await migrate(db, 'things', [...things, { name: '2027-01-01-later', up: async () => undefined }]);
    await expect(migrate(db, 'things', things)).rejects.toMatchObject({
      code: 'data-newer',
      detail: expect.stringContaining('2027-01-01-later'),
    });
  });
});

describe.runIf(hasPostgres())('a PostgreSQL that is away', () => {
  const open = async () => {
    const server = await postgresOfFile();
    const url = await server.database();
    const fail = () => undefined;
    const database = await openDatabase<Tables>({ url, path: 'unused', log: silentLogger, fail });
    await migrate(database.db, 'things', things);
    return { server, ...database };
  };

  test('is a fault that has a code, and everything goes on when it is back', async () => {
    await using its = await open();
    await add(its.db, 'a');
    const pending = its.db.transaction().execute(async (transaction) => {
      await add(transaction, 'b');
      await its.server.restart();
      await add(transaction, 'c');
    });
    await expect(pending).rejects.toMatchObject({ code: 'database-unavailable', status: 503 });
    await add(its.db, 'd');
    const ids = await its.relaxed.selectFrom('thing').select('id').orderBy('id').execute();
    expect(ids.map(({ id }) => id)).toEqual(['a', 'd']);
  });

  test('is told at the start, without what is secret in its address', async () => {
    const wrong = (url: string) =>
      openDatabase<Tables>({ url, path: 'unused', log: silentLogger, fail: () => undefined });
    const away = await wrong('postgresql://me:hidden@127.0.0.1:1/x').catch((error: unknown) => error);
    expect(away).toMatchObject({ code: 'database-unavailable' });
    const url = new URL(await (await postgresOfFile()).database());
    url.pathname = '/no-such-database';
    const missing = await wrong(url.href).catch((error: unknown) => error);
    expect(missing).toMatchObject({ code: 'config-invalid' });
    expect(String(away) + String(missing)).not.toContain('hidden');
  });

  test('a text that it cannot keep is a fault of whoever sent it', async () => {
    await using its = await open();
    await expect(add(its.db, 'a\u0000b')).rejects.toMatchObject({ code: 'body-invalid', status: 400 });
    await add(its.db, 'c');
  });

  test('a statement that was prepared before a table changed is prepared anew', async () => {
    await using its = await open();
    await add(its.db, 'a', 7);
    const all = () => its.db.selectFrom('thing').selectAll().execute();
    expect(await all()).toHaveLength(1);
    await its.relaxed.schema.alterTable('thing').addColumn('more', 'text').execute();
    expect(await all()).toEqual([{ id: 'a', count: 7, more: null }]);
  });

  test('who writes a row that another is writing waits for it', async () => {
    await using its = await open();
    await add(its.db, 'a');
    const order: string[] = [];
    const first = its.db.transaction().execute(async (transaction) => {
      await transaction.updateTable('thing').set({ count: 1 }).execute();
      await systemClock.sleep(50);
      order.push('first');
    });
    await systemClock.sleep(10);
    await its.relaxed.updateTable('thing').set({ count: 2 }).execute();
    order.push('second');
    await first;
    expect(order).toEqual(['first', 'second']);
    expect(await countOf(its.db, 'a')).toBe(2);
  });
});
