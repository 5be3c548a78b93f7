import { describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { seededRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import {
  hurryTask,
  type OutboxTable,
  outboxMigrations,
  putTask,
  startOutbox,
  type Task,
} from '../../kernel/sql/outbox.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';

const open = async () => {
  const { db } = openSqlite<OutboxTable>({ path: ':memory:' });
  await migrate(db, 'outbox', outboxMigrations);
  return db;
};
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

describe('outbox on sqlite', () => {
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

  test('a task that is there already stays as it is', async () => {
    const db = await open();
    await putTask(db, task('a'), 5);
    await putTask(db, task('a'), 9);
    expect((await db.selectFrom('outbox').select('due_at').execute()).map((row) => row.due_at)).toEqual([5]);
  });
});

describe('a task that is hurried, on sqlite', () => {
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
