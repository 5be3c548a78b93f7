import { type Kysely, sql } from 'kysely';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Random } from '../random.ts';
import { isPostgres } from './dialect.ts';
import type { Migration } from './migrate.ts';

/**
 * Work that must happen, saved in the transaction of the state that asks for it: messages to send, decisions to make.
 * A worker claims due rows, runs their handler, and comes back later for those that could not be done yet. Workers of
 * several processes share the rows: each claims what nobody else has, and a lease that is not renewed ends, so that what a
 * dead process had under way goes on elsewhere. A row may run more than once, never not at all: handlers are idempotent.
 */

export interface OutboxTable {
  outbox: {
    id: string;
    /** Which handler: `negotiation`, `transfer-work`, … */
    topic: string;
    participant: string;
    /** What it is about; the handler knows what that means. */
    subject: string;
    due_at: number;
    attempts: number;
    leased_until: number;
    /** The worker that has the lease; empty when nobody has. */
    holder: string;
  };
}

export const outboxMigrations: readonly Migration<OutboxTable>[] = [
  {
    name: '2026-11-24-outbox',
    up: async (db) => {
      await db.schema
        .createTable('outbox')
        .addColumn('id', 'text', (column) => column.notNull())
        .addColumn('topic', 'text', (column) => column.notNull())
        .addColumn('participant', 'text', (column) => column.notNull())
        .addColumn('subject', 'text', (column) => column.notNull())
        .addColumn('due_at', 'bigint', (column) => column.notNull())
        .addColumn('attempts', 'integer', (column) => column.notNull())
        .addColumn('leased_until', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('outbox_pk', ['topic', 'id'])
        .execute();
      await db.schema.createIndex('outbox_due').on('outbox').columns(['due_at']).execute();
    },
  },
  {
    name: '2026-11-26-outbox-holder',
    up: async ({ schema }) => {
      await schema
        .alterTable('outbox')
        .addColumn('holder', 'text', (column) => column.notNull().defaultTo(''))
        .execute();
    },
  },
];

export interface Task {
  readonly id: string;
  readonly topic: string;
  readonly participant: string;
  readonly subject: string;
  /** How often it was tried before. */
  readonly attempts: number;
}

/** What became of a task: `done` removes it, `later` tries again after a pause that grows. */
export type TaskResult = 'done' | 'later';

export type TaskHandler = (task: Task) => Promise<TaskResult>;

/** Adds a task inside the transaction that asks for it; a task that is already there stays as it is. */
export const putTask = async <Tables extends OutboxTable>(
  db: Kysely<Tables>,
  task: Omit<Task, 'attempts'>,
  dueAt: number,
): Promise<void> => {
  await sql`insert into outbox (id, topic, participant, subject, due_at, attempts, leased_until)
    values (${task.id}, ${task.topic}, ${task.participant}, ${task.subject}, ${dueAt}, 0, 0)
    on conflict (topic, id) do nothing`.execute(db);
};

/** The same, but a task that is there already becomes due at this time, unless it is due earlier. */
export const hurryTask = async <Tables extends OutboxTable>(
  db: Kysely<Tables>,
  task: Omit<Task, 'attempts'>,
  dueAt: number,
): Promise<void> => {
  await sql`insert into outbox (id, topic, participant, subject, due_at, attempts, leased_until)
    values (${task.id}, ${task.topic}, ${task.participant}, ${task.subject}, ${dueAt}, 0, 0)
    on conflict (topic, id) do update set due_at = excluded.due_at where outbox.due_at > excluded.due_at`.execute(db);
};

export interface OutboxOptions {
  /** Leases and finished tasks need no sync of their own: what a power cut takes of them is done again. */
  readonly db: Kysely<OutboxTable>;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly handlers: Readonly<Record<string, TaskHandler>>;
  /** Tasks under way at once; one slow peer holds up only its own. */
  readonly maxConcurrent?: number;
  /** The safety net behind the wake-ups. */
  readonly pollMs?: number;
  /** No other process works on these rows: what was leased before this start is work that a crash left, due now. */
  readonly isAlone?: boolean;
  /** What a process that died had under way goes on elsewhere after so long. */
  readonly leaseMs?: number;
}

/** A worker's own part: who it is among the others, and until when the others leave its tasks alone. */
interface Worker extends OutboxOptions {
  readonly holder: string;
  readonly leaseMs: number;
}

export interface OutboxWorker extends AsyncDisposable {
  /** Called after a commit that added tasks. */
  readonly wake: () => void;
}

/** What waits in the outbox, and since when: a task that is due for longer than a moment is stuck. */
export const addTaskMetrics = (metrics: Metrics, db: Kysely<OutboxTable>, clock: Clock): void => {
  const due = () => db.selectFrom('outbox').where('due_at', '<=', clock.now());
  metrics.gauge('stekker_tasks_due', 'Tasks of the outbox that are due', async () => {
    const row = await due()
      .select((its) => its.fn.countAll().as('count'))
      .executeTakeFirst();
    return [{ value: Number(row?.count ?? 0) }];
  });
  metrics.gauge('stekker_tasks_oldest_seconds', 'How long the oldest of them waits', async () => {
    const row = await due()
      .select((its) => its.fn.min('due_at').as('oldest'))
      .executeTakeFirst();
    return [{ value: row?.oldest == null ? 0 : (clock.now() - Number(row.oldest)) / 1_000 }];
  });
};

const ordinaryLeaseMs = 10_000;
const firstPauseMs = 100;
const longestPauseMs = 60_000;

/** A pause that doubles, with a random half, so that many do not come back at one instant. */
const pauseAfter = (attempts: number, random: Random): number => {
  const whole = Math.min(firstPauseMs * 2 ** Math.min(attempts, 20), longestPauseMs);
  return Math.round(whole / 2 + (whole / 2) * ((random.bytes(1)[0] ?? 0) / 256));
};

/**
 * Written so that no index can find the topics: looked for by time, what is due costs the same however many tasks wait for
 * theirs. By topic, all that wait would be looked through.
 */
const isOf = (topics: readonly string[]) => sql<boolean>`topic || '' in (${sql.join(topics)})`;

/** What is due and nobody has, the oldest first. */
export const dueRows = (now: number, topics: readonly string[], limit: number) =>
  sql<Pick<Task, 'topic' | 'id'>>`select topic, id from outbox
    where due_at <= ${now} and leased_until <= ${now} and ${isOf(topics)}
    order by due_at limit ${limit}`;

/** What nobody has and is due first. */
export const nextRow = (topics: readonly string[]) =>
  sql<{ due_at: number }>`select due_at from outbox where leased_until = 0 and ${isOf(topics)} order by due_at limit 1`;

/** Due tasks that nobody works on, leased to us: of several that ask at once each gets others, and nobody waits. */
const claimTasks = async (worker: Worker, topics: readonly string[], limit: number): Promise<readonly Task[]> => {
  const { db, clock, holder, leaseMs } = worker;
  const now = clock.now();
  const others = isPostgres(db) ? sql`for update skip locked` : sql``;
  const { rows } = await sql<Task>`with due as materialized (${dueRows(now, topics, limit)} ${others})
    update outbox set leased_until = ${now + leaseMs}, holder = ${holder}
    from due where outbox.topic = due.topic and outbox.id = due.id
    returning outbox.id, outbox.topic, outbox.participant, outbox.subject, outbox.attempts`.execute(db);
  return rows;
};

/** Ours go on; what was taken over because we stood still stays with the other. */
const renewLeases = async ({ db, clock, holder, leaseMs }: Worker): Promise<void> => {
  await db
    .updateTable('outbox')
    .set({ leased_until: clock.now() + leaseMs })
    .where('holder', '=', holder)
    .execute();
};

/** Takes away what was done since the last time, all at once. */
const removeTasks = async ({ db }: Worker, tasks: readonly Task[]): Promise<void> => {
  if (tasks.length === 0) return;
  const keys = tasks.map(({ topic, id }) => sql`(${topic}, ${id})`);
  await sql`delete from outbox where (topic, id) in (values ${sql.join(keys)})`.execute(db);
};

/** Runs one task; what is not done is put back for later, unless another has it by now. */
const runTask = async ({ db, clock, random, log, handlers, holder }: Worker, task: Task): Promise<TaskResult> => {
  let result: TaskResult = 'later';
  try {
    result = (await handlers[task.topic]?.(task)) ?? 'done';
  } catch (error) {
    const { topic, id, subject, attempts } = task;
    log.warn({ error, topic, id, subject, attempts }, 'a task failed and is tried again');
  }
  if (result === 'done') return result;
  const attempts = task.attempts + 1;
  await db
    .updateTable('outbox')
    .set({ attempts, due_at: clock.now() + pauseAfter(attempts, random), leased_until: 0, holder: '' })
    .where('topic', '=', task.topic)
    .where('id', '=', task.id)
    .where('holder', '=', holder)
    .execute();
  return result;
};

const endLeases = async ({ db }: Worker, topics: readonly string[]): Promise<void> => {
  await db
    .updateTable('outbox')
    .set({ leased_until: 0, holder: '' })
    .where('topic', 'in', topics)
    .where('leased_until', '>', 0)
    .execute();
};

const nextDue = async ({ db }: Worker, topics: readonly string[]): Promise<number> => {
  const { rows } = await nextRow(topics).execute(db);
  return rows[0]?.due_at ?? Number.MAX_SAFE_INTEGER;
};

/** Starts the worker; disposing it lets the tasks under way end and starts no new ones. */
export const startOutbox = (options: OutboxOptions): OutboxWorker => {
  const { clock, log, handlers, random, maxConcurrent = 32, pollMs = 1_000, leaseMs = ordinaryLeaseMs } = options;
  const worker: Worker = { ...options, leaseMs, holder: Buffer.from(random.bytes(16)).toString('hex') };
  const topics = Object.keys(handlers);
  const stopped = new AbortController();
  const running = new Set<Promise<void>>();
  /** Done, and still in the rows: a crash lets them run again, as any other moment does. */
  let done: Task[] = [];
  let renewedAt = clock.now();
  let awake = Promise.withResolvers<void>();
  const wake = () => awake.resolve();

  const start = (task: Task): void => {
    const work = runTask(worker, task).then(
      (result) => void (result === 'done' && done.push(task)),
      (error: unknown) => log.error({ error, id: task.id }, 'a task could not be put back'),
    );
    const tracked: Promise<void> = work.finally(() => {
      running.delete(tracked);
      wake();
    });
    running.add(tracked);
  };

  const pause = async (): Promise<void> => {
    const isFull = running.size >= maxConcurrent;
    const wait = isFull ? pollMs : Math.max(1, Math.min(pollMs, (await nextDue(worker, topics)) - clock.now()));
    const slept = new AbortController();
    await Promise.race([awake.promise, clock.sleep(wait, slept.signal)]);
    slept.abort('awake'); // with a reason of our own: the default one is an error with its stack
  };

  /** Long before they end: a database that is away for a moment costs no lease. */
  const renew = async (): Promise<void> => {
    const isTime = clock.now() - renewedAt >= leaseMs / 4;
    if (!isTime) return;
    renewedAt = clock.now();
    if (running.size > 0) await renewLeases(worker);
  };

  const clear = async (): Promise<void> => {
    const tasks = done;
    done = [];
    try {
      await removeTasks(worker, tasks);
    } catch (error) {
      done = [...tasks, ...done];
      throw error;
    }
  };

  const round = async (): Promise<void> => {
    awake = Promise.withResolvers<void>();
    await renew();
    await clear();
    const free = maxConcurrent - running.size;
    const tasks = free > 0 ? await claimTasks(worker, topics, free) : [];
    for (const task of tasks) start(task);
    if (tasks.length === 0 && !stopped.signal.aborted) await pause();
  };

  const loop = async (): Promise<void> => {
    if (options.isAlone === true) await endLeases(worker, topics);
    while (!stopped.signal.aborted) {
      try {
        await round();
      } catch (error) {
        if (stopped.signal.aborted) return;
        log.warn({ error }, 'the outbox cannot reach its rows and tries again');
        await clock.sleep(pollMs, stopped.signal);
      }
    }
  };
  const looping = loop().catch((error: unknown) => log.error({ error }, 'the outbox stopped'));

  return {
    wake,
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      wake();
      await looping;
      await Promise.all(running);
      await clear().catch((error: unknown) => log.warn({ error }, 'what was done runs again at the next start'));
    },
  };
};
