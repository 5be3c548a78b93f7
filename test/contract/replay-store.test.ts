import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createReplaySet } from '../../connector/data-plane/replay.pure.ts';
import { systemClock } from '../../kernel/clock.ts';
import { createRedisReplay } from '../../kernel/redis/replay.ts';
import type { Claim, ReplayStore } from '../../kernel/replay.ts';
import { agePlaces, isWithoutRedis, openRedis, startRedis, startRedisCluster } from '../support/redis.ts';

/** Two processes of one deployment; where a store is of one process, it is both. */
interface Pair extends AsyncDisposable {
  readonly here: ReplayStore;
  readonly there: ReplayStore;
}

interface Backend extends AsyncDisposable {
  /** A store that has kept claims for long. */
  readonly open: () => Promise<Pair>;
}

const overRedis = async (server: AsyncDisposable & { readonly url: string }): Promise<Backend> => ({
  open: async () => {
    const [here, there] = [await openRedis(server.url), await openRedis(server.url)];
    const name = randomBytes(8).toString('hex');
    const shared = { name, clock: systemClock };
    const first = createRedisReplay({ ...shared, redis: here });
    await first.visit();
    await agePlaces(here, name, 600_000);
    return {
      here: first,
      there: createRedisReplay({ ...shared, redis: there }),
      [Symbol.asyncDispose]: async () => {
        await here[Symbol.asyncDispose]();
        await there[Symbol.asyncDispose]();
      },
    };
  },
  [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
});

const inProcess = async (): Promise<Backend> => ({
  open: async () => {
    const store = createReplaySet(4_096);
    return { here: store, there: store, [Symbol.asyncDispose]: async () => undefined };
  },
  [Symbol.asyncDispose]: async () => undefined,
});

const backends = [
  ['in process', false, inProcess],
  ['Redis', true, async () => overRedis(await startRedis())],
  ['Redis Cluster', true, async () => overRedis(await startRedisCluster())],
] as const;

for (const [name, needsRedis, start] of backends)
  describe.skipIf(needsRedis && isWithoutRedis)(`ReplayStore: ${name}`, () => {
    let backend: Backend;
    beforeAll(async () => {
      backend = await start();
    });
    afterAll(async () => backend?.[Symbol.asyncDispose]());

    test('a key is fresh once, whichever process claims it', async () => {
      await using pair = await backend.open();
      const now = systemClock.now();
      for (let n = 0; n < 200; n += 1) {
        const key = randomBytes(16);
        expect(await pair.here.claim(key, now, 'a')).toBe('fresh');
        expect(await pair.there.claim(key, now, 'a')).toBe('seen');
        expect(await pair.here.claim(key, now, 'a')).toBe('seen');
      }
    });

    test('of many that claim one key together exactly one gets it', async () => {
      await using pair = await backend.open();
      const now = systemClock.now();
      for (let round = 0; round < 50; round += 1) {
        const key = randomBytes(16);
        const claims: Promise<Claim>[] = [];
        for (let n = 0; n < 16; n += 1)
          claims.push(Promise.resolve((n % 2 === 0 ? pair.here : pair.there).claim(key, now, 'a')));
        const answers = await Promise.all(claims);
        expect(answers.filter((answer) => answer === 'fresh')).toHaveLength(1);
        expect(answers.filter((answer) => answer === 'seen')).toHaveLength(15);
      }
    });

    test('keys of the past and of the future minute count once too', async () => {
      await using pair = await backend.open();
      const now = systemClock.now();
      for (const at of [now - 59_000, now + 59_000]) {
        const key = randomBytes(16);
        expect(await pair.here.claim(key, at, 'a')).toBe('fresh');
        expect(await pair.there.claim(key, at, 'a')).toBe('seen');
      }
    });
  });
