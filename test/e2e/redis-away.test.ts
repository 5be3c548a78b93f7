import { describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createRedisRateLimits } from '../../kernel/redis/rate-limits.ts';
import { createRedisWakeups } from '../../kernel/redis/wakeups.ts';
import { isWithoutRedis, openRedis, startRedis, until } from '../support/redis.ts';

/** What goes on while Redis is away. */

const name = 'test';

describe.skipIf(isWithoutRedis)('without its Redis', () => {
  test('a process keeps limits alone, and with the others again afterwards', async () => {
    await using server = await startRedis();
    await using one = await openRedis(server.url);
    await using two = await openRedis(server.url);
    const [here, there] = [one, two].map((redis) => createRedisRateLimits({ redis, name, clock: systemClock }));
    if (here === undefined || there === undefined) throw new Error('two of two');
    const limit = { perMinute: 1, burst: 3 };
    for (const limits of [here, there, here]) expect(await limits.take('a', limit)).toBe(0);
    expect(await there.take('a', limit)).toBeGreaterThan(0);
    await server.kill();
    // Each alone lets as many through, and no more.
    for (const limits of [here, there]) {
      for (let n = 0; n < 3; n += 1) expect(await limits.take('b', limit)).toBe(0);
      expect(await limits.take('b', limit)).toBeGreaterThan(0);
    }
    await server.start();
    await until(
      'limits are shared again',
      async () => (await here.take('c', limit)) > 0 && (await there.take('c', limit)) > 0,
    );
    await until('and so they are from the beginning', async () => {
      const key = `d${systemClock.now()}`;
      for (let n = 0; n < 3; n += 1) await here.take(key, limit);
      return (await there.take(key, limit)) > 0;
    });
  });

  test('everybody is told to look, again and again, and what could not be told is told as that', async () => {
    await using server = await startRedis();
    await using one = await openRedis(server.url);
    await using two = await openRedis(server.url);
    const options = { name, clock: systemClock, log: silentLogger };
    await using here = createRedisWakeups({ ...options, redis: one });
    await using there = createRedisWakeups({ ...options, redis: two });
    const heard: string[] = [];
    there.listen('work', (payload) => heard.push(payload));
    await until('they hear each other', () => {
      here.notify('work', 'a');
      return heard.includes('a');
    });
    await server.kill();
    heard.length = 0;
    await until('they are told to look', () => heard.length > 1);
    expect(new Set(heard)).toEqual(new Set(['']));
    there.notify('work', 'of my own');
    await until('its own word is heard without Redis', () => heard.includes('of my own'));
    here.notify('work', 'lost');
    await server.start();
    heard.length = 0;
    await until('what was lost is told as a look', () => heard.includes(''));
    await until('they hear each other again', () => {
      here.notify('work', 'b');
      return heard.includes('b');
    });
    expect(heard).not.toContain('lost');
  });
});
