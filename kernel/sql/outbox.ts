import { setImmediate as immediate } from 'node:timers/promises';
import { type Kysely, sql } from 'kysely';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Random } from '../random.ts';
import { isPostgres } from './dialect.ts';
import type { Migration } from './migrate.ts';
import { columns, type Given, isOneRow, prepared } from './prepared.ts';

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

/** A worker's right to a task: nobody else takes it until then. */
export interface Lease {
  readonly holder: string;
  /** ms */
  readonly until: number;
}

const nobody: Lease = { holder: '', until: 0 };

const insertTask = prepared((db: Kysely<OutboxTable>, given: Given<OutboxTable['outbox']>) =>
  db
    .insertInto('outbox')
    .values(columns(given, ['id', 'topic', 'participant', 'subject', 'due_at', 'attempts', 'leased_until', 'holder']))
    .onConflict((its) => its.columns(['topic', 'id']).doNothing()),
);

/**
 * Adds a task inside the transaction that asks for it, leased to a worker that has it handed over; a task that is already
 * there stays as it is.
 *
 * @returns whether it was added.
 */
export const putTask = async <Tables extends OutboxTable>(
  db: Kysely<Tables>,
  { id, topic, participant, subject }: Omit<Task, 'attempts'>,
  dueAt: number,
  lease: Lease = nobody,
): Promise<boolean> => {
  const row = { id, topic, participant, subject, due_at: dueAt, attempts: 0 };
  const leased = { leased_until: lease.until, holder: lease.holder };
  // The table of tasks stands among the caller's own.
  return isOneRow(await insertTask(db as unknown as Kysely<OutboxTable>, { ...row, ...leased }));
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

/** Room that a worker keeps for what a transaction is about to ask for. */
export interface Reservation {
  readonly lease: Lease;
  /**
   * Once, after the commit: begins these tasks, which nobody has to look for; none when the transaction failed. Their ids
   * are never used again: when they are done their rows stay for a moment, until many are taken away at once.
   */
  readonly begin: (tasks: readonly Task[]) => void;
}

/** The short way from a transaction to the worker of the same process. */
export interface HandOver {
  /** Undefined while the worker has no room, or is not there: then its tasks are found in the rows, as others' are. */
  readonly reserve: () => Reservation | undefined;
}

/** Where nobody takes tasks over. */
export const noHandOver: HandOver = { reserve: () => undefined };

/** A way that leads to a worker which is started later. */
export const createHandOver = (): HandOver & { readonly lead: (to: HandOver) => void } => {
  let way = noHandOver;
  return {
    reserve: () => way.reserve(),
    lead: (to) => {
      way = to;
    },
  };
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

export interface OutboxWorker extends AsyncDisposable, HandOver {
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
/** A worker that nobody wakes looks after so long: what is due later need not wake it. */
export const looksAfterMs = 1_000;
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

/** So many tasks that were handed over and are done are taken away at once, or what is done when the worker looks. */
const clearedAtOnce = 100;

/** Renews long before leases end: a database that is away for a moment costs none. */
const createRenewal = (worker: Worker) => {
  let renewedAt = worker.clock.now();
  return async (): Promise<void> => {
    const now = worker.clock.now();
    if (now - renewedAt < worker.leaseMs / 4) return;
    renewedAt = now;
    await renewLeases(worker);
  };
};

/** Tasks that are done and still in the rows: a crash lets them run again, as any other moment does. */
const createDone = (worker: Worker) => {
  let done: Task[] = [];
  return {
    count: () => done.length,
    add: (task: Task): void => void done.push(task),
    clear: async (): Promise<void> => {
      const tasks = done;
      done = [];
      try {
        await removeTasks(worker, tasks);
      } catch (error) {
        done = [...tasks, ...done];
        throw error;
      }
    },
  };
};

/** Whoever hands something over answers first: a peer hears that before it hears of what follows from it. */
const behindAnswer = async (given: Promise<readonly Task[]>): Promise<readonly Task[]> => {
  const tasks = await given;
  await immediate();
  return tasks;
};

/** Starts the worker; disposing it lets the tasks under way end and starts no new ones. */
export const startOutbox = (options: OutboxOptions): OutboxWorker => {
  const {
    clock,
    log,
    handlers,
    random,
    maxConcurrent = 32,
    pollMs = looksAfterMs,
    leaseMs = ordinaryLeaseMs,
  } = options;
  const worker: Worker = { ...options, leaseMs, holder: Buffer.from(random.bytes(16)).toString('hex') };
  const topics = Object.keys(handlers);
  const stopped = new AbortController();
  const running = new Set<Promise<void>>();
  const done = createDone(worker);
  const renew = createRenewal(worker);
  let isReady = options.isAlone !== true;
  let awake = Promise.withResolvers<void>();
  const wake = () => awake.resolve();
  const room = () => maxConcurrent - running.size;

  const track = (work: Promise<void>): void => {
    const tracked: Promise<void> = work.finally(() => {
      if (room() <= 0 || done.count() >= clearedAtOnce) wake();
      running.delete(tracked);
    });
    running.add(tracked);
  };

  const run = async (task: Task, isHandedOver: boolean): Promise<void> => {
    try {
      const result = await runTask(worker, task);
      if (result === 'done') done.add(task);
      if (!isHandedOver || result !== 'done') wake();
    } catch (error) {
      log.error({ error, id: task.id }, 'a task could not be put back');
    }
  };

  const reserve = (): Reservation | undefined => {
    if (!isReady || stopped.signal.aborted || room() <= 0) return undefined;
    const reserved = Promise.withResolvers<readonly Task[]>();
    const given = behindAnswer(reserved.promise);
    track(given.then(async (tasks) => void (await Promise.all(tasks.map((task) => run(task, true))))));
    const lease = { holder: worker.holder, until: clock.now() + leaseMs };
    return { lease, begin: reserved.resolve };
  };

  const pause = async (): Promise<void> => {
    const wait = room() <= 0 ? pollMs : Math.max(1, Math.min(pollMs, (await nextDue(worker, topics)) - clock.now()));
    const slept = new AbortController();
    await Promise.race([awake.promise, clock.sleep(wait, slept.signal)]);
    slept.abort('awake'); // with a reason of our own: the default one is an error with its stack
  };

  const round = async (): Promise<void> => {
    awake = Promise.withResolvers<void>();
    if (running.size > 0) await renew();
    await done.clear();
    const free = room();
    const tasks = free > 0 ? await claimTasks(worker, topics, free) : [];
    for (const task of tasks) track(run(task, false));
    if (tasks.length === 0 && !stopped.signal.aborted) await pause();
  };

  const loop = async (): Promise<void> => {
    if (options.isAlone === true) await endLeases(worker, topics);
    isReady = true;
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
    reserve,
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      wake();
      await looping;
      await Promise.all(running);
      await done.clear().catch((error: unknown) => log.warn({ error }, 'what was done runs again at the next start'));
    },
  };
};
