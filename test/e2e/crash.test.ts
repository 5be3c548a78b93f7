import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { UsageRecord } from '../../contracts/ledger/record.ts';
import { systemClock } from '../../kernel/clock.ts';
import { seededRandom, systemRandom } from '../../kernel/random.ts';
import { type BrokerBench, brokerBench, type Operated } from '../support/broker-bench.ts';
import { acquire, type Operate } from '../support/chain-world.ts';
import { type ChildConnector, childConnector } from '../support/child-connector.ts';
import { type Journalled, journalOf, rowsOf } from '../support/hostile.ts';
import { type Reading, readOnce, startReaders } from '../support/readers.ts';
import { atLast, settle, trustIn } from '../support/settled.ts';

/**
 * kill -9 of real processes during real traffic (ledger §17, row 1): nothing is served that does not stand in a statement, and
 * nothing stands there twice.
 */

const purpose = 'urn:stekker:1:purpose:crisis';
const application = 'urn:stekker:1:app:evacuatie@1.0.0';
const files = { 'note.txt': 120, 'levels.json': 6_000, 'map.bin': 300_000, 'heights.bin': 3_000_000 };
const price = {
  currency: 'EUR',
  scale: '4',
  lines: [
    { unit: 'requests', quantity: '1', value: '25' },
    { unit: 'bytes', quantity: '1000', value: '3' },
  ],
};

const seed = Buffer.from(systemRandom.bytes(6)).toString('hex');
const random = seededRandom(process.env.STEKKER_TEST_SEED ?? seed);
/** Below 1, of the seed. */
const share = (): number => Buffer.from(random.bytes(4)).readUInt32BE() / 2 ** 32;
const between = (least: number, most: number): number => Math.floor(least + share() * (most - least));
const pick = <Item>(items: readonly Item[]): Item | undefined => items[Math.floor(share() * items.length)];

let brokerSide: BrokerBench;
let broker: Operated;
let holder: ChildConnector;
let runtime: ChildConnector;
let key: string;

/** Asks again while the program that is asked has just been killed. */
const insist = async (operate: Operate, ...call: Parameters<Operate>): Promise<Awaited<ReturnType<Operate>>> =>
  atLast(`${call[0]} ${call[1]}`, async () => {
    const answer = await operate(...call).catch(() => undefined);
    return answer === undefined || answer.status >= 500 ? undefined : answer;
  });

/** A broker that looked for a connector while it was down remembers that for ten seconds (credentials §5). */
const joinAs = async (connector: ChildConnector, roles: readonly string[]): Promise<void> => {
  const invitation = { did: connector.bench.did, name: 'A member', roles };
  const { joinCode } = (await broker.operate('POST', '/v1/invitations', invitation)).body;
  await atLast('joining', async () => {
    const joined = await connector.operate('POST', '/v1/join', { code: joinCode });
    return joined.status < 300 ? true : undefined;
  });
  await atLast('a membership', async () =>
    (await connector.operate('GET', '/v1/status')).body.member === true ? true : undefined,
  );
};

const publishFolder = async (title: string): Promise<string> => {
  const path = join(holder.bench.folder, title);
  mkdirSync(path, { recursive: true });
  for (const [name, size] of Object.entries(files)) writeFileSync(join(path, name), systemRandom.bytes(size));
  const published = await holder.operate('POST', '/v1/publications', {
    title,
    upstream: { kind: 'folder', path },
    policy: { template: 'purpose', parameters: { purpose } },
    price,
  });
  expect(published.status, JSON.stringify(published.body)).toBe(201);
  return String((published.body.asset as { id: string }).id);
};

interface Agreed {
  readonly agreementId: string;
  readonly agreementDigest: string;
  readonly dataUrl: string;
}

const agree = async (title: string): Promise<Agreed> => {
  const dataset = await publishFolder(title);
  const its = { operate: runtime.operate } as Parameters<typeof acquire>[0];
  return acquire(its, { provider: holder.bench.did, dataset });
};

beforeAll(async () => {
  process.stdout.write(`kill times of seed ${seed}\n`);
  brokerSide = await brokerBench();
  broker = await brokerSide.start();
  const env = { STEKKER_BROKER_URL: brokerSide.origin, STEKKER_STATEMENT_INTERVAL_SECONDS: '2' };
  holder = await childConnector({ ...env, STEKKER_NAME: 'Waterschap' });
  runtime = await childConnector({ ...env, STEKKER_NAME: 'Veiligheidsregio' });
  await Promise.all([holder.start(), runtime.start()]);
  await joinAs(holder, ['data-holder']);
  await joinAs(runtime, ['application-runtime']);
  for (const connector of [holder, runtime]) {
    await connector.stop(); // what was compiled is kept when a process ends in order
    await connector.start();
  }
  const added = await runtime.operate('POST', '/v1/applications', { application });
  key = String(added.body.key);
});
afterAll(async () => {
  for (const one of [runtime, holder, broker, brokerSide]) await one?.[Symbol.asyncDispose]();
});

const headers = () => ({ authorization: `Bearer ${key}`, 'stekker-purpose': purpose });
const anyAddress = (agreed: readonly Agreed[]): string =>
  `${pick(agreed)?.dataUrl ?? ''}${pick(Object.keys(files)) ?? ''}`;

/** Kills a program at a moment of the seed: mostly while it serves, now and then while it starts. */
const killOnce = async (connector: ChildConnector): Promise<void> => {
  if (share() < 0.2) {
    await systemClock.sleep(between(10, 400));
    await connector.kill();
    connector.begin();
    await systemClock.sleep(between(50, 700));
  } else {
    await systemClock.sleep(between(50, 600));
  }
  await connector.kill();
  await connector.start();
};

const endAll = async (agreed: readonly Agreed[]): Promise<void> => {
  for (const { agreementId } of agreed) {
    const path = `/v1/agreements/${encodeURIComponent(agreementId)}/end`;
    const ended = await insist(holder.operate, 'POST', path, { reason: 'done' });
    expect(ended.status, JSON.stringify(ended.body)).toBeLessThan(300);
  }
};

const settleAll = async (agreed: readonly Agreed[]): Promise<Map<string, UsageRecord>> => {
  const world = { provider: holder, consumer: runtime, trust: await trustIn(brokerSide.origin), lines: price.lines };
  const all = new Map<string, UsageRecord>();
  for (const one of agreed) for (const [request, record] of await settle(world, one)) all.set(request, record);
  return all;
};

const ofAgreements = (entries: ReadonlyMap<string, Journalled>, agreed: readonly Agreed[]): [string, Journalled][] =>
  [...entries].filter(([, { open }]) => agreed.some(({ agreementDigest }) => agreementDigest === open.agreement));

/** What the journals hold stands in a statement: everything that the provider opened, and all that the consumer got. */
const expectAllStated = async (records: ReadonlyMap<string, UsageRecord>, agreed: readonly Agreed[]): Promise<void> => {
  const served = ofAgreements(await journalOf(holder.bench, 'provider'), agreed);
  expect(served.length).toBeGreaterThan(50);
  expect(served.filter(([request]) => !records.has(request))).toEqual([]);
  const got = ofAgreements(await journalOf(runtime.bench, 'consumer'), agreed);
  const unstated = got.filter(([request, { close }]) => close?.status === '200' && !records.has(request));
  expect(unstated).toEqual([]);
};

const partOne = (records: ReadonlyMap<string, UsageRecord>, { request }: Reading) => records.get(`${request} 1`);

/** Each access with what was received of it stands there; the bodies that came whole, byte for byte. */
const expectReadingsStated = (records: ReadonlyMap<string, UsageRecord>, readings: readonly Reading[]): void => {
  const received = readings.filter(({ status, bytes }) => status === 200 && bytes > 0);
  const missing = received.filter((reading) => partOne(records, reading) === undefined);
  expect(missing).toEqual([]);
  const wrong = received.filter((reading) => {
    const record = partOne(records, reading);
    if (record === undefined || record.outcome === 'disputed') return false;
    // A provider that died behind the last byte, before it could close, states what the consumer has as `partial` (ledger §7).
    return reading.isWhole
      ? record.bytes !== String(reading.bytes) || record.digest !== reading.digest
      : BigInt(record.bytes) < BigInt(reading.bytes);
  });
  expect(wrong.map((reading) => ({ reading, record: partOne(records, reading) }))).toEqual([]);
};

describe('kill -9 during traffic', { timeout: 600_000 }, () => {
  test('of the provider, 50 times: nothing served is unrecorded, nothing stands there twice', async () => {
    const agreed = [await agree('eerste'), await agree('tweede')];
    const readers = startReaders(6, { next: () => anyAddress(agreed), headers: headers() });
    for (let kills = 0; kills < 50; kills += 1) await killOnce(holder);
    const before = readers.count();
    await atLast('traffic after the kills', async () => (readers.count() > before + 20 ? true : undefined));
    const readings = await readers.stop();
    await endAll(agreed);
    const records = await settleAll(agreed);
    await expectAllStated(records, agreed);
    expectReadingsStated(records, readings);
    const broken = readings.filter(({ status, isWhole, bytes }) => status === 200 && !isWhole && bytes > 0);
    process.stdout.write(
      `${readings.length} reads, ${broken.length} cut in the middle, ${records.size} records, seed ${seed}\n`,
    );
  });

  test('of the consumer: what it asked for is settled as far as both know, and nothing twice', async () => {
    const agreed = [await agree('derde')];
    const readers = startReaders(4, { next: () => anyAddress(agreed), headers: headers() });
    for (let kills = 0; kills < 10; kills += 1) await killOnce(runtime);
    const readings = await readers.stop();
    await endAll(agreed);
    const records = await settleAll(agreed);
    await expectAllStated(records, agreed);
    const received = readings.filter(({ status, bytes }) => status === 200 && bytes > 0);
    expect(received.filter((reading) => partOne(records, reading) === undefined)).toEqual([]);
    expect(received.length).toBeGreaterThan(10);
  });

  test('of both while they negotiate: each negotiation ends alike on both sides, with one agreement', async () => {
    const datasets: string[] = [];
    for (let count = 0; count < 12; count += 1) datasets.push(await publishFolder(`onderhandeld-${count}`));
    const refusals: string[] = [];
    const acquired = datasets.map((dataset) =>
      atLast('an agreement', async () => {
        const wish = { provider: holder.bench.did, dataset, timeoutSeconds: 5 };
        const answer = await runtime.operate('POST', '/v1/acquisitions', wish).catch(() => undefined);
        if (answer?.status === 200) return answer.body as { agreementId: string; dataUrl: string };
        // Who cannot be looked up for a moment is refused (credentials §5), and asks again.
        if (answer !== undefined && answer.status < 500)
          refusals.push(`${answer.status} ${String(answer.body.detail)}`);
        return undefined;
      }),
    );
    for (let kills = 0; kills < 10; kills += 1) await killOnce(pick([holder, runtime]) ?? holder);
    const all = await Promise.all(acquired);
    expect(new Set(all.map(({ agreementId }) => agreementId)).size).toBe(datasets.length);
    for (const { dataUrl } of all) {
      const read = await atLast('a read', async () => {
        const reading = await readOnce(`${dataUrl}note.txt`, headers());
        return reading.status === 200 ? reading : undefined;
      });
      expect(read).toMatchObject({ bytes: files['note.txt'], isWhole: true });
    }
    const isAlike = async () => (differences().length === 0 ? true : undefined);
    await atLast('that both sides stand alike', isAlike).catch(() => undefined);
    expect(differences()).toEqual([]);
    const ended = negotiationsOf(holder, 'provider');
    expect(ended.every(({ state }) => state === 'FINALIZED' || state === 'TERMINATED')).toBe(true);
    expect(ended.length).toBeGreaterThanOrEqual(datasets.length);
    process.stdout.write(
      `${ended.length} negotiations, ${refusals.length} refused: ${refusals.slice(0, 5).join(' | ')}\n`,
    );
  });
});

interface Ended {
  readonly consumerPid: string;
  readonly providerPid: string;
  readonly state: string;
  readonly digest: string;
}

/** Every negotiation of a side: who it is with, where it stands, what was agreed. */
const negotiationsOf = ({ bench }: ChildConnector, role: 'provider' | 'consumer'): readonly Ended[] =>
  rowsOf(bench, "select pid, peer_pid, state, data from process where protocol = 'negotiations' and role = ?", role)
    .map(({ pid, peer_pid: peerPid, state, data }) => {
      const { agreement } = JSON.parse(String(data)) as { agreement: { digest: string } | null };
      const [consumerPid, providerPid] = role === 'provider' ? [peerPid, pid] : [pid, peerPid];
      return {
        consumerPid: String(consumerPid),
        providerPid: String(providerPid),
        state: String(state),
        digest: agreement?.digest ?? '',
      };
    })
    .toSorted((a, b) => (a.consumerPid < b.consumerPid ? -1 : 1));

/** Negotiations that do not stand alike. One that was refused before the provider kept it is over at the consumer. */
const differences = (): readonly unknown[] => {
  const ours = new Map(negotiationsOf(holder, 'provider').map((one) => [one.consumerPid, one]));
  const theirs = negotiationsOf(runtime, 'consumer');
  const known = new Set(theirs.map(({ consumerPid }) => consumerPid));
  const strange = [...ours.values()].filter(({ consumerPid }) => !known.has(consumerPid));
  const unlike = theirs.filter((one) => {
    const other = ours.get(one.consumerPid);
    if (other === undefined) return one.state !== 'TERMINATED';
    const agreedAlike = one.state === 'TERMINATED' || one.digest === other.digest;
    return one.state !== other.state || one.providerPid !== other.providerPid || !agreedAlike;
  });
  return [...strange, ...unlike.map((one) => ({ theirs: one, ours: ours.get(one.consumerPid) }))];
};
