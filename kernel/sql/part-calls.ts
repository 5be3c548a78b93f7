import { type Kysely, sql } from 'kysely';
import { AppError, type ErrorCode, errorTable, type Fault } from '../../contracts/errors.ts';
import type { Json } from '../../contracts/json.ts';
import type { Clock } from '../clock.ts';
import { asAppError } from '../http/problem.ts';
import type { Logger } from '../log.ts';
import type { Wakeups } from '../wakeups.ts';
import type { Migration } from './migrate.ts';

/**
 * Calls to a part of a service that runs in one process at a time (`leased-part.ts`), whichever that is: no process needs an
 * address of its own. A call is a row. The process that serves is woken and answers into the row; the caller is woken and
 * takes the row away. A wake-up that is lost costs a second, because both sides also look. What a process that died left
 * without an answer, the next one serves; so a call may be served twice, also after its caller has given it up: handlers
 * bear repeats.
 */

export interface PartCallTable {
  part_call: {
    id: string;
    part: string;
    /** Which handler. */
    name: string;
    /** Of the body, so that what does not fit now need not be read. */
    bytes: number;
    asked_at: number;
    /** JSON. */
    body: string;
    /** JSON (`Answer`); null while there is none. */
    answer: string | null;
  };
}

export const partCallMigrations: readonly Migration<PartCallTable>[] = [
  {
    name: '2026-11-26-part-call',
    up: async ({ schema }) => {
      await schema
        .createTable('part_call')
        .addColumn('id', 'text', (column) => column.primaryKey())
        .addColumn('part', 'text', (column) => column.notNull())
        .addColumn('name', 'text', (column) => column.notNull())
        .addColumn('bytes', 'bigint', (column) => column.notNull())
        .addColumn('asked_at', 'bigint', (column) => column.notNull())
        .addColumn('body', 'text', (column) => column.notNull())
        .addColumn('answer', 'text')
        .execute();
      await schema.createIndex('part_call_asked').on('part_call').columns(['part', 'asked_at']).execute();
    },
  },
];

export interface PartCallOptions {
  /**
   * Without a sync for each write is enough: a row that a crash of the database takes is a call without an answer, which its
   * caller makes again, and what a handler did is as durable as the handler made it.
   */
  readonly db: Kysely<PartCallTable>;
  readonly wakeups: Wakeups;
  readonly clock: Clock;
  readonly log: Logger;
  /** The name of the part; no spaces. */
  readonly part: string;
  /** Never used before, by any process; in the order of time. */
  readonly newId: () => string;
  /** How long a caller waits for its answer, well below the minute after which rows are forgotten; 10 s. */
  readonly patienceMs?: number;
}

export type PartHandler = (body: Json) => Promise<Json>;

export interface PartCalls {
  /**
   * Asks the process that serves, this one too, and waits for its answer. Body and answer are at most 16 MB as JSON.
   *
   * @throws AppError what the handler threw; `busy` when nobody answered in time or too many wait: the call may have been
   * served all the same, and may be made again; `body-too-large`; `internal-error` for a handler that broke;
   * `database-unavailable`; the reason of the signal when it aborts.
   */
  readonly call: (name: string, body: Json, signal?: AbortSignal) => Promise<Json>;
  /**
   * Serves calls until it is disposed, which waits for those under way: handlers end by themselves. Begun and ended by the
   * process whose turn it is; of two that serve for a moment both may run a handler, and the first answer counts.
   */
  readonly serve: (handlers: Readonly<Record<string, PartHandler>>) => AsyncDisposable;
}

type Answer =
  | { readonly value: Json }
  | {
      readonly fault: {
        readonly code: string;
        readonly detail?: string;
        readonly faults: readonly Fault[];
        readonly retryAfterSeconds?: number;
      };
    };

const maxBytes = 16 << 20;
const maxRunning = 32;
/** Of the calls that one process serves at once, together; one that is larger alone cannot be. */
const maxRunningBytes = 64 << 20;
/** Calls of one part without an answer, of all processes. */
const maxWaiting = 512;
const maxWaitingBytes = 256 << 20;
const ordinaryPatienceMs = 10_000;
/** The safety net behind the wake-ups. */
const lookMs = 1_000;
const forgottenMs = 60_000;
const retryAfterSeconds = 5;

const askedChannel = (part: string): string => `asked:${part}`;
const answeredChannel = (part: string): string => `answered:${part}`;

/** Something to wait for that may have happened already: a word that comes while we look is not missed. */
const createBell = (clock: Clock) => {
  let rung = Promise.withResolvers<void>();
  return {
    ring: (): void => rung.resolve(),
    /** Before looking. */
    reset: (): void => {
      rung = Promise.withResolvers();
    },
    wait: async (ms: number): Promise<void> => {
      const slept = new AbortController();
      await Promise.race([rung.promise, clock.sleep(ms, slept.signal)]);
      slept.abort('awake'); // with a reason of our own: the default one is an error with its stack
    },
  };
};

const answerOfFault = ({ code, detail, faults, retryAfterSeconds: seconds }: AppError): Answer => ({
  fault: {
    code,
    faults,
    ...(detail === undefined ? {} : { detail }),
    ...(seconds === undefined ? {} : { retryAfterSeconds: seconds }),
  },
});

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(errorTable, code);

const readAnswer = (text: string): Json => {
  const answer = JSON.parse(text) as Answer; // by `answerTo`
  if ('value' in answer) return answer.value;
  const { code, ...rest } = answer.fault;
  throw isErrorCode(code) ? new AppError(code, rest) : new AppError('internal-error'); // a newer version has more of them
};

/** Adds the row unless too much waits already. @throws AppError `body-too-large`, `busy`. */
const ask = async (
  { db, part, clock }: PartCallOptions,
  { id, name, body }: { readonly id: string; readonly name: string; readonly body: Json },
): Promise<void> => {
  const text = JSON.stringify(body);
  const bytes = Buffer.byteLength(text);
  if (bytes > maxBytes) throw new AppError('body-too-large', { detail: `a call takes at most ${maxBytes} bytes` });
  const { numAffectedRows } = await sql`insert into part_call (id, part, name, body, bytes, asked_at)
    select ${id}, ${part}, ${name}, ${text}, cast(${bytes} as bigint), cast(${clock.now()} as bigint)
    where (select count(*) < ${maxWaiting} and coalesce(sum(bytes), 0) + ${bytes} <= ${maxWaitingBytes} from
      (select bytes from part_call where part = ${part} and answer is null limit ${maxWaiting}) as waiting)`.execute(
    db,
  );
  if (numAffectedRows !== 1n)
    throw new AppError('busy', { detail: `too many calls wait for ${part}`, retryAfterSeconds });
};

/** The answer as text; null while there is none, undefined when the row is gone. */
const answerOf = async ({ db }: PartCallOptions, id: string): Promise<string | null | undefined> =>
  (await db.selectFrom('part_call').select('answer').where('id', '=', id).executeTakeFirst())?.answer;

/** Looks whenever it is woken and each second, and once more when there is no more patience. */
const awaitAnswer = async (its: PartCallOptions, id: string, signal: AbortSignal | undefined): Promise<Json> => {
  const { wakeups, clock, part, patienceMs = ordinaryPatienceMs } = its;
  const bell = createBell(clock);
  const done = new AbortController();
  let isOver = false;
  const end = () => {
    isOver = true;
    bell.ring();
  };
  const stopListening = wakeups.listen(answeredChannel(part), (payload) => {
    if (payload === id || payload === '') bell.ring();
  });
  signal?.addEventListener('abort', end, { once: true });
  void clock.sleep(patienceMs, done.signal).then(end);
  try {
    for (;;) {
      bell.reset();
      const isLast = isOver;
      const answer = await answerOf(its, id);
      if (typeof answer === 'string') return readAnswer(answer);
      signal?.throwIfAborted();
      if (isLast || answer === undefined)
        throw new AppError('busy', { detail: `${part} did not answer in time`, retryAfterSeconds });
      if (!isOver) await bell.wait(lookMs);
    }
  } finally {
    done.abort('over');
    stopListening();
    signal?.removeEventListener('abort', end);
  }
};

const createCall =
  (its: PartCallOptions): PartCalls['call'] =>
  async (name, body, signal) => {
    const { db, wakeups, log, part, newId } = its;
    signal?.throwIfAborted();
    const id = newId();
    await ask(its, { id, name, body });
    wakeups.notify(askedChannel(part), id);
    try {
      return await awaitAnswer(its, id, signal);
    } finally {
      await db
        .deleteFrom('part_call')
        .where('id', '=', id)
        .execute()
        .catch((error: unknown) => log.warn({ error, part }, 'a call that is over is forgotten later'));
    }
  };

/** The answer of a handler, or what the caller may know of its fault. */
const answerTo = async ({ log, part }: PartCallOptions, name: string, work: () => Promise<Json>): Promise<string> => {
  try {
    const text = JSON.stringify({ value: await work() } satisfies Answer);
    if (Buffer.byteLength(text) <= maxBytes) return text;
    throw new AppError('invariant-broken', { detail: `an answer takes at most ${maxBytes} bytes` });
  } catch (thrown) {
    const fault = asAppError(thrown);
    if (!fault.expose) log.error({ err: thrown, part, name }, 'a call could not be served');
    return JSON.stringify(answerOfFault(fault));
  }
};

/** Serves one call, unless its caller took it back or it was answered since it was seen. */
const serveCall = async (
  its: PartCallOptions,
  handlers: Readonly<Record<string, PartHandler>>,
  { id, name }: { readonly id: string; readonly name: string },
): Promise<void> => {
  const { db, wakeups, part } = its;
  const row = await db
    .selectFrom('part_call')
    .select('body')
    .where('id', '=', id)
    .where('answer', 'is', null)
    .executeTakeFirst();
  if (row === undefined) return;
  const handler = Object.hasOwn(handlers, name) ? handlers[name] : undefined;
  const answer = await answerTo(its, name, async () => {
    // While versions change one process may ask for what another does not know yet.
    if (handler === undefined) throw new AppError('not-yet', { detail: `${part} does not know the call ${name}` });
    return handler(JSON.parse(row.body) as Json); // by `ask`
  });
  const { numUpdatedRows } = await db
    .updateTable('part_call')
    .set({ answer })
    .where('id', '=', id)
    .where('answer', 'is', null)
    .executeTakeFirst();
  if (numUpdatedRows === 1n) wakeups.notify(answeredChannel(part), id);
};

/** Calls without an answer, the oldest first: as many as could run, and those that do. */
const waitingCalls = ({ db, part }: PartCallOptions) =>
  db
    .selectFrom('part_call')
    .select(['id', 'name', 'bytes'])
    .where('part', '=', part)
    .where('answer', 'is', null)
    .orderBy('asked_at')
    .orderBy('id')
    .limit(2 * maxRunning)
    .execute();

/** Rows that nobody fetched: their callers are gone. */
const forget = async ({ db, part, clock }: PartCallOptions): Promise<void> => {
  await db
    .deleteFrom('part_call')
    .where('part', '=', part)
    .where('asked_at', '<', clock.now() - forgottenMs)
    .execute();
};

const startServing = (its: PartCallOptions, handlers: Readonly<Record<string, PartHandler>>): AsyncDisposable => {
  const { wakeups, clock, log, part } = its;
  const stopped = new AbortController();
  const bell = createBell(clock);
  const running = new Map<string, { readonly bytes: number; readonly work: Promise<void> }>();
  let forgottenAt = Number.NEGATIVE_INFINITY;

  const run = async (call: Pick<PartCallTable['part_call'], 'id' | 'name'>): Promise<void> => {
    const isDone = await serveCall(its, handlers, call).then(
      () => true,
      (error: unknown) => {
        log.warn({ error, part }, 'a call is not answered yet, and served again');
        return false;
      },
    );
    running.delete(call.id);
    if (isDone) bell.ring(); // what could not be answered waits for the next look
  };
  const fits = (bytes: number): boolean => {
    const under = [...running.values()].reduce((sum, one) => sum + one.bytes, 0);
    return running.size < maxRunning && under + bytes <= maxRunningBytes;
  };
  const tidy = async (): Promise<void> => {
    const now = clock.now();
    if (now - forgottenAt < lookMs) return;
    forgottenAt = now;
    await forget(its);
  };
  const look = async (): Promise<void> => {
    await tidy();
    for (const call of await waitingCalls(its)) {
      if (running.has(call.id)) continue;
      if (stopped.signal.aborted || !fits(call.bytes)) return; // in order: a large one is not overtaken for ever
      running.set(call.id, { bytes: call.bytes, work: run(call) });
    }
  };
  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      bell.reset();
      await look().catch((error: unknown) => {
        bell.reset(); // those under way ring when they end; a database that is away is asked once a second
        log.warn({ error, part }, 'calls cannot be read and are looked for again');
      });
      if (!stopped.signal.aborted) await bell.wait(lookMs);
    }
  };
  const stopListening = wakeups.listen(askedChannel(part), bell.ring);
  const looping = loop();
  return {
    [Symbol.asyncDispose]: async () => {
      stopped.abort('stopped');
      stopListening();
      bell.ring();
      await looping;
      await Promise.all([...running.values()].map(({ work }) => work));
    },
  };
};

/** Calls to one part: both sides, whichever of them a process is. */
export const createPartCalls = (options: PartCallOptions): PartCalls => ({
  call: createCall(options),
  serve: (handlers) => startServing(options, handlers),
});
