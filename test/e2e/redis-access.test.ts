import { describe, expect, test } from 'vitest';
import { uuidV7Time } from '../../contracts/ids.ts';
import { replayKey } from '../../contracts/ledger/record.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createRedisReplay } from '../../kernel/redis/replay.ts';
import { type Answer, agreementDigest, providerPid, startWorld } from '../support/data-world.ts';
import { agePlaces, isWithoutRedis, openRedis, startRedis, until } from '../support/redis.ts';

/** A data plane whose repeats are told by a Redis that it shares with others. */

const name = 'test';

const startShared = async () => {
  const stack = new AsyncDisposableStack();
  const server = stack.use(await startRedis());
  const redis = stack.use(await openRedis(server.url));
  const replay = createRedisReplay({ redis, name, clock: systemClock });
  await replay.visit();
  const age = () => agePlaces(redis, name, 600_000);
  await age();
  const other = createRedisReplay({ redis: stack.use(await openRedis(server.url)), name, clock: systemClock });
  const world = stack.use(await startWorld({ replay }));
  return { world, server, replay, other, age, [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose]() };
};

const codeOf = (answer: Answer): string =>
  String(JSON.parse(answer.body.toString() || '{}').type ?? '').replace('urn:stekker:1:error:', '');

describe.skipIf(isWithoutRedis)('a data plane over Redis', () => {
  test('serves a proof once, however often and however close together it comes', async () => {
    await using shared = await startShared();
    const { world } = shared;
    const token = await world.getToken();
    const proof = token.maker.make(world.claimsFor(`/${providerPid}/rain`, token.text));
    const answers = await Promise.all(Array.from({ length: 8 }, () => world.access(token, { proof })));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, ...Array(7).fill(409)]);
    expect(world.meter().opened()).toHaveLength(1);
  });

  test('refuses a proof that another process has served', async () => {
    await using shared = await startShared();
    const { world, other } = shared;
    const token = await world.getToken();
    const jti = world.newId();
    const key = replayKey(nodeCrypto, agreementDigest, jti);
    expect(await other.claim(key, uuidV7Time(jti), agreementDigest)).toBe('fresh');
    const answer = await world.access(token, { claims: { jti } });
    expect([answer.status, codeOf(answer)]).toEqual([409, 'request-repeated']);
    expect(world.meter().opened()).toHaveLength(0);
  });

  test('asks again, after the wait, whether the access still stands', async () => {
    await using shared = await startShared();
    const { world, server } = shared;
    const token = await world.getToken();
    expect((await world.access(token)).status).toBe(200);
    server.pause();
    const asked = world.access(token);
    await systemClock.sleep(200);
    await world.closeTransfer();
    server.resume();
    expect([(await asked).status, world.meter().opened().length]).toEqual([401, 1]);
  });

  test('serves nothing while Redis is away, says when to come again, and goes on by itself', async () => {
    await using shared = await startShared();
    const { world, server, replay, age } = shared;
    const token = await world.getToken();
    expect((await world.access(token)).status).toBe(200);
    await server.kill();
    const refused = await world.access(token);
    expect([refused.status, codeOf(refused)]).toEqual([503, 'replay-store-unavailable']);
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    await world.getToken(); // the token endpoint needs no Redis
    await server.start();
    await until('Redis is found again', () =>
      replay.visit().then(
        () => true,
        () => false,
      ),
    );
    expect((await world.access(token)).headers['retry-after']).toBe('120');
    await age();
    expect((await world.access(token)).status).toBe(200);
    expect(world.meter().opened()).toHaveLength(2);
  });

  test('that starts while Redis is away serves nothing until its own past is over', async () => {
    await using shared = await startShared();
    const { world, server, replay, age } = shared;
    const token = await world.getToken();
    const jti = world.newId();
    const proof = token.maker.make(world.claimsFor(`/${providerPid}/rain`, token.text, { jti }));
    expect((await world.access(token, { proof })).status).toBe(200);
    await server.kill();
    await world.restart();
    await server.start();
    await until('Redis is found again', () =>
      replay.visit().then(
        () => true,
        () => false,
      ),
    );
    await age();
    const answer = await world.access(token, { proof });
    expect([answer.status, codeOf(answer)]).toEqual([503, 'replay-store-unavailable']);
    expect(world.meter().opened()).toHaveLength(1);
  });
});
