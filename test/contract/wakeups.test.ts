import { describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createRedisWakeups } from '../../kernel/redis/wakeups.ts';
import { startPostgresWakeups } from '../../kernel/sql/postgres-wakeups.ts';
import { createWakeups, type Wakeups } from '../../kernel/wakeups.ts';
import { leftOut, postgresOfFile } from '../support/databases.ts';
import { hasPostgres } from '../support/postgres.ts';
import { isWithoutRedis, openRedis, startRedis, startRedisCluster } from '../support/redis.ts';

/** Two programs that can wake each other; where there is only one, it is both. */
interface Pair extends AsyncDisposable {
  readonly here: Wakeups;
  readonly there: Wakeups;
}

/** Waits until one hears the other: a line is made in its own time. */
const untilHeard = async (from: Wakeups, to: Wakeups): Promise<void> => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const stop = to.listen('hello', (payload) => payload === 'here' && resolve());
  const asking = setInterval(() => from.notify('hello', 'here'), 20);
  await promise;
  clearInterval(asking);
  stop();
  await systemClock.sleep(100); // those that were said meanwhile
};

const onPostgres = async (): Promise<Pair> => {
  const url = await (await postgresOfFile()).database();
  const [here, there] = [0, 1].map(() => startPostgresWakeups({ url, clock: systemClock, log: silentLogger }));
  if (here === undefined || there === undefined) throw new Error('two of two');
  await untilHeard(here, there);
  await untilHeard(there, here);
  const end = async () => void (await Promise.all([here, there].map((one) => one[Symbol.asyncDispose]())));
  return { here, there, [Symbol.asyncDispose]: end };
};

const onRedis = async (server: AsyncDisposable & { readonly url: string }): Promise<Pair> => {
  const stack = new AsyncDisposableStack();
  stack.use(server);
  const open = async () => {
    const redis = stack.use(await openRedis(server.url));
    return stack.use(createRedisWakeups({ redis, name: 'test', clock: systemClock, log: silentLogger }));
  };
  const [here, there] = [await open(), await open()];
  await untilHeard(here, there);
  await untilHeard(there, here);
  return { here, there, [Symbol.asyncDispose]: () => stack.disposeAsync() };
};

const adapters: Readonly<Record<string, () => Promise<Pair>>> = {
  'in process': async () => {
    const here = createWakeups(silentLogger);
    return { here, there: here, [Symbol.asyncDispose]: () => here[Symbol.asyncDispose]() };
  },
  postgres: hasPostgres() ? onPostgres : leftOut,
  Redis: async () => onRedis(await startRedis()),
  'Redis Cluster': async () => onRedis(await startRedisCluster()),
};

const until = async (holds: () => boolean) => {
  for (let tries = 0; tries < 2_000 && !holds(); tries += 1) await systemClock.sleep(2);
  expect(holds()).toBe(true);
};

const isLeftOut = (name: string): boolean => isWithoutRedis && name.startsWith('Redis');

for (const [name, create] of Object.entries(adapters))
  describe.skipIf(isLeftOut(name))(`Wakeups: ${name}`, () => {
    test('everybody who listens to the channel hears it, and nobody else', async () => {
      await using pair = await create();
      const heard: string[] = [];
      pair.here.listen('work', (payload) => heard.push(`here ${payload}`));
      pair.there.listen('work', (payload) => heard.push(`there ${payload}`));
      pair.there.listen('rest', (payload) => heard.push(`rest ${payload}`));
      pair.here.notify('work', 'a');
      await until(() => heard.length === 2);
      pair.there.notify('work');
      await until(() => heard.length === 4);
      pair.here.notify('rest', "it's ; -- odd");
      await until(() => heard.length === 5);
      expect(heard.toSorted()).toEqual(['here ', 'here a', "rest it's ; -- odd", 'there ', 'there a']);
    });

    test('whoever stopped listening hears nothing more, and the others still do', async () => {
      await using pair = await create();
      const heard: string[] = [];
      const hear = (payload: string) => heard.push(payload);
      const stop = pair.there.listen('work', hear);
      pair.there.listen('work', hear);
      stop();
      stop();
      pair.here.notify('work', 'a');
      await until(() => heard.length === 1);
      pair.here.notify('work', 'b');
      await until(() => heard.length === 2);
      expect(heard.toSorted()).toEqual(['a', 'b']);
    });

    test('a listener that throws keeps the word from nobody, nor stops who told it', async () => {
      await using pair = await create();
      const heard: string[] = [];
      pair.there.listen('work', () => {
        throw new Error('deaf');
      });
      pair.there.listen('work', (payload) => heard.push(payload));
      pair.here.notify('work', 'a');
      expect(heard).toEqual([]);
      await until(() => heard.length === 1);
    });
  });

describe.runIf(hasPostgres())('Wakeups on a PostgreSQL that is away', () => {
  test('everybody looks while it is away, and hears again when it is back', async () => {
    await using pair = await onPostgres();
    const heard: string[] = [];
    pair.there.listen('work', (payload) => heard.push(payload));
    await (await postgresOfFile()).restart();
    await until(() => heard.includes(''));
    await untilHeard(pair.here, pair.there);
    heard.length = 0;
    pair.here.notify('work', 'a');
    await until(() => heard.includes('a'));
  });

  test('a flood is told as far as it can be, and whoever told it never waits', async () => {
    await using pair = await onPostgres();
    const heard = new Set<string>();
    pair.there.listen('flood', (payload) => heard.add(payload));
    for (let n = 0; n < 5_000; n += 1) pair.here.notify('flood', String(n));
    await until(() => heard.has(''));
    pair.here.notify('flood', 'last');
    await until(() => heard.has('last'));
  });
});
