import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readConnectorConfig } from '../../connector/config.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import { createLogger } from '../../kernel/log.ts';
import { brokerBench } from '../support/broker-bench.ts';
import { acquire, connectorBench, joinBroker } from '../support/chain-world.ts';
import { agePlaces, isWithoutRedis, openRedis, startRedis, until } from '../support/redis.ts';
import { secretText } from '../support/secrets.ts';

/** Whole connectors beside a Redis that comes and goes. */

const purpose = 'urn:stekker:1:purpose:crisis';
const application = 'urn:stekker:1:app:evacuatie@1.0.0';
const password = secretText('redis');

const startAll = async () => {
  const stack = new AsyncDisposableStack();
  const server = stack.use(await startRedis(['--save', '', '--requirepass', password]));
  const url = `redis://:${password}@127.0.0.1:${server.port}`;
  const lines: string[] = [];
  const log = createLogger({ name: 'test', level: 'debug', destination: { write: (line) => void lines.push(line) } });
  const brokerSide = stack.use(await brokerBench({ STEKKER_REDIS_URLS: url }));
  const broker = stack.use(await brokerSide.start({}, { log }));
  const env = { STEKKER_BROKER_URL: brokerSide.origin, STEKKER_REDIS_URLS: url };
  const holderSide = stack.use(await connectorBench({ ...env, STEKKER_NAME: 'Waterschap' }));
  const runtimeSide = stack.use(await connectorBench(env));
  const holder = stack.use(await holderSide.start({}, { log }));
  const runtime = stack.use(await runtimeSide.start({}, { log }));
  await joinBroker(broker, holder, { roles: ['data-holder'] });
  await joinBroker(broker, runtime, { roles: ['application-runtime'] });
  const { body } = await runtime.operate('POST', '/v1/applications', { application });
  const path = join(holderSide.folder, 'levels.json');
  writeFileSync(path, '{"levels":[1,2,3]}');
  const publish = async (title: string): Promise<string> => {
    const published = await holder.operate('POST', '/v1/publications', {
      title,
      upstream: { kind: 'file', path },
      policy: { template: 'purpose', parameters: { purpose } },
      price: { currency: 'EUR', scale: '4', lines: [{ unit: 'requests', quantity: '1', value: '25' }] },
    });
    return String((published.body.asset as { readonly id: string }).id);
  };
  const get = (dataUrl: string) =>
    fetch(dataUrl, { headers: { authorization: `Bearer ${String(body.key)}`, 'stekker-purpose': purpose } });
  /** As if Redis had kept claims for long. */
  const age = async () => {
    await using redis = await openRedis(url);
    await agePlaces(redis, `connector:${holderSide.did}`, 600_000);
  };
  const health = async (): Promise<unknown> => {
    const answer = await fetch(`${holderSide.origin}/health`);
    return { status: answer.status, ...((await answer.json()) as object) };
  };
  const provider = holderSide.did as Did;
  return {
    server,
    lines,
    holder,
    runtime,
    provider,
    publish,
    get,
    age,
    health,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
};

describe.skipIf(isWithoutRedis)('connectors over Redis', () => {
  test('serve data while it is there; without it they serve none, everything else goes on, and they find it again', async () => {
    await using all = await startAll();
    const { server, holder, runtime, provider, lines } = all;
    expect(await all.health()).toEqual({ status: 'ready' } as object);
    await all.age();
    const first = await acquire(runtime, { provider, dataset: await all.publish('before') });
    const served = await all.get(first.dataUrl);
    expect([served.status, await served.json()]).toEqual([200, { levels: [1, 2, 3] }]);

    await server.kill();
    const refused = await all.get(first.dataUrl);
    expect([refused.status, Number(refused.headers.get('retry-after')) > 0]).toEqual([503, true]);
    expect(await refused.json()).toMatchObject({ type: 'urn:stekker:1:error:replay-store-unavailable' });
    await until('health says so', async () => JSON.stringify(await all.health()).includes('away'));
    expect(await all.health()).toEqual({ status: 'ready', redis: 'away' } as object);
    const { troubles } = (await holder.operate('GET', '/v1/status')).body;
    expect(troubles).toEqual([expect.stringContaining('Redis cannot be asked')]);
    const second = await acquire(runtime, { provider, dataset: await all.publish('meanwhile') });
    expect((await all.get(second.dataUrl)).status).toBe(503);

    await server.start();
    await until('Redis is found again', async () => !JSON.stringify(await all.health()).includes('away'));
    await all.age();
    for (const { dataUrl } of [first, second]) expect((await all.get(dataUrl)).status).toBe(200);

    const said = lines.join('');
    expect(said).toContain('Redis cannot be asked');
    expect(said).toContain('Redis can be asked');
    expect(said).toContain(`127.0.0.1:${server.port}`);
    expect(said).not.toContain(password);
  });

  test('with a wrong password says so, and not which', async () => {
    await using server = await startRedis(['--save', '', '--requirepass', password]);
    const wrong = secretText('other');
    await using bench = await connectorBench({ STEKKER_REDIS_URLS: `redis://:${wrong}@127.0.0.1:${server.port}` });
    const lines: string[] = [];
    const log = createLogger({ name: 'test', level: 'debug', destination: { write: (line) => void lines.push(line) } });
    await using _ = await bench.start({}, { log });
    const said = lines.join('');
    expect(said).toContain('Redis cannot be asked');
    expect(said).toMatch(/WRONGPASS|NOAUTH/);
    expect(said).not.toContain(wrong);
  });

  test('an address that is none stops the start, and is not shown', async () => {
    for (const text of [
      'http://a',
      'redis://',
      `redis://a,redis://:${password}@b`,
      `redis+cluster://:${password}@a/3`,
    ]) {
      const read = () => readConnectorConfig({ STEKKER_REDIS_URLS: text });
      expect(read).toThrow(AppError);
      expect(read).toThrow(/STEKKER_REDIS_URLS is no list of addresses/);
      expect(read).not.toThrow(password);
    }
  });
});
