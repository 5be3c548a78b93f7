import { afterAll, describe, expect, test } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import type { Json } from '../../contracts/json.ts';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { type Database, openDatabase, openWakeups } from '../../kernel/sql/database.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import {
  createPartCalls,
  type PartCallOptions,
  type PartCallTable,
  partCallMigrations,
} from '../../kernel/sql/part-calls.ts';
import type { Wakeups } from '../../kernel/wakeups.ts';
import { leftOut, postgresOfFile } from '../support/databases.ts';
import { hasPostgres } from '../support/postgres.ts';

/** What one process has; where only one can be, both are it. */
interface Side {
  readonly database: Database<PartCallTable>;
  readonly wakeups: Wakeups;
}

const opened = new AsyncDisposableStack();
afterAll(() => opened.disposeAsync());

const openSide = async (url: string | undefined): Promise<Side> => {
  const fail = (fault: unknown): never => {
    throw fault;
  };
  const its = { url, path: ':memory:', log: silentLogger, fail };
  const database = opened.use(await openDatabase<PartCallTable>(its));
  const wakeups = opened.use(await openWakeups({ url, log: silentLogger, clock: systemClock }));
  return { database, wakeups };
};

const sides: Readonly<Record<string, () => Promise<readonly [Side, Side]>>> = {
  sqlite: async () => {
    const side = await openSide(undefined);
    return [side, side];
  },
  postgres: hasPostgres()
    ? async () => {
        const url = await (await postgresOfFile()).database();
        return [await openSide(url), await openSide(url)];
      }
    : leftOut,
};

const newId = createIds(systemClock, systemRandom);

const until = async (holds: () => boolean | Promise<boolean>): Promise<void> => {
  for (let tries = 0; tries < 4_000; tries += 1) {
    if (await holds()) return;
    await systemClock.sleep(5);
  }
  expect(await holds()).toBe(true);
};

describe.each(Object.entries(sides))('calls to a part on %s', (_name, open) => {
  const world = async (options: Partial<PartCallOptions> = {}) => {
    const [here, there] = await open();
    await migrate(here.database.db, 'part-call', partCallMigrations);
    const logged: unknown[] = [];
    const log = { ...silentLogger, error: (...line: unknown[]) => void logged.push(line) } as typeof silentLogger;
    const of = ({ database, wakeups }: Side, more: Partial<PartCallOptions> = {}) =>
      createPartCalls({
        db: database.relaxed,
        wakeups,
        clock: systemClock,
        log,
        part: 'statements',
        newId,
        patienceMs: 60_000, // of a machine that others use, too
        ...options,
        ...more,
      });
    const rows = () => here.database.db.selectFrom('part_call').selectAll().execute();
    return { here, there, of, rows, logged, caller: of(here), server: of(there) };
  };
  const put = (side: Side, row: Partial<PartCallTable['part_call']>) =>
    side.database.db
      .insertInto('part_call')
      .values({
        id: newId(),
        part: 'statements',
        name: 'echo',
        bytes: 4,
        asked_at: systemClock.now(),
        body: 'null',
        answer: null,
        ...row,
      })
      .execute();
  const echo = async (body: Json): Promise<Json> => body;

  test('each answer reaches its caller, from the process that serves and from others, and each call runs once', async () => {
    const { caller, server, rows } = await world();
    const seen: Json[] = [];
    await using _serving = server.serve({
      double: async (body) => {
        seen.push(body);
        await systemClock.sleep(Number(body) % 7);
        return { twice: 2 * Number(body) };
      },
    });
    const numbers = Array.from({ length: 60 }, (_, n) => n);
    const answers = numbers.map((n) => (n % 2 === 0 ? caller : server).call('double', n));
    expect(await Promise.all(answers)).toEqual(numbers.map((n) => ({ twice: 2 * n })));
    expect(seen.toSorted((a, b) => Number(a) - Number(b))).toEqual(numbers);
    expect(await rows()).toEqual([]);
  });

  test('a body may be large and of any text; one that is too large is refused, and so is such an answer', async () => {
    const { caller, server, rows, logged } = await world();
    await using _serving = server.serve({ echo, grow: async (body) => 'é'.repeat(Number(body)) });
    const odd = { text: `\u0000 "\\ \ud800 🌊`, list: [null, true, 1.5, []], large: 'x'.repeat((16 << 20) - 200) };
    expect(await caller.call('echo', odd)).toEqual(JSON.parse(JSON.stringify(odd)));
    await expect(caller.call('echo', 'x'.repeat(16 << 20))).rejects.toMatchObject({ code: 'body-too-large' });
    await expect(caller.call('grow', 8 << 20)).rejects.toMatchObject({ code: 'invariant-broken' });
    expect(logged).toHaveLength(1);
    expect(await rows()).toEqual([]);
  });

  test('parts do not hear the calls of each other', async () => {
    const it = await world();
    await using _statements = it.server.serve({ who: async () => 'statements' });
    await using _other = it.of(it.there, { part: 'other' }).serve({ who: async () => 'other' });
    expect(await it.caller.call('who', null)).toBe('statements');
    expect(await it.of(it.here, { part: 'other' }).call('who', null)).toBe('other');
  });

  test('a fault of the table arrives whole; any other says nothing of its inside, and is logged', async () => {
    const { caller, server, logged, rows } = await world();
    const faults = [{ path: '/seq', message: 'is taken' }];
    await using _serving = server.serve({
      refuse: () => Promise.reject(new AppError('statement-conflict', { detail: 'no', faults, retryAfterSeconds: 7 })),
      bare: () => Promise.reject(new AppError('not-found')),
      breach: () => Promise.reject(new AppError('invariant-broken', { detail: 'it does not add up' })),
      broken: () => Promise.reject(new Error('password hunter2')),
    });
    const fault = (name: string) => caller.call(name, null).catch((error: unknown) => error);
    const refused = await fault('refuse');
    expect(refused).toBeInstanceOf(AppError);
    expect(refused).toMatchObject({ code: 'statement-conflict', detail: 'no', faults, retryAfterSeconds: 7 });
    expect(await fault('bare')).toMatchObject({ code: 'not-found', detail: undefined, faults: [] });
    expect(logged).toEqual([]);
    expect(await fault('breach')).toMatchObject({ code: 'invariant-broken', detail: 'it does not add up' });
    const broken = await fault('broken');
    expect(broken).toMatchObject({ code: 'internal-error', detail: undefined });
    expect(String(broken)).not.toContain('hunter2');
    expect(logged).toHaveLength(2);
    for (const name of ['unknown', 'toString']) expect(await fault(name)).toMatchObject({ code: 'not-yet' });
    expect(await rows()).toEqual([]);
  });

  test('what nobody answers in time is taken back, and nobody serves it later', async () => {
    const { caller, of, here, server, rows } = await world();
    const impatient = of(here, { patienceMs: 50 });
    await expect(impatient.call('echo', 1)).rejects.toMatchObject({
      code: 'busy',
      retryAfterSeconds: expect.any(Number),
    });
    expect(await rows()).toEqual([]);
    const served: Json[] = [];
    await using _serving = server.serve({ echo: async (body) => served.push(body) });
    expect(await caller.call('echo', 2)).toBe(1);
    expect(served).toEqual([2]);
  });

  test('a caller that gives up while its call is served hears so at once, and the answer goes nowhere', async () => {
    const { caller, server, rows } = await world();
    const [begun, free] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    await using _serving = server.serve({
      echo,
      slow: async () => {
        begun.resolve();
        await free.promise;
        return 'late';
      },
    });
    const stop = new AbortController();
    const call = caller.call('slow', null, stop.signal);
    await begun.promise;
    stop.abort(new Error('enough'));
    await expect(call).rejects.toThrow('enough');
    free.resolve();
    expect(await caller.call('echo', 1)).toBe(1);
    await expect(caller.call('echo', 2, stop.signal)).rejects.toThrow('enough');
    expect(await rows()).toEqual([]);
  });

  test('what a server that died left is answered by the next one, and its own answer no longer counts', async () => {
    const { caller, server, of, here } = await world();
    const [begun, late] = [Promise.withResolvers<void>(), Promise.withResolvers<Json>()];
    const dead = server.serve({
      which: () => {
        begun.resolve();
        return late.promise; // it stands still
      },
    });
    const call = caller.call('which', null);
    await begun.promise;
    {
      await using _next = of(here).serve({ which: async () => 'the next' });
      expect(await call).toBe('the next');
    }
    const again = caller.call('which', null); // both stand by: the one that goes on, and then the one that comes after it
    late.resolve('the first');
    expect(await again).toBe('the first');
    await dead[Symbol.asyncDispose]();
  });

  test('of two that serve at once the first answer counts, and the other changes nothing', async () => {
    const { caller, server, of, here, rows } = await world();
    await put(here, { name: 'which' });
    const [first, second] = [Promise.withResolvers<Json>(), Promise.withResolvers<Json>()];
    let begun = 0;
    const serve = (calls: typeof caller, answer: Promise<Json>) =>
      calls.serve({
        which: () => {
          begun += 1;
          return answer;
        },
      });
    const servers = [serve(server, first.promise), serve(of(here), second.promise)];
    await until(() => begun === 2);
    second.resolve('second');
    await until(async () => (await rows())[0]?.answer === '{"value":"second"}');
    first.resolve('first');
    await Promise.all(servers.map((one) => one[Symbol.asyncDispose]()));
    expect((await rows()).map(({ answer }) => answer)).toEqual(['{"value":"second"}']);
  });

  test('wake-ups that are lost cost only time', async () => {
    const it = await world();
    const deaf = ({ wakeups }: Side) => ({ wakeups: { ...wakeups, notify: () => undefined } });
    await using _serving = it.of(it.there, deaf(it.there)).serve({ echo });
    const caller = it.of(it.here, deaf(it.here));
    const calls = [1, 2, 3].map((n) => caller.call('echo', n));
    expect(await Promise.all(calls)).toEqual([1, 2, 3]);
    expect(await caller.call('echo', 4)).toBe(4);
  });

  test('of many at once 32 run, never more, and all are answered', async () => {
    const { caller, server, rows } = await world();
    let [running, most] = [0, 0];
    const full = Promise.withResolvers<void>();
    await using _serving = server.serve({
      slow: async (body) => {
        running += 1;
        most = Math.max(most, running);
        if (running === 32) full.resolve();
        await full.promise;
        await systemClock.sleep(1);
        running -= 1;
        return body;
      },
    });
    const numbers = Array.from({ length: 150 }, (_, n) => n);
    expect(await Promise.all(numbers.map((n) => caller.call('slow', n)))).toEqual(numbers);
    expect(most).toBe(32);
    expect(await rows()).toEqual([]);
  });

  test('large calls run a few at a time, and none is overtaken for ever', async () => {
    const { here, server, rows } = await world();
    for (let n = 0; n < 6; n += 1) await put(here, { name: 'slow', bytes: 30 << 20, asked_at: 1e15 + n });
    await put(here, { name: 'slow', asked_at: 1e15 + 6 });
    let [running, most, all] = [0, 0, 0];
    await using _serving = server.serve({
      slow: async () => {
        running += 1;
        most = Math.max(most, running);
        await systemClock.sleep(20);
        running -= 1;
        all += 1;
        return null;
      },
    });
    await until(() => all === 7);
    expect(most).toBeLessThanOrEqual(3); // two of 30 MB, and the small one
    await until(async () => (await rows()).every(({ answer }) => answer !== null));
  });

  test('a call that would be one too many is refused at once, and room comes with the answers', async () => {
    const { caller, here, server, rows } = await world();
    const stop = new AbortController();
    const waiting = Array.from({ length: 512 }, (_, n) => caller.call('echo', n, stop.signal).catch(() => 'stopped'));
    await until(async () => (await rows()).length === 512);
    await expect(caller.call('echo', 'one more')).rejects.toMatchObject({ code: 'busy', status: 503 });
    stop.abort(new Error('stop'));
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['stopped']));
    expect(await rows()).toEqual([]);
    await put(here, { bytes: 256 << 20 });
    await expect(caller.call('echo', 'one more')).rejects.toMatchObject({ code: 'busy' });
    await put(here, { part: 'other' });
    await here.database.db.updateTable('part_call').set({ answer: '{"value":1}' }).execute();
    await using _serving = server.serve({ echo });
    expect(await caller.call('echo', 'one more')).toBe('one more');
  });

  test('rows whose callers are gone are forgotten after a minute, answered or not', async () => {
    const { here, server, rows } = await world();
    const old = systemClock.now() - 61_000;
    await put(here, { id: 'old', asked_at: old });
    await put(here, { id: 'answered', asked_at: old, answer: '{"value":1}' });
    await put(here, { id: 'of another part', part: 'other', asked_at: old });
    await put(here, { id: 'fresh' });
    const served: Json[] = [];
    await using _serving = server.serve({ echo: async (body) => served.push(body) });
    await until(async () => (await rows()).some(({ id, answer }) => id === 'fresh' && answer !== null));
    expect((await rows()).map(({ id }) => id).toSorted()).toEqual(['fresh', 'of another part']);
    expect(served).toEqual([null]);
  });

  test('a server that stops ends what is under way, and begins nothing more', async () => {
    const { caller, server, of, here } = await world();
    const [begun, free] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let runs = 0;
    const serving = server.serve({
      slow: async (body) => {
        runs += 1;
        begun.resolve();
        await free.promise;
        return body;
      },
    });
    const first = caller.call('slow', 1);
    await begun.promise;
    const stopping = serving[Symbol.asyncDispose]();
    const second = caller.call('slow', 2);
    const isStopped = await Promise.race([stopping.then(() => true), systemClock.sleep(100).then(() => false)]);
    expect(isStopped).toBe(false);
    free.resolve();
    await stopping;
    expect(await first).toBe(1);
    expect(runs).toBe(1);
    await using _next = of(here).serve({ slow: async () => 'next' });
    expect(await second).toBe('next');
  });

  test('a row that the database lost is a call to make again', async () => {
    const { caller, here, rows } = await world();
    const lost = caller.call('echo', 1).catch((error: unknown) => error);
    await until(async () => (await rows()).length === 1);
    await here.database.db.deleteFrom('part_call').execute();
    expect(await lost).toMatchObject({ status: 503 });
  });
});
