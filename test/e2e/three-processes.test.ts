import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import type { UsageRecord } from '../../contracts/ledger/record.ts';
import { systemClock } from '../../kernel/clock.ts';
import { seededRandom, systemRandom } from '../../kernel/random.ts';
import { type BrokerBench, brokerBench, type Operated } from '../support/broker-bench.ts';
import { acquire, type ConnectorBench, joinBroker, type Operate } from '../support/chain-world.ts';
import { type ChildConnector, childConnector } from '../support/child-connector.ts';
import { journalOf } from '../support/hostile.ts';
import { hasPostgres, type Postgres, startPostgres } from '../support/postgres.ts';
import { type Readers, type Reading, startReaders } from '../support/readers.ts';
import { agePlaces, isWithoutRedis, openRedis, type RedisServer, startRedis } from '../support/redis.ts';
import { atLast, rowsAt, type Side, settle, trustIn } from '../support/settled.ts';
import { type SharedConnector, sharedConnector } from '../support/shared-connector.ts';

/**
 * One participant, three processes on one PostgreSQL and one Redis, and a connector that knows nothing of it. While both
 * negotiate with each other and read each other's data, one of the three is killed with -9 whenever all three are ready.
 */

const purpose = 'urn:stekker:1:purpose:crisis';
const application = 'urn:stekker:1:app:evacuatie@1.0.0';
const files = { 'note.txt': 120, 'levels.json': 6_000, 'map.bin': 300_000, 'heights.bin': 4_000_000 };
const price = {
  currency: 'EUR',
  scale: '4',
  lines: [
    { unit: 'requests', quantity: '1', value: '5' },
    { unit: 'bytes', quantity: '1000000', value: '3' },
  ],
};

/** Each process is killed once in a round, in an order of the seed. */
const rounds = 7;
const atOnceEachWay = 100;
const moreEachWay = 10;
const flowsEachWay = 3;
const readPauseMs = 40;

const seed = process.env.STEKKER_TEST_SEED ?? Buffer.from(systemRandom.bytes(6)).toString('hex');
const random = seededRandom(seed);
const between = (least: number, most: number): number =>
  least + (Buffer.from(random.bytes(4)).readUInt32BE() % (most - least));
const pick = <Item>(items: readonly Item[]): Item => items[between(0, items.length)] as Item;
const shuffled = <Item>(items: readonly Item[]): Item[] =>
  items
    .map((item) => ({ item, rank: between(0, 2 ** 31) }))
    .toSorted((a, b) => a.rank - b.rank)
    .map(({ item }) => item);

/** One of the two participants. */
interface Party {
  readonly did: Did;
  readonly side: Side;
  readonly operate: Operate;
  /** All its processes. */
  readonly benches: readonly ConnectorBench[];
  /** The folder of the numbers that it signed. */
  readonly signed: string;
  /** Where its applications ask; of one of its processes. */
  readonly gateway: () => string;
  /** Headers of its application. */
  readonly headers: Readonly<Record<string, string>>;
}

let brokerSide: BrokerBench;
let broker: Operated;
let server: Postgres;
let redis: RedisServer;
let shared: SharedConnector;
let alone: ChildConnector;
let three: Party;
let other: Party;

/** Asks again while the process that was asked has just been killed. */
const insist = (operate: Operate, ...call: Parameters<Operate>): ReturnType<Operate> =>
  atLast(`${call[0]} ${call[1]}`, async () => {
    const answer = await operate(...call).catch(() => undefined);
    if (answer !== undefined && answer.status < 500) return answer;
    await systemClock.sleep(50);
    return undefined;
  });

const startParty = async (its: Omit<Party, 'headers'>): Promise<Party> => {
  await joinBroker(broker, its, { roles: ['data-holder', 'application-runtime'] });
  const { body } = await its.operate('POST', '/v1/applications', { application });
  return { ...its, headers: { authorization: `Bearer ${String(body.key)}`, 'stekker-purpose': purpose } };
};

const publish = async ({ operate, benches }: Party, title: string): Promise<string> => {
  const path = join(benches[0]?.folder ?? '', title);
  mkdirSync(path, { recursive: true });
  for (const [name, size] of Object.entries(files)) writeFileSync(join(path, name), systemRandom.bytes(size));
  const published = await operate('POST', '/v1/publications', {
    title,
    upstream: { kind: 'folder', path },
    policy: { template: 'purpose', parameters: { purpose } },
    price,
  });
  expect(published.status, JSON.stringify(published.body)).toBe(201);
  return String((published.body.asset as { readonly id: string }).id);
};

/** Data that flows from one to the other under an agreement, and what was read of it. */
interface Flow {
  readonly provider: Party;
  readonly consumer: Party;
  readonly agreed: Awaited<ReturnType<typeof acquire>>;
  /** The consumer's id of the transfer. */
  readonly transfer: string;
  readonly readers: Readers;
}

const idOfTransfer = async ({ operate }: Party, agreementId: string): Promise<string> => {
  const { body } = await operate('GET', '/v1/transfers?limit=50');
  const items = body.items as { readonly id: string; readonly agreementId: string; readonly role: string }[];
  const found = items.find((one) => one.agreementId === agreementId && one.role === 'consumer');
  if (found === undefined) throw new Error(`no transfer under ${agreementId}`);
  return found.id;
};

const startFlow = async (provider: Party, consumer: Party, title: string): Promise<Flow> => {
  const dataset = await publish(provider, title);
  const agreed = await acquire(consumer, { provider: provider.did, dataset });
  const { pathname } = new URL(agreed.dataUrl);
  const next = () => `${consumer.gateway()}${pathname}${pick(Object.keys(files))}`;
  return {
    provider,
    consumer,
    agreed,
    transfer: await idOfTransfer(consumer, agreed.agreementId),
    readers: startReaders(1, { next, headers: consumer.headers, pauseMs: readPauseMs }),
  };
};

const bringMs = 90_000;

/** Brings a transfer to a state, as its consumer, whichever of its processes are killed meanwhile. */
const bring = async (
  { provider, consumer, transfer }: Flow,
  action: 'suspend' | 'start' | 'complete' | 'terminate',
  goal: string,
): Promise<void> => {
  const path = `/v1/transfers/${encodeURIComponent(transfer)}`;
  for (const end = systemClock.now() + bringMs; systemClock.now() < end; await systemClock.sleep(50)) {
    const seen = await consumer.operate('GET', path).catch(() => undefined);
    if (seen?.status !== 200 || seen.body.pending !== null) continue;
    if (seen.body.state === goal) {
      if (goal !== 'STARTED' || seen.body.endpoint !== null) return;
      continue; // a fresh address is on its way
    }
    await consumer.operate('POST', `${path}/decisions`, { do: action }).catch(() => undefined);
  }
  const select = 'select role, state, pending, data from process where pid = ? or peer_pid = ?';
  const rows = await Promise.all([provider, consumer].map(({ side }) => rowsAt(side, select, transfer, transfer)));
  throw new Error(`a transfer is not ${goal}: ${JSON.stringify(rows)}`);
};

/** Suspends and resumes transfers, one after the other, until it is told to stop; how often. */
const startPausing = (flows: readonly Flow[]) => {
  let isStopped = false;
  const loop = async (): Promise<number> => {
    let times = 0;
    while (!isStopped) {
      const flow = pick(flows);
      await bring(flow, 'suspend', 'SUSPENDED');
      await systemClock.sleep(between(100, 1_000));
      await bring(flow, 'start', 'STARTED');
      times += 1;
      await systemClock.sleep(between(500, 3_000));
    }
    return times;
  };
  const looping = loop();
  return {
    stop: (): Promise<number> => {
      isStopped = true;
      return looping;
    },
  };
};

/** Negotiations as somebody asks for them; `asked` counts those too of which the answer was lost. */
const createAsking = (datasets: ReadonlyMap<Party, string>) => {
  const count = { asked: 0, begun: 0 };
  const refusals: string[] = [];
  const ask = async (consumer: Party, provider: Party): Promise<boolean> => {
    count.asked += 1;
    const wish = { provider: provider.did, dataset: datasets.get(provider) };
    const answer = await consumer.operate('POST', '/v1/negotiations', wish).catch(() => undefined);
    if (answer?.status === 201) count.begun += 1;
    else refusals.push(answer === undefined ? 'no answer' : `${answer.status} ${String(answer.body.detail)}`);
    return answer?.status === 201;
  };
  return { count, refusals, ask };
};
type Asking = ReturnType<typeof createAsking>;

/** So many each way, all at once. */
const askEachWay = (times: number, ask: (consumer: Party, provider: Party) => Promise<void>): Promise<void>[] =>
  Array.from({ length: times }, () => [ask(three, other), ask(other, three)]).flat();

/** Kills one of the processes whenever all are ready; more negotiations are begun just before. How often it killed. */
const killAgainAndAgain = async ({ ask }: Asking): Promise<number> => {
  const more: Promise<void>[] = [];
  let kills = 0;
  for (let round = 0; round < rounds; round += 1)
    for (const victim of shuffled(shared.processes)) {
      await shared.allReady();
      more.push(...askEachWay(moreEachWay, async (consumer, provider) => void (await ask(consumer, provider))));
      await systemClock.sleep(between(20, 500));
      await victim.kill();
      kills += 1;
      await victim.start();
    }
  await Promise.all(more);
  return kills;
};

interface Kept {
  readonly pid: string;
  readonly peerPid: string;
  readonly role: string;
  readonly state: string;
  readonly agreementId: string;
  readonly status: string;
  readonly ending: unknown;
}

/** Processes of a protocol as a party keeps them. */
const keptBy = async ({ side }: Party, protocol: 'negotiations' | 'transfers'): Promise<readonly Kept[]> => {
  const rows = await rowsAt(side, 'select pid, peer_pid, role, state, data from process where protocol = ?', protocol);
  return rows.map(({ pid, peer_pid: peerPid, role, state, data }) => {
    const { agreement, agreementId, status, ending } = JSON.parse(String(data));
    return {
      pid: String(pid),
      peerPid: String(peerPid),
      role: String(role),
      state: String(state),
      agreementId: agreementId ?? agreement?.agreement['@id'] ?? '',
      status: status ?? '',
      ending,
    };
  });
};

/** Processes of ours that are not as their other side has them, and theirs that nobody here knows. */
const unlikeBy = async (protocol: 'negotiations' | 'transfers') => {
  const [here, there] = await Promise.all([keptBy(three, protocol), keptBy(other, protocol)]);
  const byId = new Map(there.map((one) => [one.pid, one]));
  const known = new Set(here.map(({ pid }) => pid));
  const unlike = here
    .map((one) => ({ one, its: byId.get(one.peerPid) }))
    .filter(
      ({ one, its }) =>
        its?.peerPid !== one.pid ||
        its.role === one.role ||
        its.state !== one.state ||
        its.agreementId !== one.agreementId ||
        its.status !== one.status,
    );
  return { here, there, unlike: [...unlike, ...there.filter(({ peerPid }) => !known.has(peerPid))] };
};

/** Waits until all is over on both sides, also what only one message more makes alike; each process with its other side. */
const pairsAtEnd = async (protocol: 'negotiations' | 'transfers', ends: readonly string[]) => {
  const isOpen = `select pid from process where protocol = ? and (pending is not null or state not in (${ends.map(() => '?').join()}))`;
  let seen = await unlikeBy(protocol);
  await atLast(`the end of all ${protocol}`, async () => {
    const open = await Promise.all([three, other].map(({ side }) => rowsAt(side, isOpen, protocol, ...ends)));
    seen = await unlikeBy(protocol);
    if (open.every(({ length }) => length === 0) && seen.unlike.length === 0) return true;
    await systemClock.sleep(100);
    return undefined;
  }).catch((error: unknown) => {
    expect(seen.unlike).toEqual([]);
    throw error;
  });
  const { here, there } = seen;
  expect(here.length).toBe(there.length);
  return here;
};

/** A few transfers are ended by themselves, and the agreements with what still runs; each at one of the sides. */
const endAll = async (flows: readonly Flow[]): Promise<void> => {
  for (const [index, flow] of flows.entries()) {
    if (index % 3 === 0) await bring(flow, 'complete', 'COMPLETED');
    if (index % 3 === 1) await bring(flow, 'terminate', 'TERMINATED');
    const { operate } = index % 2 === 0 ? flow.provider : flow.consumer;
    const path = `/v1/agreements/${encodeURIComponent(flow.agreed.agreementId)}/end`;
    const ended = await insist(operate, 'POST', path, { reason: 'done' });
    expect(ended.status, JSON.stringify(ended.body)).toBeLessThan(300);
  }
};

/**
 * Each answer stands there as it was received, whole ones byte for byte, and of a broken one at least what came. A consumer
 * that was killed before it closed lost its count, and then it stands there as unknown (ledger §7). How many of those.
 */
const expectRecorded = (
  records: ReadonlyMap<string, UsageRecord>,
  readings: readonly Reading[],
  mayLoseCount: boolean,
): number => {
  const received = readings
    .filter(({ status, bytes }) => status === 200 && bytes > 0)
    .map((reading) => ({ reading, record: records.get(`${reading.request} 1`) }));
  const isLost = ({ record }: (typeof received)[number]) => mayLoseCount && record?.outcome === 'unknown';
  const wrong = received.filter((one) => {
    const { reading, record } = one;
    if (record === undefined) return true;
    if (isLost(one)) return false;
    return reading.isWhole
      ? record.bytes !== String(reading.bytes) || record.digest !== reading.digest
      : BigInt(record.bytes) < BigInt(reading.bytes);
  });
  expect(wrong).toEqual([]);
  expect(records.size).toBeGreaterThanOrEqual(received.length);
  return received.filter(isLost).length;
};

const journalFolder = ({ config }: ConnectorBench): string =>
  config.STEKKER_JOURNAL_FOLDER ?? `${config.STEKKER_DATA}-journal`;

/** Whatever any process opened as a provider under an agreement, in any journal of it. */
const openedBy = async ({ benches }: Party, agreementDigest: string): Promise<string[]> => {
  const opened: string[] = [];
  for (const bench of benches)
    for (const name of readdirSync(journalFolder(bench)).filter((one) => one.startsWith('provider')))
      for (const [request, { open }] of await journalOf(bench, name))
        if (open.agreement === agreementDigest) opened.push(request);
  return opened;
};

/** Numbers of statements with all that was signed under each, in the folder that no backup holds. */
const signedNumbers = (folder: string): Map<string, Set<string>> => {
  const signed = new Map<string, Set<string>>();
  for (const name of readdirSync(folder).filter((one) => one.startsWith('signed-')))
    for (const line of readFileSync(join(folder, name), 'latin1').split('\n')) {
      const [, participant, role, agreement, seq, digest] = line.split(' ');
      if (digest === undefined) continue;
      const number = `${participant} ${role} ${agreement} ${seq}`;
      signed.set(number, (signed.get(number) ?? new Set()).add(digest));
    }
  return signed;
};

/** Nobody signed two statements under one number, and nobody was shown two. */
const expectNothingTwice = async (party: Party): Promise<void> => {
  const signed = signedNumbers(party.signed);
  expect(signed.size).toBeGreaterThan(0);
  expect([...signed].filter(([, digests]) => digests.size > 1)).toEqual([]);
  expect(await rowsAt(party.side, "select * from usage_dispute where kind = 'equivocation'")).toEqual([]);
};

/** What both sides hold of a flow that is over: so many records, and so many of them for which a count was lost. */
const settleFlow = async ({ provider, consumer, agreed }: Flow, readings: readonly Reading[]) => {
  const trust = await trustIn(brokerSide.origin);
  const world = { provider: provider.side, consumer: consumer.side, trust, lines: price.lines };
  const records = await settle(world, agreed);
  const lost = expectRecorded(records, readings, consumer === three);
  const opened = await openedBy(provider, agreed.agreementDigest);
  expect(opened.filter((request) => !records.has(request))).toEqual([]);
  return { records: records.size, lost };
};

const startThree = async (env: Readonly<Record<string, string>>): Promise<void> => {
  const redisUrl = redis.url;
  const own = [{ STEKKER_DATA_WORKERS: '2' }, {}, {}];
  shared = await sharedConnector({ server, redisUrl, own, env: { ...env, STEKKER_NAME: 'Waterschap' } });
  const [first] = shared.processes as [ChildConnector, ...ChildConnector[]];
  await first.start();
  await first.stop(); // what was compiled is kept when a process ends in order
  await Promise.all(shared.processes.map((one) => one.start())); // at once
  await using connection = await openRedis(redis.url);
  const age = () => agePlaces(connection, `connector:${shared.did}`, 120_000);
  await atLast('old claims', () =>
    age().then(
      () => true as const,
      () => undefined,
    ),
  ); // a new Redis may have lost some
  const { did, operate, rows } = shared;
  const benches = shared.processes.map(({ bench }) => bench);
  const gateway = () => pick(shared.processes).gateway;
  three = await startParty({ did, operate, benches, gateway, signed: shared.signed, side: { rows, operate } });
};

describe.runIf(hasPostgres() && !isWithoutRedis)('three processes of one participant', { timeout: 600_000 }, () => {
  beforeAll(async () => {
    console.log(`seed ${seed}`);
    brokerSide = await brokerBench();
    broker = await brokerSide.start();
    server = await startPostgres();
    redis = await startRedis();
    const env = { STEKKER_BROKER_URL: brokerSide.origin, STEKKER_STATEMENT_INTERVAL_SECONDS: '2' };
    alone = await childConnector({ ...env, STEKKER_NAME: 'Veiligheidsregio' });
    await alone.start();
    const { bench, operate, gateway } = alone;
    const signed = journalFolder(bench);
    const its = { did: bench.did, operate, benches: [bench], gateway: () => gateway, signed };
    other = await startParty({ ...its, side: { bench, operate } });
    await startThree(env);
  });
  afterAll(async () => {
    for (const one of [shared, alone, server, redis, broker, brokerSide]) await one?.[Symbol.asyncDispose]();
  });

  test('what one is told the others know, and they are one DID with the same keys', async () => {
    const [first, ...others] = shared.processes as [ChildConnector, ...ChildConnector[]];
    const dataset = await publish({ ...three, operate: first.operate }, 'bekend');
    for (const { operate } of others) {
      const { status, body } = await operate('GET', `/v1/assets/${encodeURIComponent(dataset)}`);
      expect([status, body.id]).toEqual([200, dataset]);
    }
    const documents = await Promise.all(
      shared.processes.map(async ({ bench }) =>
        (await fetch(`http://localhost:${bench.config.STEKKER_PUBLIC_PORT}/.well-known/did.json`)).json(),
      ),
    );
    for (const document of documents) expect(document).toEqual(documents[0]);
    expect(documents[0]).toMatchObject({ id: shared.did });
  });

  test('while one is killed whenever all are ready, all processes end alike and all that was served is recorded', async () => {
    const flows: Flow[] = [];
    for (let count = 0; count < flowsEachWay; count += 1)
      flows.push(await startFlow(three, other, `ours-${count}`), await startFlow(other, three, `theirs-${count}`));
    const datasets = new Map([
      [three, await publish(three, 'ours')],
      [other, await publish(other, 'theirs')],
    ]);
    const asking = createAsking(datasets);
    const pausing = startPausing(flows.slice(0, 2));
    const atOnce = askEachWay(atOnceEachWay, async (consumer, provider) => {
      await atLast('a negotiation', async () => {
        if (await asking.ask(consumer, provider)) return true;
        await systemClock.sleep(500);
        return undefined;
      });
    });
    const kills = await killAgainAndAgain(asking);
    await Promise.all(atOnce);
    const pauses = await pausing.stop();
    const before = flows.map(({ readers }) => readers.received());
    await atLast('data for all after the kills', async () =>
      flows.every(({ readers }, index) => readers.received() > (before[index] ?? 0) + 2) ? true : undefined,
    );
    const readings = await Promise.all(flows.map(({ readers }) => readers.stop()));
    await endAll(flows);

    const negotiations = await pairsAtEnd('negotiations', ['FINALIZED', 'TERMINATED']);
    expect(negotiations.filter(({ state }) => state !== 'FINALIZED')).toEqual([]);
    expect(new Set(negotiations.map(({ agreementId }) => agreementId)).size).toBe(negotiations.length);
    expect(negotiations.length).toBeGreaterThanOrEqual(asking.count.begun + flows.length);
    expect(negotiations.length).toBeLessThanOrEqual(asking.count.asked + flows.length);
    const transfers = await pairsAtEnd('transfers', ['COMPLETED', 'TERMINATED']);
    expect(transfers.length).toBe(flows.length);

    let records = 0;
    for (const [index, flow] of flows.entries()) {
      const settled = await settleFlow(flow, readings[index] ?? []);
      records += settled.records;
      expect(settled.lost).toBeLessThanOrEqual(kills); // one reader each: a kill cuts one
    }
    for (const party of [three, other]) await expectNothingTwice(party);
    expect(kills).toBeGreaterThanOrEqual(20);
    for (const front of [shared.fronts.protocol, shared.fronts.data])
      expect(front.given().every((times) => times > 0)).toBe(true);
    const all = readings.flat();
    const whole = all.filter(({ status, isWhole }) => status === 200 && isWhole).length;
    const broken = all.filter(({ status, isWhole, bytes }) => status === 200 && !isWhole && bytes > 0).length;
    console.log(
      `seed ${seed}: ${kills} kills, ${negotiations.length} negotiations (${asking.refusals.length} refusals), ` +
        `${transfers.length} transfers, ${pauses} pauses, ${all.length} readings, ${whole} whole, ${broken} cut, ${records} records`,
    );
  });
});
