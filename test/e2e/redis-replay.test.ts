import { spawnSync } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { describe, expect, test } from 'vitest';
import type { Clock } from '../../kernel/clock.ts';
import { systemClock } from '../../kernel/clock.ts';
import { connectRedis, type RedisConnection, script } from '../../kernel/redis/connection.ts';
import { partnerOf, placeCount, placeTags, slotOf } from '../../kernel/redis/places.ts';
import { createRedisRateLimits } from '../../kernel/redis/rate-limits.ts';
import { createRedisReplay, type RedisReplay } from '../../kernel/redis/replay.ts';
import { readRedisUrls } from '../../kernel/redis/urls.ts';
import type { Claim } from '../../kernel/replay.ts';
import { freePort } from '../support/holder.ts';
import { makeCertificate } from '../support/network.ts';
import {
  agePlaces,
  isWithoutRedis,
  openRedis,
  RedisServer,
  startRedis,
  startRedisCluster,
  until,
} from '../support/redis.ts';
import { secretText } from '../support/secrets.ts';

/** Redis answers before anything is safe: what it may lose, and that no loss lets a proof count twice. */

const name = 'test';
const keyIn = (place: number): Uint8Array => {
  const key = new Uint8Array(randomBytes(16));
  key[0] = place;
  return key;
};
const textOf = (key: Uint8Array): string => Buffer.from(key).toString('base64url');

const movedClock = () => {
  let ahead = 0;
  const clock: Clock = { now: () => systemClock.now() + ahead, sleep: systemClock.sleep };
  return {
    clock,
    move: (ms: number) => {
      ahead += ms;
    },
  };
};

/** A store over one server that has kept claims for long. */
const openSettled = async (server: RedisServer, clock: Clock = systemClock) => {
  const redis = await openRedis(server.url);
  const store = createRedisReplay({ redis, name, clock });
  await store.visit();
  await agePlaces(redis, name, 600_000);
  return { redis, store, [Symbol.asyncDispose]: () => redis[Symbol.asyncDispose]() };
};

const isUnknown = (claim: Claim): boolean => typeof claim === 'object';

const untilAnswers = (store: RedisReplay): Promise<void> =>
  until('the store is visited', () =>
    store.visit().then(
      () => true,
      () => false,
    ),
  );

describe.skipIf(isWithoutRedis)('replay over Redis', () => {
  test('a server that is new knows nothing of the minutes before, and says so for as long', async () => {
    await using server = await startRedis();
    await using redis = await openRedis(server.url);
    const { clock, move } = movedClock();
    const store = createRedisReplay({ redis, name, clock });
    await store.visit();
    const early = await store.claim(keyIn(0), clock.now(), 'a');
    expect(early).toMatchObject({ retryAfterSeconds: 120 });
    move(119_000);
    expect(isUnknown(await store.claim(keyIn(0), clock.now(), 'a'))).toBe(true);
    move(1_100);
    expect(await store.claim(keyIn(0), clock.now(), 'a')).toBe('fresh');
    // One of the minute before could have been used a minute earlier still.
    expect(isUnknown(await store.claim(keyIn(0), clock.now() - 50_000, 'a'))).toBe(true);
  });

  test('what a server lost when it crashed and came back from its disk does not count again', async () => {
    await using server = await startRedis(['--save', '3600 1', '--appendonly', 'no']);
    const { clock, move } = movedClock();
    await using settled = await openSettled(server, clock);
    const { store } = settled;
    const [saved, lost] = [keyIn(5), keyIn(5)];
    const at = clock.now();
    expect(await store.claim(saved, at, 'a')).toBe('fresh');
    await server.ask((admin) => admin.save());
    expect(await store.claim(lost, at, 'a')).toBe('fresh');
    await server.kill();
    expect(isUnknown(await store.claim(keyIn(5), at, 'a'))).toBe(true);
    await server.start();
    await untilAnswers(store);
    expect(await store.claim(saved, at, 'a')).toBe('seen');
    const answer = await store.claim(lost, at, 'a');
    expect(isUnknown(answer)).toBe(true);
    expect(isUnknown(await store.claim(keyIn(5), clock.now(), 'a'))).toBe(true);
    move(121_000);
    expect(await store.claim(keyIn(5), clock.now(), 'a')).toBe('fresh');
  });

  test('a server that was emptied begins anew', async () => {
    await using server = await startRedis();
    await using settled = await openSettled(server);
    const key = keyIn(9);
    const at = systemClock.now();
    expect(await settled.store.claim(key, at, 'a')).toBe('fresh');
    await server.ask((admin) => admin.flushall());
    expect(isUnknown(await settled.store.claim(key, at, 'a'))).toBe(true);
  });

  test('a server that drops keys when it is full is not believed', async () => {
    await using server = await startRedis(['--save', '', '--maxmemory', '64mb', '--maxmemory-policy', 'volatile-lru']);
    await using redis = await openRedis(server.url);
    const store = createRedisReplay({ redis, name, clock: systemClock });
    await expect(store.visit()).rejects.toThrow(/noeviction/);
    await agePlaces(redis, name, 600_000).catch(() => undefined);
    expect(await store.claim(keyIn(1), systemClock.now(), 'a')).toEqual({ retryAfterSeconds: 60 });
  });

  test('a server that is full, gone or stands still gives no answer for long, and none that lets through', async () => {
    await using server = await startRedis();
    await using settled = await openSettled(server);
    const { store } = settled;
    await server.ask((admin) => admin.config('SET', 'maxmemory', '1'));
    expect(isUnknown(await store.claim(keyIn(1), systemClock.now(), 'a'))).toBe(true);
    await server.ask((admin) => admin.config('SET', 'maxmemory', '0'));
    expect(await store.claim(keyIn(1), systemClock.now(), 'a')).toBe('fresh');
    server.pause();
    const started = performance.now();
    const many = Array.from({ length: 10_000 }, () => store.claim(keyIn(1), systemClock.now(), 'a'));
    expect((await Promise.all(many)).every(isUnknown)).toBe(true);
    expect(performance.now() - started).toBeLessThan(15_000);
    server.resume();
    await untilAnswers(store);
    expect(await store.claim(keyIn(1), systemClock.now(), 'a')).toBe('fresh');
    await server.kill();
    expect(isUnknown(await store.claim(keyIn(1), systemClock.now(), 'a'))).toBe(true);
  });

  test('a connection can be made before the server is there, and finds it by itself', async () => {
    await using server = await startRedis();
    await server.kill();
    const urls = readRedisUrls(server.url);
    if (urls === undefined) throw new Error('no address');
    await using redis = connectRedis(urls);
    const store = createRedisReplay({ redis, name, clock: systemClock });
    expect(isUnknown(await store.claim(keyIn(1), systemClock.now(), 'a'))).toBe(true);
    await expect(store.visit()).rejects.toThrow();
    await server.start();
    await untilAnswers(store);
  });
});

/** Which of these claims no longer stand where they were made. */
const lostIn = async (redis: RedisConnection, place: number, keys: readonly Uint8Array[]): Promise<number> => {
  const exists = script("return redis.call('EXISTS', KEYS[1])");
  const prefix = `stekker:${name}:replay:{${placeTags[place] ?? ''}}`;
  const found = await Promise.all(keys.map((key) => redis.run(exists, [`${prefix}:${textOf(key)}`], [])));
  return found.filter((count) => count !== 1).length;
};

describe.skipIf(isWithoutRedis || spawnSync('openssl', ['version']).error !== undefined)('Redis over TLS', () => {
  test('is asked with a name and a password, and only when its certificate holds', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'stekker-redis-tls-'));
    await using _ = { [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true, force: true }) };
    const { certFile, keyFile } = makeCertificate(folder, ['localhost']);
    const port = await freePort();
    const [user, password] = ['stekker', secretText('redis')];
    const tls = ['--port', '0', '--tls-port', String(port), '--tls-cert-file', certFile, '--tls-key-file', keyFile];
    // What docs/guides/scaling.md says is enough.
    const commands = 'evalsha eval info ping publish subscribe cluster hset hmget set get time'.split(' ');
    const may = ['~stekker:*', '&stekker:*', ...commands.map((command) => `+${command}`)];
    const who = ['--user', 'default', 'off', '--user', user, 'on', `>${password}`, ...may];
    await using server = new RedisServer(port, [...tls, '--tls-auth-clients', 'no', '--save', '', ...who]);
    await server.start();
    const urls = readRedisUrls(`rediss://${user}:${password}@localhost:${port}`);
    if (urls === undefined) throw new Error('no address');
    const ask = async (): Promise<unknown> => {
      await using redis = connectRedis(urls);
      const store = createRedisReplay({ redis, name, clock: systemClock });
      for (let tries = 0; ; tries += 1)
        try {
          await store.visit();
          await redis.publish(`stekker:${name}:wake`, '');
          const take = () =>
            createRedisRateLimits({ redis, name, clock: systemClock }).take('a', { perMinute: 1, burst: 1 });
          return [
            await take(),
            Number(await take()) > 0,
            isUnknown(await store.claim(keyIn(1), systemClock.now(), 'a')),
          ];
        } catch (error) {
          if (tries === 20) return error;
          await systemClock.sleep(50);
        }
    };
    expect(String(await ask())).toMatch(/certificate/);
    const before = getCACertificates('default');
    setDefaultCACertificates([...before, readFileSync(certFile, 'utf8')]);
    try {
      expect(await ask()).toEqual([0, true, true]);
    } finally {
      setDefaultCACertificates(before);
    }
  });
});

describe.skipIf(isWithoutRedis)('replay over a Redis Cluster', () => {
  test('a place and its partner never stand on one master', async () => {
    await using cluster = await startRedisCluster();
    for (let place = 0; place < placeCount; place += 1) {
      const [own, other] = [place, partnerOf(place)].map((one) => slotOf(placeTags[one] ?? ''));
      expect(await cluster.masterOf(own ?? 0)).not.toBe(await cluster.masterOf(other ?? 0));
    }
  });

  test('a master that dies under load, with claims that no replica has, lets no proof count twice', async () => {
    await using cluster = await startRedisCluster(3, 1_500);
    await using here = await openRedis(cluster.url);
    await using there = await openRedis(cluster.url);
    const stores = [here, there].map((redis) => createRedisReplay({ redis, name, clock: systemClock }));
    const [first, second] = stores;
    if (first === undefined || second === undefined) throw new Error('two stores');
    await first.visit();
    await agePlaces(here, name, 600_000);

    const place = 7;
    const slot = slotOf(placeTags[place] ?? '');
    const master = await cluster.masterOf(slot);
    const claimed: { readonly key: Uint8Array; readonly at: number; fresh: number }[] = [];
    const claim = async (store: RedisReplay, proof: (typeof claimed)[number]): Promise<Claim> => {
      const answer = await store.claim(proof.key, proof.at, 'a');
      if (answer === 'fresh') proof.fresh += 1;
      return answer;
    };
    const stop = new AbortController();
    await using _ = { [Symbol.asyncDispose]: async () => stop.abort() };
    /** Each proof is sent to one process, and again to the other: before, during and after the loss. */
    const load = async (own: RedisReplay, other: RedisReplay): Promise<void> => {
      while (!stop.signal.aborted) {
        const proof = { key: keyIn(randomInt(placeCount)), at: systemClock.now(), fresh: 0 };
        claimed.push(proof);
        if (isUnknown(await claim(own, proof))) await systemClock.sleep(2);
        const again = claimed[randomInt(claimed.length)];
        if (again !== undefined) await claim(other, again);
      }
    };
    const loads = Array.from({ length: 16 }, (_, n) => (n % 2 === 0 ? load(first, second) : load(second, first)));

    // The replica of this master hears nothing more: what is claimed now stands on no other server of its slots.
    const replicas = /slave0:ip=[^,]+,port=(\d+)/.exec(await master.ask((admin) => admin.info('replication')));
    const replica = cluster.servers.find(({ port }) => port === Number(replicas?.[1]));
    if (replica === undefined) throw new Error('the master has a replica');
    await replica.ask(async (admin) => {
      await admin.config('SET', 'masteruser', 'nobody', 'masterauth', 'wrong');
      await admin.call('CLIENT', 'KILL', 'TYPE', 'master');
    });
    await until('the replica is cut off', async () =>
      (await replica.ask((admin) => admin.info('replication'))).includes('master_link_status:down'),
    );
    const since = claimed.length;
    await until('claims that only one server of their slots has', () => claimed.length > since + 1_000);
    await master.kill();
    const inPlace = ({ key, fresh }: (typeof claimed)[number]) => key[0] === place && fresh > 0;
    const onlyThere = claimed.slice(since).filter(inPlace);

    await until('another master leads', cluster.isWhole, 60_000);
    await until(
      'fresh proofs are served again, in every place',
      async () => {
        const answers = await Promise.all(placeTags.map((_, at) => first.claim(keyIn(at), systemClock.now(), 'a')));
        return answers.every((answer) => answer === 'fresh');
      },
      60_000,
    );
    const total = claimed.length;
    await until('load goes on', () => claimed.length > total + 500);
    stop.abort();
    await Promise.all(loads);

    expect(await cluster.masterOf(slot)).not.toBe(master);
    expect(onlyThere.length).toBeGreaterThan(0);
    expect(
      await lostIn(
        here,
        place,
        onlyThere.map(({ key }) => key),
      ),
    ).toBeGreaterThan(0);
    // Everything that was ever sent, accepted or not, is sent once more to both.
    for (let from = 0; from < claimed.length; from += 500)
      await Promise.all(
        claimed.slice(from, from + 500).flatMap((proof) => [claim(first, proof), claim(second, proof)]),
      );
    expect(claimed.filter(({ fresh }) => fresh > 1)).toEqual([]);
    expect(claimed.filter(({ fresh }) => fresh === 1).length).toBeGreaterThan(1_000);
  });
});
