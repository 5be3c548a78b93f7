import { type Kysely, sql } from 'kysely';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { Random } from '../random.ts';
import type { Migration } from './migrate.ts';

/**
 * Work that must happen, saved in the transaction of the state that asks for it: messages to send, decisions to make.
 * A worker claims due rows, runs their handler, and comes back later for those that could not be done yet. A row may run
 * more than once, never not at all: handlers are idempotent.
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
}

export interface OutboxWorker extends AsyncDisposable {
  /** Called after a commit that added tasks. */
  readonly wake: () => void;
}

/** Tasks that are due, and since when the oldest of them: what waits longer than a moment is stuck. */
export const dueTasks = async (
  db: Kysely<OutboxTable>,
  now: number,
): Promise<{ readonly count: number; readonly oldestMs: number }> => {
  const row = await db
    .selectFrom('outbox')
    .select((its) => [its.fn.countAll().as('count'), its.fn.min('due_at').as('oldest')])
    .where('due_at', '<=', now)
    .executeTakeFirst();
  const count = Number(row?.count ?? 0);
  return { count, oldestMs: count === 0 ? 0 : now - Number(row?.oldest ?? now) };
};

const leaseMs = 60_000;
const firstPauseMs = 100;
const longestPauseMs = 60_000;

/** A pause that doubles, with a random half, so that many do not come back at one instant. */
const pauseAfter = (attempts: number, random: Random): number => {
  const whole = Math.min(firstPauseMs * 2 ** Math.min(attempts, 20), longestPauseMs);
  return Math.round(whole / 2 + (whole / 2) * ((random.bytes(1)[0] ?? 0) / 256));
};

/** Due tasks that no other process works on, leased to us. */
const claimTasks = async ({ db, clock }: OutboxOptions, topics: readonly string[], limit: number): Promise<Task[]> => {
  const now = clock.now();
  const due = await db
    .selectFrom('outbox')
    .selectAll()
    .where('due_at', '<=', now)
    .where('leased_until', '<=', now)
    .where('topic', 'in', topics)
    .orderBy('due_at')
    .limit(limit)
    .execute();
  const claimed: Task[] = [];
  for (const row of due) {
    const { numUpdatedRows } = await db
      .updateTable('outbox')
      .set({ leased_until: now + leaseMs })
      .where('topic', '=', row.topic)
      .where('id', '=', row.id)
      .where('leased_until', '=', row.leased_until)
      .executeTakeFirst();
    if (numUpdatedRows === 1n) claimed.push(row);
  }
  return claimed;
};

/** Runs one task and takes it away, or puts it back for later. */
const runTask = async ({ db, clock, random, log, handlers }: OutboxOptions, task: Task): Promise<void> => {
  let result: TaskResult = 'later';
  try {
    result = (await handlers[task.topic]?.(task)) ?? 'done';
  } catch (error) {
    const { topic, id, subject, attempts } = task;
    log.warn({ error, topic, id, subject, attempts }, 'a task failed and is tried again');
  }
  if (result === 'done') {
    await db.deleteFrom('outbox').where('topic', '=', task.topic).where('id', '=', task.id).execute();
    return;
  }
  const attempts = task.attempts + 1;
  await db
    .updateTable('outbox')
    .set({ attempts, due_at: clock.now() + pauseAfter(attempts, random), leased_until: 0 })
    .where('topic', '=', task.topic)
    .where('id', '=', task.id)
    .execute();
};

const endLeases = async ({ db }: OutboxOptions, topics: readonly string[]): Promise<void> => {
  await db
    .updateTable('outbox')
    .set({ leased_until: 0 })
    .where('topic', 'in', topics)
    .where('leased_until', '>', 0)
    .execute();
};

const nextDue = async ({ db }: OutboxOptions, topics: readonly string[]): Promise<number> => {
  const row = await db
    .selectFrom('outbox')
    .select((its) => its.fn.min('due_at').as('due'))
    .where('topic', 'in', topics)
    .where('leased_until', '=', 0)
    .executeTakeFirst();
  return Number(row?.due ?? Number.MAX_SAFE_INTEGER);
};

/** Starts the worker; disposing it lets the tasks under way end and starts no new ones. */
export const startOutbox = (options: OutboxOptions): OutboxWorker => {
  const { clock, log, handlers } = options;
  const maxConcurrent = options.maxConcurrent ?? 32;
  const pollMs = options.pollMs ?? 1_000;
  const topics = Object.keys(handlers);
  const stopped = new AbortController();
  const running = new Set<Promise<void>>();
  let awake = Promise.withResolvers<void>();
  const wake = () => awake.resolve();

  const start = (task: Task): void => {
    const work = runTask(options, task).catch((error: unknown) =>
      log.error({ error, id: task.id }, 'a task could not be put back'),
    );
    const tracked: Promise<void> = work.finally(() => {
      running.delete(tracked);
      wake();
    });
    running.add(tracked);
  };

  const pause = async (): Promise<void> => {
    const isFull = running.size >= maxConcurrent;
    const wait = isFull ? pollMs : Math.max(1, Math.min(pollMs, (await nextDue(options, topics)) - clock.now()));
    const slept = new AbortController();
    await Promise.race([awake.promise, clock.sleep(wait, slept.signal)]);
    slept.abort();
  };

  const loop = async (): Promise<void> => {
    if (options.isAlone === true) await endLeases(options, topics);
    while (!stopped.signal.aborted) {
      awake = Promise.withResolvers<void>();
      const free = maxConcurrent - running.size;
      const tasks = free > 0 ? await claimTasks(options, topics, free) : [];
      for (const task of tasks) start(task);
      if (tasks.length === 0 && !stopped.signal.aborted) await pause();
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
    },
  };
};
