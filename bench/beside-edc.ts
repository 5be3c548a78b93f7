import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { z } from 'zod';
import { assembleEdc } from '../test/interop/edc/assemble.ts';
import { type EdcConnector, startEdc } from '../test/interop/edc/connector.ts';
import { openSink } from '../test/interop/sink.ts';
import { type BenchRow, median } from './row.ts';

/**
 * Negotiations of EDC 0.15.1 beside ours: the same machine, the same driver over each one's operator's API, the same steps from
 * the operator's request to FINALIZED at the consumer. EDC keeps everything in memory and believes mock identities; ours is
 * durable at both sides and proves its DID. As shipped EDC looks once a second for what is to be done; tuned, every 50 ms.
 *
 * The driver asks nobody again and again: that would cost more than a negotiation does. Each tells it the end by itself, over
 * what it has for its operator: EDC calls back, once for each negotiation, ours writes every change of every process into its
 * event stream. So ours says at least as much, and neither is asked anything but to begin.
 */

/** Begins one negotiation and resolves when the consumer calls it FINALIZED; false when it was lost. */
export type Negotiate = () => Promise<boolean>;

const lanesTried = [1, 20, 50];
/** Each load is kept up for so long, and for two negotiations in each lane at least. */
const loadMs = 8_000;
const perLane = 2;
const idleTried = 20;
/** Before anything is measured both have worked for a while: neither is judged by code that is not compiled yet. */
const warmMs = 10_000;
const warmLanes = 20;
/** Negotiations that are run before a second measurement: `BENCH_FINISHED=10000`. */
const finished = Number(process.env.BENCH_FINISHED ?? '0');
const fillLanes = 50;
/** EDC tuned and each of ours in turns, so often, and the medians: `BENCH_ROUNDS=3`. Machines are not the same from minute to minute. */
const rounds = Number(process.env.BENCH_ROUNDS ?? '1');
/** Offers of the catalogs that are looked at: `BENCH_EDC_OFFERS=1000,10000`. */
const offerCounts = (process.env.BENCH_EDC_OFFERS ?? '1000').split(',').map(Number);
const catalogLimitMs = 180_000;
const heapMb = 1_024;

/** What is not FINALIZED by then is lost: EDC leaves some behind in a state in which nothing happens any more. */
const patienceMs = 30_000;

/** Whether a negotiation was heard to be FINALIZED; false when nothing is heard of it. */
export const isHeard = async (finalized: Promise<boolean>): Promise<boolean> => {
  const lost = Promise.withResolvers<boolean>();
  const timer = setTimeout(lost.resolve, patienceMs, false);
  try {
    return await Promise.race([finalized, lost.promise]);
  } finally {
    clearTimeout(timer);
  }
};

/** What EDC says when a negotiation has ended (`EventEnvelope`). */
const callBack = z.object({ type: z.string(), payload: z.object({ contractNegotiationId: z.string() }) });

/** Where EDC calls back, and how each negotiation ended. */
const openEar = async () => {
  const ends = new Map<string, PromiseWithResolvers<boolean>>();
  const endOf = (id: string): PromiseWithResolvers<boolean> => {
    const end = ends.get(id) ?? Promise.withResolvers<boolean>();
    ends.set(id, end);
    return end;
  };
  const server = createServer(async (message, response) => {
    const { type, payload } = callBack.parse(await json(message));
    endOf(payload.contractNegotiationId).resolve(type === 'ContractNegotiationFinalized');
    response.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    hook: `http://localhost:${(server.address() as AddressInfo).port}`,
    isFinalized: (id: string): Promise<boolean> => isHeard(endOf(id).promise),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
};

/**
 * Runs so many, some at a time, and further ones until the time is up; how many were agreed, and when the last was: what is
 * waited for in vain is no time of theirs.
 */
const runMany = async (negotiate: Negotiate, count: number, lanes: number, atLeastMs = 0) => {
  const start = performance.now();
  const elapsed = () => performance.now() - start;
  let ms = 0;
  let tried = 0;
  let agreed = 0;
  const lane = async (): Promise<void> => {
    while (tried < count || elapsed() < atLeastMs) {
      tried += 1;
      if (!(await negotiate())) continue;
      agreed += 1;
      ms = elapsed();
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  return { agreed, lost: tried - agreed, ms };
};

interface Figures {
  readonly idleMs: number;
  /** Agreements a second, for each number of lanes. */
  readonly rates: readonly number[];
  readonly lost: number;
}

const figuresOf = async (negotiate: Negotiate): Promise<Figures> => {
  await runMany(negotiate, warmLanes, warmLanes, warmMs);
  const times: number[] = [];
  let lost = 0;
  for (let each = 0; each < idleTried; each += 1) {
    const start = performance.now();
    if (await negotiate()) times.push(performance.now() - start);
    else lost += 1;
  }
  const rates: number[] = [];
  for (const lanes of lanesTried) {
    const load = await runMany(negotiate, lanes * perLane, lanes, loadMs);
    rates.push((load.agreed * 1_000) / load.ms);
    lost += load.lost;
  }
  return { idleMs: median(times), rates, lost };
};

/** Two of EDC, and how one negotiates with the other. */
const openPair = async (iterationWaitMs: number) => {
  await using stack = new AsyncDisposableStack();
  const jars = assembleEdc();
  const sink = stack.use(await openSink());
  const start = async (id: string) => stack.use(await startEdc({ jars, id, iterationWaitMs, heapMb }));
  const [provider, consumer] = await Promise.all([start('provider'), start('consumer')]);
  const whole = stack.move();
  return { provider, consumer, sink, [Symbol.asyncDispose]: () => whole.disposeAsync() };
};

const open = { permission: [{ action: 'use' }] };
const partyOf = ({ id, protocol }: EdcConnector) => ({ id, base: `${protocol}/2025-1` });

const measureEdc = async (iterationWaitMs: number): Promise<readonly Figures[]> => {
  await using pair = await openPair(iterationWaitMs);
  const { provider, consumer, sink } = pair;
  await provider.operator.offer('asset-1', `${sink.origin}/source`, open);
  const offer = await consumer.operator.findOffer(partyOf(provider), 'asset-1');
  await using ear = await openEar();
  const negotiate: Negotiate = async () =>
    ear.isFinalized(await consumer.operator.negotiate(partyOf(provider), 'asset-1', offer, ear.hook));
  return await measureTwice(negotiate);
};

const measureTwice = async (negotiate: Negotiate): Promise<readonly Figures[]> => {
  const fresh = await figuresOf(negotiate);
  if (finished === 0) return [fresh];
  await runMany(negotiate, finished, fillLanes);
  return [fresh, await figuresOf(negotiate)];
};

/** Of the same measured several times: fresh ones together, and those behind many others. */
const mediansOf = (all: readonly (readonly Figures[])[]): readonly Figures[] =>
  (all[0] ?? []).map((_, place) => {
    const same = all.flatMap((round) => round[place] ?? []);
    return {
      idleMs: median(same.map(({ idleMs }) => idleMs)),
      rates: lanesTried.map((_lanes, load) => median(same.map(({ rates }) => rates[load] ?? Number.NaN))),
      lost: same.reduce((sum, { lost }) => sum + lost, 0),
    };
  });

const growth = 'constant in agreements, data sets and participants';

/** The rows of one, beside those of EDC as far as there are some. */
const rowsFor = (name: string, figures: Figures, tuned: Figures | undefined): BenchRow[] => {
  const lost = figures.lost === 0 ? '' : `, ${figures.lost} lost`;
  const beside = (value: number, edc: number | undefined, times: number | undefined) => ({
    value,
    limit: edc ?? null,
    ratio: edc === undefined ? null : value / edc,
    target: edc === undefined ? '–' : '≥ 10 × EDC, tuned (the limit here)',
    isHit: times === undefined ? null : times >= 10,
    growth,
  });
  const idleTimes = tuned && tuned.idleMs / figures.idleMs;
  return [
    {
      name: `negotiation, same driver, one after the other: ${name}`,
      unit: 'ms',
      ...beside(figures.idleMs, tuned?.idleMs, idleTimes),
      target: tuned === undefined ? '–' : 'a tenth of EDC, tuned',
    },
    ...figures.rates.map((rate, place) => ({
      name: `negotiations, same driver, ${lanesTried[place]} in parallel: ${name}${lost}`,
      unit: '/s',
      ...beside(rate, tuned?.rates[place], tuned && rate / (tuned.rates[place] ?? Number.NaN)),
    })),
  ];
};

const pageOf = async (pair: Awaited<ReturnType<typeof openPair>>): Promise<number> => {
  const start = performance.now();
  await pair.consumer.operator.catalog(partyOf(pair.provider), 0, 50);
  return performance.now() - start;
};

/** A page of EDC's catalog among so many offers, ms; undefined when it did not get there in time. */
const measureCatalog = async (count: number): Promise<number | undefined> => {
  await using pair = await openPair(50);
  const { provider, sink } = pair;
  const end = performance.now() + catalogLimitMs;
  let place = 0;
  const lane = async (): Promise<void> => {
    while (place < count && performance.now() < end) {
      const id = `asset-${place++}`;
      await provider.operator.offer(id, `${sink.origin}/source`, open);
    }
  };
  try {
    await Promise.all(Array.from({ length: 10 }, lane));
    if (place < count) return undefined;
    await pageOf(pair);
    return median([await pageOf(pair), await pageOf(pair), await pageOf(pair)]);
  } catch {
    return undefined;
  }
};

type MeasurePage = (offers: number) => Promise<number>;

/** The same page of both, each asked by its consumer's operator. */
const catalogRows = async (ours: MeasurePage): Promise<BenchRow[]> => {
  const rows: BenchRow[] = [];
  for (const count of offerCounts) {
    const edc = await measureCatalog(count);
    const name = `page of 50 of a catalog of ${count.toLocaleString('en')} offers, the consumer's operator asks`;
    const late = edc === undefined ? ': not within three minutes' : '';
    const row = { unit: 'ms', limit: null, ratio: null, target: '–', isHit: null };
    rows.push({
      ...row,
      name: `${name}: EDC${late}`,
      value: edc ?? catalogLimitMs,
      growth: 'linear in offers, by its source',
    });
    const value = await ours(count);
    const beside = edc === undefined ? {} : { limit: edc, ratio: value / edc };
    rows.push({ ...row, ...beside, name: `${name}: ours`, value, growth: 'constant in offers' });
  }
  return rows;
};

/** Measures whoever negotiates so. */
export type Measure = (negotiate: Negotiate) => Promise<readonly Figures[]>;

/**
 * EDC as shipped and tuned, then ours, by name: each made ready, measured, and stopped again before the next. Then a page of a
 * catalog of each, `page` being how long ours takes, ms.
 */
export const besideEdc = async (
  ours: Readonly<Record<string, (measure: Measure) => Promise<readonly Figures[]>>>,
  page: MeasurePage,
): Promise<BenchRow[]> => {
  const shipped = await measureEdc(1_000);
  const tunedOnes: (readonly Figures[])[] = [];
  const oursOnes = new Map<string, (readonly Figures[])[]>();
  for (let round = 0; round < rounds; round += 1) {
    tunedOnes.push(await measureEdc(50));
    for (const [name, work] of Object.entries(ours))
      oursOnes.set(name, [...(oursOnes.get(name) ?? []), await work(measureTwice)]);
  }
  const tuned = mediansOf(tunedOnes);
  const rows: BenchRow[] = [];
  const add = (name: string, all: readonly Figures[], beside: readonly Figures[] | undefined): void => {
    for (const [place, figures] of all.entries()) {
      const after = place === 0 ? '' : `, behind ${finished.toLocaleString('en')} others`;
      rows.push(...rowsFor(`${name}${after}`, figures, beside?.[place]));
    }
  };
  add('EDC 0.15.1 as shipped', shipped, undefined);
  add('EDC 0.15.1 tuned', tuned, undefined);
  for (const [name, all] of oursOnes) add(name, mediansOf(all), tuned);
  return [...rows, ...(await catalogRows(page))];
};
