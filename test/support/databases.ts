import type { Kysely } from 'kysely';
import { afterAll, expect, TestRunner, test } from 'vitest';
import { silentLogger } from '../../kernel/log.ts';
import { type Database, openDatabase } from '../../kernel/sql/database.ts';
import { hasPostgres, type Postgres, startPostgres } from './postgres.ts';

/** The databases that a store must be right on, empty ones, for the suites of a file. */

const opened: AsyncDisposable[] = [];
let server: Promise<Postgres> | undefined;

/** The server of this file, started when a suite first asks for it. */
export const postgresOfFile = (): Promise<Postgres> => {
  server ??= startPostgres();
  return server;
};

afterAll(async () => {
  for (const one of opened) await one[Symbol.asyncDispose]();
  await (await server)?.[Symbol.asyncDispose]();
});

test.skipIf(!hasPostgres())('there is a PostgreSQL for this machine, or the suites on it are left out', () => {
  expect(hasPostgres()).toBe(true);
});

const fail = (fault: unknown): never => {
  throw fault;
};

const open = async <Tables>(url: string | undefined): Promise<Database<Tables>> => {
  const database = await openDatabase<Tables>({ url, path: ':memory:', log: silentLogger, fail });
  opened.push(database);
  return database;
};

type Open = <Tables>() => Promise<Database<Tables>>;

/** Where no PostgreSQL can run: the test that asks for one is listed as left out, and its promise is not counted as broken. */
export const leftOut = async (): Promise<never> => {
  const asking = TestRunner.getCurrentTest();
  if (asking === undefined) throw new Error('only a test can be left out');
  return asking.context.skip('there is no PostgreSQL for this machine');
};

/** Each gives a database that nobody else has. */
export const databases: Readonly<Record<string, Open>> = {
  sqlite: () => open(undefined),
  postgres: hasPostgres() ? async () => open(await (await postgresOfFile()).database()) : leftOut,
};

/** For suites that list their adapters: one for each database, made out of an empty one. */
export const onDatabases = <Tables, Rest extends unknown[], Adapter>(
  make: (db: Kysely<Tables>, ...rest: Rest) => Promise<Adapter>,
): Readonly<Record<string, (...rest: Rest) => Promise<Adapter>>> =>
  Object.fromEntries(
    Object.entries(databases).map(([name, empty]) => [
      name,
      async (...rest: Rest) => make((await empty<Tables>()).db, ...rest),
    ]),
  );
