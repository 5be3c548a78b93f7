import { sql } from 'kysely';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { seededRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import {
  dueRows,
  type HandOver,
  hurryTask,
  nextRow,
  type OutboxTable,
  outboxMigrations,
  putTask,
  startOutbox,
  type Task,
} from '../../kernel/sql/outbox.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { databases } from '../support/databases.ts';

const openOutbox = async (empty: (typeof databases)[string]) => {
  const { db } = await empty<OutboxTable>();
  await migrate(db, 'outbox', outboxMigrations);
  return db;
};
type Database = Awaited<ReturnType<typeof openOutbox>>;
const task = (id: string) => ({ id, topic: 'mail', participant: 'us', subject: id });
const until = async (holds: () => boolean) => {
  for (let tries = 0; tries < 2_000 && !holds(); tries += 1) await systemClock.sleep(2);
  expect(holds()).toBe(true);
};
const note =
  (done: string[]) =>
  async ({ id }: Task) => {
    done.push(id);
    return 'done' as const;
  };
const base = { clock: systemClock, random: seededRandom('outbox'), log: silentLogger, pollMs: 20 };

describe.each(Object.entries(databases))('outbox on %s', (_name, empty) => {
  const open = () => openOutbox(empty);

  test('runs what was saved, and takes it away', async () => {
    const db = await open();
    const done: string[] = [];
    await using worker = startOutbox({ ...base, db, handlers: { mail: note(done) } });
    await db.transaction().execute(async (transaction) => {
      await putTask(transaction, task('a'), 0);
      await putTask(transaction, task('b'), 0);
    });
    worker.wake();
    await until(() => done.length === 2);
    await until(() => done.toSorted().join() === 'a,b');
  });

  test('a transaction that fails asks for nothing', async () => {
    const db = await open();
    const done: string[] = [];
    await using worker = startOutbox({ ...base, db, handlers: { mail: note(done) } });
    await db
      .transaction()
      .execute(async (transaction) => {
        await putTask(transaction, task('a'), 0);
        throw new Error('rolled back');
      })
      .catch(() => undefined);
    await putTask(db, task('b'), 0);
    worker.wake();
    await until(() => done.length === 1);
    expect(done).toEqual(['b']);
  });

  test('what fails is tried again, later and later, and the others go on', async () => {
    const db = await open();
    const tries: Task[] = [];
    const done: string[] = [];
    const mail = async (one: Task) => {
      if (one.id !== 'bad') return note(done)(one);
      tries.push(one);
      if (tries.length === 1) throw new Error('broken');
      return tries.length < 3 ? ('later' as const) : ('done' as const);
    };
    await using worker = startOutbox({ ...base, db, handlers: { mail } });
    await putTask(db, task('bad'), 0);
    await putTask(db, task('good'), 0);
    worker.wake();
    await until(() => tries.length === 3);
    expect(tries.map((one) => one.attempts)).toEqual([0, 1, 2]);
    expect(done).toEqual(['good']);
  });

  test('one slow task holds up nobody, and a task is never run twice at once', async () => {
    const db = await open();
    const { promise, resolve } = Promise.withResolvers<void>();
    const started: string[] = [];
    const mail = async ({ id }: Task) => {
      started.push(id);
      if (id === 'slow') await promise;
      return 'done' as const;
    };
    const worker = startOutbox({ ...base, db, handlers: { mail }, maxConcurrent: 4 });
    for (const id of ['slow', 'a', 'b', 'c', 'd', 'e']) await putTask(db, task(id), 0);
    worker.wake();
    await until(() => started.length === 6);
    resolve();
    await worker[Symbol.asyncDispose]();
    expect(started.toSorted()).toEqual(['a', 'b', 'c', 'd', 'e', 'slow']);
    expect(await db.selectFrom('outbox').selectAll().execute()).toEqual([]);
  });

  test('what a crash left under way waits for its lease, but not in rows that nobody else works on', async () => {
    const db = await open();
    const done: string[] = [];
    const leased = async (id: string) => {
      await putTask(db, task(id), 0);
      await db
        .updateTable('outbox')
        .set({ leased_until: systemClock.now() + 60_000 })
        .where('id', '=', id)
        .execute();
    };
    await leased('a');
    {
      await using _worker = startOutbox({ ...base, db, handlers: { mail: note(done) } });
      await systemClock.sleep(100);
      expect(done).toEqual([]);
    }
    await using _worker = startOutbox({ ...base, db, handlers: { mail: note(done) }, isAlone: true });
    await until(() => done.length === 1);
    expect(done).toEqual(['a']);
  });

  test('several workers share the rows: each task runs once, and nobody waits for another', async () => {
    const db = await open();
    const runs = new Map<string, number>();
    const all = Array.from({ length: 120 }, (_, n) => `task ${n}`);
    for (const id of all) await putTask(db, task(id), 0);
    const mail = async ({ id }: Task) => {
      runs.set(id, (runs.get(id) ?? 0) + 1);
      await systemClock.sleep(1);
      return 'done' as const;
    };
    const start = (n: number) =>
      startOutbox({ ...base, random: seededRandom(`worker ${n}`), db, handlers: { mail }, maxConcurrent: 5 });
    const workers = Array.from({ length: 4 }, (_, n) => start(n));
    await until(() => runs.size === all.length);
    for (const worker of workers) await worker[Symbol.asyncDispose]();
    expect([...runs.values()].filter((times) => times !== 1)).toEqual([]);
    expect(await db.selectFrom('outbox').selectAll().execute()).toEqual([]);
  });

  test('a worker keeps what takes long, and another goes on with what a dead one had', async () => {
    const db = await open();
    const started: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const handlersOf = (name: string) => ({
      mail: async ({ id }: Task) => {
        started.push(`${name} ${id}`);
        if (id === 'long') await promise;
        return 'done' as const;
      },
    });
    const start = (name: string) =>
      startOutbox({ ...base, random: seededRandom(name), db, handlers: handlersOf(name), leaseMs: 1_000 });
    const first = start('first');
    await putTask(db, task('long'), 0);
    first.wake();
    await until(() => started.length === 1);
    await putTask(db, task('orphan'), 0, { until: systemClock.now() + 300, holder: 'dead' });
    const second = start('second');
    await until(() => started.length === 2);
    await systemClock.sleep(2_000); // longer than a lease that is not renewed
    expect(started.map((line) => line.split(' ')[1]).toSorted()).toEqual(['long', 'orphan']);
    resolve();
    for (const worker of [first, second]) await worker[Symbol.asyncDispose]();
    expect(await db.selectFrom('outbox').selectAll().execute()).toEqual([]);
  });

  test('whoever stood still too long does not put back what another has by now', async () => {
    const db = await open();
    const { promise, resolve } = Promise.withResolvers<void>();
    const mail = async () => {
      await promise;
      return 'later' as const;
    };
    const worker = startOutbox({ ...base, db, handlers: { mail } });
    await putTask(db, task('a'), 0);
    worker.wake();
    const row = () => db.selectFrom('outbox').select(['holder', 'attempts']).executeTakeFirstOrThrow();
    while ((await row()).holder === '') await systemClock.sleep(2);
    await db.updateTable('outbox').set({ holder: 'another' }).execute();
    resolve();
    await worker[Symbol.asyncDispose]();
    expect(await row()).toMatchObject({ holder: 'another', attempts: 0 });
  });

  /** Adds a task that is handed over, in a transaction of its own; `fails` takes it back. */
  const handOver = async (db: Database, worker: HandOver, id: string, fails = false) => {
    const place = worker.reserve();
    const one = { ...task(id), attempts: 0 };
    const added = await db
      .transaction()
      .execute(async (transaction) => {
        const isAdded = await putTask(transaction, one, systemClock.now(), place?.lease);
        if (fails) throw new Error('rolled back');
        return isAdded;
      })
      .catch(() => false);
    return { place, begin: () => place?.begin(added ? [one] : []) };
  };

  test('what is handed over begins at once, without being looked for, and is taken away', async () => {
    const db = await open();
    const done: string[] = [];
    const worker = startOutbox({ ...base, db, handlers: { mail: note(done) }, pollMs: 60_000 });
    await systemClock.sleep(50); // it has looked, and sleeps
    const { place, begin } = await handOver(db, worker, 'a');
    expect(place).toBeDefined();
    await systemClock.sleep(50);
    expect(done).toEqual([]);
    begin();
    await until(() => done.length === 1);
    (await handOver(db, worker, 'never', true)).begin();
    await worker[Symbol.asyncDispose]();
    expect(done).toEqual(['a']);
    expect(worker.reserve()).toBeUndefined();
    expect(await db.selectFrom('outbox').selectAll().execute()).toEqual([]);
  });

  test('what is handed over begins behind what its giver says in the same turn of the loop', async () => {
    const db = await open();
    const done: string[] = [];
    await using worker = startOutbox({ ...base, db, handlers: { mail: note(done) } });
    const { begin } = await handOver(db, worker, 'a');
    begin();
    for (let step = 0; step < 50; step += 1) await Promise.resolve(); // as many as an answer takes to be written
    done.push('answered');
    await until(() => done.length === 2);
    expect(done).toEqual(['answered', 'a']);
  });

  test("what is handed over is nobody else's, until whoever has it dies", async () => {
    const db = await open();
    const done: string[] = [];
    const handlersOf = (name: string) => ({
      mail: async ({ id }: Task) => note(done)({ ...task(`${name} ${id}`), attempts: 0 }),
    });
    const first = startOutbox({ ...base, random: seededRandom('a'), db, handlers: handlersOf('first'), leaseMs: 300 });
    await using _second = startOutbox({ ...base, random: seededRandom('b'), db, handlers: handlersOf('second') });
    const { begin } = await handOver(db, first, 'a');
    await systemClock.sleep(100);
    expect(done).toEqual([]);
    begin();
    await until(() => done.length === 1);
    const lost = await handOver(db, first, 'b');
    lost.place?.begin([]); // it died before it began
    await first[Symbol.asyncDispose]();
    await until(() => done.length === 2);
    expect(done).toEqual(['first a', 'second b']);
  });

  test('there is room for as many as may be under way, and what fails is tried again', async () => {
    const db = await open();
    const tries: string[] = [];
    const mail = async ({ id, attempts }: Task) => {
      tries.push(`${id} ${attempts}`);
      return attempts === 0 ? ('later' as const) : ('done' as const);
    };
    await using worker = startOutbox({ ...base, db, handlers: { mail }, maxConcurrent: 2 });
    const [a, b] = [await handOver(db, worker, 'a'), await handOver(db, worker, 'b')];
    expect(worker.reserve()).toBeUndefined();
    a.begin();
    b.begin();
    await until(() => tries.length === 4);
    expect(tries.toSorted()).toEqual(['a 0', 'a 1', 'b 0', 'b 1']);
  });

  test('a task that is there already stays as it is', async () => {
    const db = await open();
    expect(await putTask(db, task('a'), 5)).toBe(true);
    expect(await putTask(db, task('a'), 9)).toBe(false);
    expect((await db.selectFrom('outbox').select('due_at').execute()).map((row) => row.due_at)).toEqual([5]);
  });
});

describe.each(Object.entries(databases))('a task that is hurried, on %s', (_name, empty) => {
  const open = () => openOutbox(empty);

  test('is added when it is not there, becomes due earlier, and never later', async () => {
    const db = await open();
    const due = async () => (await db.selectFrom('outbox').select('due_at').execute()).map((row) => row.due_at);
    await hurryTask(db, task('a'), 900);
    expect(await due()).toEqual([900]);
    await hurryTask(db, task('a'), 300);
    await hurryTask(db, task('a'), 700);
    expect(await due()).toEqual([300]);
    await putTask(db, task('a'), 100);
    expect(await due()).toEqual([300]);
  });
});

test('what is due is looked for by its time, however many tasks wait for theirs', async () => {
  const { db } = openSqlite<OutboxTable>({ path: ':memory:' });
  await migrate(db, 'outbox', outboxMigrations);
  const topics = ['mail', 'parcels'];
  for (const query of [dueRows(5, topics, 8), nextRow(topics)]) {
    const { rows } = await sql<{ detail: string }>`explain query plan ${query}`.execute(db);
    expect(rows.map(({ detail }) => detail)).toEqual([expect.stringMatching(/USING INDEX outbox_due/)]);
  }
});
