import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { createRateLimits, type RateLimits } from '../../kernel/rate-limits.ts';
import { createRedisRateLimits } from '../../kernel/redis/rate-limits.ts';
import { isWithoutRedis, openRedis, startRedis, startRedisCluster } from '../support/redis.ts';

/** Two processes of one deployment; where limits are of one process, it is both. */
interface Pair extends AsyncDisposable {
  readonly here: RateLimits;
  readonly there: RateLimits;
}

interface Backend extends AsyncDisposable {
  readonly open: () => Promise<Pair>;
}

const inProcess = async (): Promise<Backend> => ({
  open: async () => {
    const limits = createRateLimits(systemClock);
    return { here: limits, there: limits, [Symbol.asyncDispose]: async () => undefined };
  },
  [Symbol.asyncDispose]: async () => undefined,
});

const overRedis = async (server: AsyncDisposable & { readonly url: string }): Promise<Backend> => ({
  open: async () => {
    const stack = new AsyncDisposableStack();
    const shared = { name: randomBytes(8).toString('hex'), clock: systemClock };
    const open = async () => createRedisRateLimits({ ...shared, redis: stack.use(await openRedis(server.url)) });
    return { here: await open(), there: await open(), [Symbol.asyncDispose]: () => stack.disposeAsync() };
  },
  [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
});

const backends = [
  ['in process', false, inProcess],
  ['Redis', true, async () => overRedis(await startRedis())],
  ['Redis Cluster', true, async () => overRedis(await startRedisCluster())],
] as const;

/** So slow that none comes back during a test. */
const slow = { perMinute: 1, burst: 40 };

for (const [name, needsRedis, start] of backends)
  describe.skipIf(needsRedis && isWithoutRedis)(`RateLimits: ${name}`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await start();
    });
    afterAll(async () => backend?.[Symbol.asyncDispose]());

    test('gives as many at once as may come at once, to all processes together, and says how long to wait', async () => {
      await using pair = await backend.open();
      const waits = await Promise.all(
        Array.from({ length: 100 }, (_, n) => (n % 2 === 0 ? pair.here : pair.there).take('a', slow)),
      );
      const given = waits.filter((wait) => wait === 0).length;
      expect(given).toBe(40);
      for (const wait of waits.filter((ms) => ms > 0)) expect(wait).toBeLessThanOrEqual(60_000);
      expect(Math.max(...waits)).toBeGreaterThan(50_000);
    });

    test('keys are apart, and one that is refused takes nothing', async () => {
      await using pair = await backend.open();
      const limit = { perMinute: 1, burst: 1 };
      expect(await pair.here.take('a', limit)).toBe(0);
      const first = await pair.here.take('a', limit);
      for (let n = 0; n < 50; n += 1) expect(await pair.there.take('a', limit)).toBeLessThanOrEqual(first);
      expect(await pair.there.take('b', limit)).toBe(0);
    });

    test('what was taken comes back at its pace', async () => {
      await using pair = await backend.open();
      const limit = { perMinute: 1_200, burst: 2 }; // one in 50 ms
      expect([await pair.here.take('a', limit), await pair.here.take('a', limit)]).toEqual([0, 0]);
      const wait = await pair.here.take('a', limit);
      expect(wait).toBeGreaterThan(0);
      expect(wait).toBeLessThanOrEqual(50);
      await systemClock.sleep(wait + 5);
      expect(await pair.here.take('a', limit)).toBe(0);
    });
  });
