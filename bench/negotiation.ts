import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { request } from 'undici';
import { brokerBench, until } from '../test/support/broker-bench.ts';
import { type ConnectorBench, managementToken } from '../test/support/chain-world.ts';
import type { ConnectorProcess } from '../test/support/connector-process.ts';
import { besideEdc, isHeard, type Measure, type Negotiate } from './beside-edc.ts';
import { measureCatalogPage, must, type Peers, peers } from './peers.ts';
import { type BenchRow, isTiny, median } from './row.ts';

/**
 * Contract negotiations between two connectors, each a process of its own with its own database on disk: request, agreement,
 * verification, FINALIZED; with the signature of both, and a price, in the last kind. Every state is durable at both sides before
 * it is answered.
 * The limit of one is its durable commits and nothing else, on the same disk in the same run.
 */

const idle = isTiny ? 2 : 25;
const loads = isTiny ? [3] : [20, 50];
const perLane = isTiny ? 1 : 10;
const rounds = isTiny ? 1 : 2;
/** Commits that wait for the disk, one after the other, between the request and FINALIZED: both sides together. */
const durableSteps = { plain: 5, full: 8 };

/** Like what EDC offers beside it; or with everything that we have: both signatures, and a price. */
const publications = {
  plain: { policy: { rules: { permission: [{ action: 'use' }] } }, assurance: 'plain-dsp' },
  full: {
    policy: { template: 'purpose', parameters: { purpose: 'urn:stekker:1:purpose:crisis' } },
    price: { currency: 'EUR', scale: '4', lines: [{ unit: 'requests', quantity: '1', value: '25' }] },
  },
};

type Published = keyof typeof publications;

const publish = async (side: ConnectorBench, running: ConnectorProcess, what: Published): Promise<string> => {
  const path = join(side.folder, 'levels.json');
  writeFileSync(path, '{"levels":[1,2,3]}');
  const { asset } = await must(
    running.operate('POST', '/v1/publications', {
      title: 'Waterstanden',
      upstream: { kind: 'file', path },
      ...publications[what],
    }),
  );
  return String((asset as { readonly id: string }).id);
};

/** The offer as the consumer is shown it; the driver of EDC finds it once, too. */
const findOffer = async (running: ConnectorProcess, provider: string, dataset: string): Promise<unknown> => {
  const { offers } = await must(
    running.operate('GET', `/v1/catalog/${encodeURIComponent(dataset)}?provider=${encodeURIComponent(provider)}`),
  );
  return (offers as readonly unknown[])[0];
};

/** Watches the consumer's processes: resolves with the time when one was FINALIZED, in ms. */
const watch = async ({ managementPort }: ConnectorProcess) => {
  const stopped = new AbortController();
  const { body } = await request(`http://127.0.0.1:${managementPort}/v1/events`, {
    headers: { authorization: `Bearer ${managementToken}` },
    signal: stopped.signal,
    bodyTimeout: 0,
  });
  const finals = new Map<string, number>();
  const waiting = new Map<string, (at: number) => void>();
  const take = (line: string): void => {
    if (!line.includes('"FINALIZED"')) return; // of all that it tells: reading it whole would slow down what is measured
    const { id = '', state } = JSON.parse(line) as { readonly id?: string; readonly state?: string };
    if (state !== 'FINALIZED' || finals.has(id)) return;
    const now = performance.now();
    finals.set(id, now);
    waiting.get(id)?.(now);
    waiting.delete(id);
  };
  const read = async (): Promise<void> => {
    let rest = '';
    for await (const chunk of body.setEncoding('utf8')) {
      const lines = `${rest}${String(chunk)}`.split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line.startsWith('data: ')) take(line.slice(6));
    }
  };
  read().catch(() => undefined); // aborted at the end
  return {
    finalized: (id: string): Promise<number> => {
      const at = finals.get(id);
      return at === undefined ? new Promise((resolve) => waiting.set(id, resolve)) : Promise.resolve(at);
    },
    [Symbol.dispose]: () => stopped.abort(),
  };
};

type Watch = Awaited<ReturnType<typeof watch>>;

interface Deal {
  readonly consumer: ConnectorProcess;
  readonly provider: string;
  readonly dataset: string;
  readonly offer: unknown;
  readonly what: Published;
  readonly watching: Watch;
}

/** From the operator's request until the consumer tells that it is FINALIZED, ms. */
const negotiate = async ({ consumer, provider, dataset, offer, watching }: Deal): Promise<number> => {
  const start = performance.now();
  const { statusCode, body } = await request(`http://127.0.0.1:${consumer.managementPort}/v1/negotiations`, {
    method: 'POST',
    headers: { authorization: `Bearer ${managementToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ provider, dataset, offer }),
  });
  const begun = (await body.json()) as { readonly id?: string };
  if (statusCode !== 201 || begun.id === undefined)
    throw new Error(`a connector answered ${statusCode}: ${JSON.stringify(begun)}`);
  return (await watching.finalized(begun.id)) - start;
};

/** Agreements a second with so many negotiations under way at once. */
const rate = async (deal: Deal, lanes: number): Promise<number> => {
  const start = performance.now();
  const lane = async () => {
    for (let each = 0; each < perLane; each += 1) await negotiate(deal);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return (lanes * perLane * 1_000) / (performance.now() - start);
};

/** So many bare commits with full sync as a negotiation has, ms: what the disk alone takes in the same run. */
const createBareCommits = (steps: number) => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-bench-commits-'));
  const database = new DatabaseSync(join(folder, 'rows.sqlite'));
  database.exec('pragma journal_mode = wal; pragma synchronous = full; create table row (body text)');
  const insert = database.prepare('insert into row values (?)');
  const body = 'x'.repeat(2_000);
  return {
    run: (): number => {
      const start = performance.now();
      for (let step = 0; step < steps; step += 1) insert.run(body);
      return performance.now() - start;
    },
    [Symbol.dispose]: () => {
      database.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
};

interface Idle {
  readonly idleMs: number;
  readonly bareMs: number;
}

interface Measured {
  /** Of processes that have just been started. */
  readonly fresh: Idle;
  /** Of the same behind the loads. */
  readonly warm: Idle;
  readonly rates: readonly number[];
}

/** One after the other, each beside bare commits. */
const measureIdle = async (deal: Deal): Promise<Idle> => {
  using bare = createBareCommits(durableSteps[deal.what]);
  const times: number[] = [];
  const bareTimes: number[] = [];
  for (let each = 0; each < idle; each += 1) {
    times.push(await negotiate(deal));
    bareTimes.push(bare.run());
  }
  return { idleMs: median(times), bareMs: median(bareTimes) };
};

const measure = async (deal: Deal): Promise<Measured> => {
  for (let warm = 0; warm < (isTiny ? 1 : 10); warm += 1) await negotiate(deal);
  const fresh = await measureIdle(deal);
  const rates: number[] = [];
  for (const lanes of loads) {
    const each: number[] = [];
    for (let round = 0; round < rounds; round += 1) each.push(await rate(deal, lanes));
    rates.push(median(each));
  }
  return { fresh, warm: await measureIdle(deal), rates };
};

const deal = async (
  { provider, providerRuns, consumerRuns }: Peers,
  watching: Watch,
  what: Published,
): Promise<Deal> => {
  const dataset = await publish(provider, providerRuns, what);
  const offer = await findOffer(consumerRuns, provider.did, dataset);
  return { consumer: consumerRuns, provider: provider.did, dataset, offer, what, watching };
};

type Work<Result> = (deal: Deal) => Promise<Result>;

/** Callers are who they say they are, as in EDC beside it. */
const withMockIdentity = async <Result>(work: Work<Result>): Promise<Result> => {
  await using both = await peers({ identity: 'mock' });
  using watching = await watch(both.consumerRuns);
  return await work(await deal(both, watching, 'plain'));
};

/** Members of a broker, which each side proves by presentation; agreements are registered in its log. */
const withDcp = async <Result>(what: Published, work: Work<Result>): Promise<Result> => {
  await using side = await brokerBench();
  await using broker = await side.start();
  await using both = await peers({ identity: 'own', env: { STEKKER_BROKER_URL: side.origin } });
  for (const [place, one] of [both.providerRuns, both.consumerRuns].entries()) {
    const status = await must(one.operate('GET', '/v1/status'));
    const invited = await broker.operate('POST', '/v1/invitations', {
      did: status.did,
      name: `Member ${place}`,
      roles: ['data-holder'],
    });
    await must(one.operate('POST', '/v1/join', { code: invited.body.joinCode }));
    await until(async () => ((await must(one.operate('GET', '/v1/status'))).member === true ? true : undefined));
  }
  using watching = await watch(both.consumerRuns);
  return await work(await deal(both, watching, what));
};

/** The same as any operator sees it, who may wait in vain. */
const asked =
  (deal: Deal): Negotiate =>
  () =>
    isHeard(negotiate(deal).then(() => true));

/** `BENCH_ALONE=` measures ours without EDC, `BENCH_KIND=NAME` only one of these. */
const only = process.env.BENCH_KIND;

/** What is measured, by name, with its own target, ms. */
const allKinds: readonly (readonly [string, number, <Result>(work: Work<Result>) => Promise<Result>])[] = [
  ['mock identity', 20, withMockIdentity],
  ['DCP', 50, (work) => withDcp('plain', work)],
  ['DCP, cosigned and priced', 50, (work) => withDcp('full', work)],
];

const kinds = allKinds.filter(([name]) => only === undefined || name === only);

/** Idle and under load; and beside EDC, which needs Java and Maven. */
export const run = async (): Promise<BenchRow[]> => {
  const growth = 'constant in agreements, data sets and participants';
  const rows: BenchRow[] = [];
  for (const [name, targetMs, work] of kinds) {
    const { fresh, warm, rates } = await work(measure);
    const idleRow = ({ idleMs, bareMs }: Idle, when: string, target: string, isHit: boolean | null): BenchRow => ({
      name: `contract negotiation, idle, request to FINALIZED, ${name}${when}`,
      value: idleMs,
      unit: 'ms',
      limit: bareMs,
      ratio: bareMs / idleMs,
      target,
      isHit,
      growth,
    });
    rows.push(idleRow(warm, '', `< ${targetMs} ms`, warm.idleMs < targetMs));
    rows.push(idleRow(fresh, ', the first of a process', 'for comparison', null));
    for (const [place, value] of rates.entries())
      rows.push({
        name: `contract negotiations, ${loads[place]} in parallel, durable at both sides, ${name}`,
        value,
        unit: '/s',
        limit: null,
        ratio: null,
        target: '≥ 10 × EDC: see the rows of the same driver',
        isHit: null,
        growth,
      });
  }
  if (isTiny || process.env.BENCH_ALONE !== undefined) return rows;
  const ours = kinds.map(([name, , work]) => [
    `ours, durable, ${name}`,
    (measured: Measure) => work((its) => measured(asked(its))),
  ]);
  return [...rows, ...(await besideEdc(Object.fromEntries(ours), measureCatalogPage))];
};
