import { mkdirSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { seededRandom, systemRandom } from '../../kernel/random.ts';
import { type BrokerBench, brokerBench, type Operated, until } from '../support/broker-bench.ts';
import {
  acquire,
  type ConnectorBench,
  connectorBench,
  joinBroker,
  type OperatedConnector,
} from '../support/chain-world.ts';
import { childConnector } from '../support/child-connector.ts';
import { askToken, hostileKey, journalOf, makeAccess, type Sent, tokensOf, transferUnder } from '../support/hostile.ts';
import { type Reading, readOnce, startReaders } from '../support/readers.ts';
import { atLast, settle, trustIn } from '../support/settled.ts';

/** A connector that serves data on two threads, each with a journal of its own; they are ended in the middle of what they do. */

const purpose = 'urn:stekker:1:purpose:crisis';
const application = 'urn:stekker:1:app:evacuatie@1.0.0';
const files = { 'note.txt': 120, 'levels.json': 6_000, 'map.bin': 300_000, 'heights.bin': 20_000_000 };
const price = { currency: 'EUR', scale: '4', lines: [{ unit: 'requests', quantity: '1', value: '25' }] };
const workers = [1, 2] as const;

const seed = process.env.STEKKER_TEST_SEED ?? Buffer.from(systemRandom.bytes(6)).toString('hex');
const random = seededRandom(seed);
const share = (): number => Buffer.from(random.bytes(4)).readUInt32BE() / 2 ** 32;
const pick = <Item>(items: readonly Item[]): Item | undefined => items[Math.floor(share() * items.length)];

let brokerSide: BrokerBench;
let broker: Operated;
let holderSide: ConnectorBench;
let runtimeSide: ConnectorBench;
let holder: OperatedConnector;
let runtime: OperatedConnector;
let key: string;

beforeAll(async () => {
  process.stdout.write(`seed ${seed}\n`);
  brokerSide = await brokerBench();
  broker = await brokerSide.start();
  const env = { STEKKER_BROKER_URL: brokerSide.origin, STEKKER_STATEMENT_INTERVAL_SECONDS: '2' };
  holderSide = await connectorBench({ ...env, STEKKER_NAME: 'Waterschap', STEKKER_DATA_WORKERS: '2' });
  runtimeSide = await connectorBench({ ...env, STEKKER_NAME: 'Veiligheidsregio' });
  [holder, runtime] = await Promise.all([holderSide.start(), runtimeSide.start()]);
  await joinBroker(broker, holder);
  await joinBroker(broker, runtime, { roles: ['application-runtime'] });
  key = String((await runtime.operate('POST', '/v1/applications', { application })).body.key);
});
afterAll(async () => {
  for (const one of [runtime, holder, broker, runtimeSide, holderSide, brokerSide]) await one?.[Symbol.asyncDispose]();
});

const headers = () => ({ authorization: `Bearer ${key}`, 'stekker-purpose': purpose });

const agree = async (title: string, policy: object = { template: 'purpose', parameters: { purpose } }) => {
  const path = join(holderSide.folder, title);
  mkdirSync(path, { recursive: true });
  for (const [name, size] of Object.entries(files)) writeFileSync(join(path, name), systemRandom.bytes(size));
  const upstream = { kind: 'folder', path };
  const published = await holder.operate('POST', '/v1/publications', { title, upstream, policy, price });
  expect(published.status, JSON.stringify(published.body)).toBe(201);
  const dataset = String((published.body.asset as { id: string }).id);
  return acquire(runtime, { provider: holderSide.did, dataset });
};
type Agreed = Awaited<ReturnType<typeof agree>>;

const end = async ({ agreementId }: Agreed): Promise<void> => {
  const path = `/v1/agreements/${encodeURIComponent(agreementId)}/end`;
  const ended = await holder.operate('POST', path, { reason: 'done' });
  expect(ended.status, JSON.stringify(ended.body)).toBeLessThan(300);
};

const settled = async (agreed: Agreed) => {
  const sides = {
    provider: { bench: holderSide, operate: holder.operate },
    consumer: { bench: runtimeSide, operate: runtime.operate },
  };
  return settle({ ...sides, trust: await trustIn(brokerSide.origin), lines: price.lines }, agreed);
};

/** What each of the two wrote down of an agreement. */
const openedBy = async ({ agreementDigest }: Agreed) =>
  Promise.all(
    workers.map(async (number) =>
      [...(await journalOf(holderSide, `provider.${number}`))].filter(
        ([, { open }]) => open.agreement === agreementDigest,
      ),
    ),
  );

/** Each whole answer stands there as it was received, and of a broken one at least what came. */
const expectStated = (records: Awaited<ReturnType<typeof settled>>, readings: readonly Reading[]): void => {
  const received = readings.filter(({ status, bytes }) => status === 200 && bytes > 0);
  const wrong = received.filter((reading) => {
    const record = records.get(`${reading.request} 1`);
    if (record === undefined) return true;
    return reading.isWhole
      ? record.bytes !== String(reading.bytes) || record.digest !== reading.digest
      : BigInt(record.bytes) < BigInt(reading.bytes);
  });
  expect(wrong.map((reading) => ({ reading, record: records.get(`${reading.request} 1`) }))).toEqual([]);
};

/** One request on a connection of its own: the system chooses who serves it. */
const send = ({ url, headers: fields }: Sent): Promise<number> =>
  new Promise((resolve, reject) => {
    const sent = httpRequest(url, { headers: fields, agent: false }, (answer) => {
      answer.resume();
      answer.on('close', () => resolve(answer.statusCode ?? 0));
    });
    sent.on('error', reject);
    sent.end();
  });

describe('data on two threads', { timeout: 300_000 }, () => {
  test('ended again and again in the middle of streams: every served byte is recorded, receipts verify, sums are right', async () => {
    const agreed = await agree('stromen');
    const next = () => `${agreed.dataUrl}${pick(Object.keys(files)) ?? ''}`;
    const readers = startReaders(6, { next, headers: headers() });
    for (let count = 0; count < 16; count += 1) {
      await systemClock.sleep(400 + share() * 800);
      await holder.terminateDataWorker(pick(workers) ?? 1);
    }
    const before = readers.count();
    await atLast('traffic after the last', async () => (readers.count() > before + 20 ? true : undefined));
    const readings = await readers.stop();
    await end(agreed);
    const records = await settled(agreed);
    const opened = await openedBy(agreed);
    for (const own of opened) expect(own.length).toBeGreaterThan(0);
    expect(opened.flat().filter(([name]) => !records.has(name))).toEqual([]);
    expectStated(records, readings);
    const broken = readings.filter(({ isWhole, bytes }) => !isWhole && bytes > 0);
    expect(broken.length).toBeGreaterThan(0);
    process.stdout.write(`${readings.length} reads, ${broken.length} cut in the middle, ${records.size} records\n`);
  });

  test('a proof opens one access, whichever thread it comes to', async () => {
    const agreed = await agree('eenmalig');
    const [tokens, proofKey] = [await tokensOf(runtimeSide), await hostileKey()];
    const transfer = transferUnder(runtimeSide, agreed.agreementId);
    const asked = await askToken(tokens, { transfer, key: proofKey, provider: holderSide.did });
    expect(asked.status).toBe(200);
    for (let round = 0; round < 4; round += 1) {
      const { endpoint } = transfer;
      const sent = await makeAccess({ endpoint, key: proofKey, token: asked.token, rest: 'note.txt' });
      const answers = await Promise.all(Array.from({ length: 12 }, () => send(sent)));
      expect(answers.toSorted()).toEqual([200, ...Array.from({ length: 11 }, () => 409)]);
      await holder.terminateDataWorker(pick(workers) ?? 1);
      await until(async () => ((await send(sent).catch(() => 0)) === 409 ? true : undefined));
    }
  });

  test('a policy that counts holds over both', async () => {
    const policy = { template: 'count', parameters: { purpose, times: '10' } };
    const agreed = await agree('tien', policy);
    const read = () => readOnce(`${agreed.dataUrl}note.txt`, headers());
    const answers = await Promise.all(Array.from({ length: 24 }, read));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(10);
    expect(answers.filter(({ status }) => status === 403)).toHaveLength(14);
  });

  test('when an agreement has ended neither serves it, and what ran is cut', async () => {
    const agreed = await agree('voorbij');
    const read = () => readOnce(`${agreed.dataUrl}note.txt`, headers());
    const first = await Promise.all(Array.from({ length: 8 }, read));
    expect(first.every(({ status }) => status === 200)).toBe(true);
    const [tokens, proofKey] = [await tokensOf(runtimeSide), await hostileKey()];
    const transfer = transferUnder(runtimeSide, agreed.agreementId);
    const { token } = await askToken(tokens, { transfer, key: proofKey, provider: holderSide.did });
    const sents = await Promise.all(
      Array.from({ length: 16 }, () =>
        makeAccess({ endpoint: transfer.endpoint, key: proofKey, token, rest: 'note.txt' }),
      ),
    );
    await end(agreed);
    const after = await Promise.all(sents.map(send));
    expect(after.filter((status) => status < 400)).toEqual([]);
    const records = await settled(agreed);
    expect(records.size).toBe(8);
  });

  test('after a restart with one thread, and with two again, nothing of either journal is lost', async () => {
    const agreed = await agree('wisselen');
    const read = () => readOnce(`${agreed.dataUrl}levels.json`, headers());
    const readings: Reading[] = [];
    for (const STEKKER_DATA_WORKERS of [1, 2]) {
      readings.push(...(await Promise.all(Array.from({ length: 8 }, read))));
      await holder[Symbol.asyncDispose]();
      holder = await holderSide.start({ STEKKER_DATA_WORKERS });
    }
    readings.push(...(await Promise.all(Array.from({ length: 8 }, read))));
    expect(readings.every(({ status }) => status === 200)).toBe(true);
    await end(agreed);
    const records = await settled(agreed);
    expect(records.size).toBe(24);
    expectStated(records, readings);
  });
});

describe('a process of several threads, killed with -9', { timeout: 300_000 }, () => {
  test('again and again while it serves: nothing served is unrecorded, nothing stands there twice', async () => {
    const env = { STEKKER_BROKER_URL: brokerSide.origin, STEKKER_STATEMENT_INTERVAL_SECONDS: '2' };
    await using child = await childConnector({ ...env, STEKKER_NAME: 'Provincie', STEKKER_DATA_WORKERS: '2' });
    await child.start();
    await joinBroker(broker, { did: child.bench.did, operate: child.operate });
    const path = join(child.bench.folder, 'peilen');
    mkdirSync(path, { recursive: true });
    for (const [name, size] of Object.entries(files)) writeFileSync(join(path, name), systemRandom.bytes(size));
    const published = await child.operate('POST', '/v1/publications', {
      title: 'Peilen',
      upstream: { kind: 'folder', path },
      policy: { template: 'purpose', parameters: { purpose } },
      price,
    });
    const dataset = String((published.body.asset as { id: string }).id);
    const agreed = await acquire(runtime, { provider: child.bench.did, dataset });
    const next = () => `${agreed.dataUrl}${pick(Object.keys(files)) ?? ''}`;
    const readers = startReaders(4, { next, headers: headers() });
    for (let kills = 0; kills < 6; kills += 1) {
      await systemClock.sleep(200 + share() * 800);
      await child.kill();
      await child.start();
    }
    const before = readers.count();
    await atLast('traffic after the kills', async () => (readers.count() > before + 10 ? true : undefined));
    const readings = await readers.stop();
    const ended = `/v1/agreements/${encodeURIComponent(agreed.agreementId)}/end`;
    expect((await child.operate('POST', ended, { reason: 'done' })).status).toBeLessThan(300);
    const records = await settle(
      {
        provider: { bench: child.bench, operate: child.operate },
        consumer: { bench: runtimeSide, operate: runtime.operate },
        trust: await trustIn(brokerSide.origin),
        lines: price.lines,
      },
      agreed,
    );
    expectStated(records, readings);
    for (const number of workers)
      for (const [name] of await journalOf(child.bench, `provider.${number}`)) expect(records.has(name)).toBe(true);
    expect(records.size).toBeGreaterThan(10);
  });
});
