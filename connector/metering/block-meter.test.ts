import { describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { closeOn, counted, openOn, startBlockWorker } from '../../test/support/block-worker.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import {
  agreementFor,
  closed,
  closeEntry,
  createMeterNetwork,
  endBoth,
  type MeterPair,
  openEntry,
  opened,
  startMeterPair,
  startMeterParty,
  us,
} from '../../test/support/meter-pair.ts';
import type { MeteringOptions } from './service.ts';
import { defaultWindow } from './window.pure.ts';

const often = { intervalMs: 20, pace: { firstMs: 2, longestMs: 20 } };

const providerKey = ({ agreement }: MeterPair) => ({ participant: us, role: 'provider', agreement }) as const;

/** One access at a worker of the provider, as both sides see it. */
const accessAt = async ({ consumer, agreement }: MeterPair, worker: Awaited<ReturnType<typeof startBlockWorker>>) => {
  const entry = openEntry(agreement);
  expect(await opened(consumer, entry)).toBeNull();
  expect(await openOn(worker.meter, entry)).toBeNull();
  expect(await closeOn(worker.meter, closeEntry(entry))).toBe(false);
  expect(await closed(consumer, closeEntry(entry))).toBe(false);
  return entry;
};

describe('several workers of one provider', () => {
  test('what each of them serves stands in the same statements', async () => {
    await using pair = await startMeterPair({ changes: often });
    await using one = await startBlockWorker(pair.provider, 1);
    await using two = await startBlockWorker(pair.provider, 2);
    const requests: string[] = [];
    for (let round = 0; round < 5; round += 1)
      for (const worker of [one, two]) requests.push((await accessAt(pair, worker)).request);
    await endBoth(pair);
    const rows = await eventually(
      () => pair.provider.options.usage.page(providerKey(pair), { after: 0, limit: 100 }),
      (found) => found.length === requests.length,
    );
    expect(rows.map(({ request }) => request).toSorted()).toEqual(requests.toSorted());
  });

  test('a final statement waits for the access that is still open at one of them', async () => {
    await using pair = await startMeterPair({ changes: often });
    await using worker = await startBlockWorker(pair.provider, 1);
    const entry = openEntry(pair.agreement);
    await opened(pair.consumer, entry);
    await openOn(worker.meter, entry);
    await pair.provider.metering.agreementEnded(us, pair.agreement);
    expect(await openOn(worker.meter, openEntry(pair.agreement))).toMatchObject({ code: 'agreement-ended' });
    await systemClock.sleep(60);
    const newest = () => pair.provider.options.statements.find(providerKey(pair), 'newest');
    expect(await newest()).toBeUndefined();
    await closeOn(worker.meter, closeEntry(entry));
    await closed(pair.consumer, closeEntry(entry));
    const final = await eventually(newest, (found) => found?.state === 'complete' && found.payload.final);
    expect(final?.payload.last).toBe('1');
  });

  test('one that has nothing left gets what the other does not use, to the last access of the window', async () => {
    const window = { requests: 10, bytes: 1 << 30, cost: 50, ageMs: 900_000 };
    await using pair = await startMeterPair({ changes: { window, consumerWindow: { ...window, requests: 1_000 } } });
    await using one = await startBlockWorker(pair.provider, 1);
    await using two = await startBlockWorker(pair.provider, 2);
    await counted(one.meter, pair.agreement, () => undefined);
    const served: boolean[] = [];
    for (let count = 0; count < 12; count += 1)
      served.push((await openOn(two.meter, openEntry(pair.agreement))) === null);
    expect(served.filter(Boolean)).toHaveLength(10);
    expect(await openOn(one.meter, openEntry(pair.agreement))).toMatchObject({ code: 'window-exhausted' });
  });

  test('accesses are counted over all of them, so that no two are the last one', async () => {
    await using pair = await startMeterPair();
    await using one = await startBlockWorker(pair.provider, 1);
    await using two = await startBlockWorker(pair.provider, 2);
    const counts: number[] = [];
    const openCounted = ({ meter }: typeof one) =>
      counted(meter, pair.agreement, () => {
        counts.push(meter.count(pair.agreement));
        return new Promise((resolve) => meter.open(openEntry(pair.agreement), resolve));
      });
    await Promise.all([one, two, one, two].map(openCounted));
    expect(counts.toSorted()).toEqual([0, 1, 2, 3]);
    await counted(one.meter, pair.agreement, () => counts.push(one.meter.count(pair.agreement)));
    await counted(two.meter, pair.agreement, () => counts.push(two.meter.count(pair.agreement)));
    expect(counts.slice(4)).toEqual([4, 4]); // what was counted and not opened does not count
    expect(one.meter.count(pair.agreement)).toBe(Number.MAX_SAFE_INTEGER); // who did not ask is told the worst
  });

  test('a request that stands in two journals is billed once, and seen', async () => {
    const errors: string[] = [];
    const log = { debug: () => undefined, info: () => undefined, warn: () => undefined };
    const logger = { ...log, error: (_: object, text: string) => void errors.push(text), child: () => logger };
    await using pair = await startMeterPair({ changes: { ...often, log: logger } });
    await using one = await startBlockWorker(pair.provider, 1);
    await using two = await startBlockWorker(pair.provider, 2);
    const entry = await accessAt(pair, one);
    await openOn(two.meter, { ...entry, at: entry.at + 1 });
    await closeOn(two.meter, closeEntry(entry));
    await eventually(
      async () => errors,
      (found) => found.length > 0,
    );
    expect(errors).toEqual(['a request stands in two journals: the first one counts']);
    await endBoth(pair);
    const newest = await pair.provider.options.statements.find(providerKey(pair), 'newest');
    expect(newest?.payload.last).toBe('1');
  });

  test('one whose agreement is too old unstated serves no longer than its block', async () => {
    const window = { requests: 1_000, bytes: 1 << 30, cost: 50, ageMs: 200 };
    await using pair = await startMeterPair({ changes: { window } });
    pair.network.fate = () => 'lose';
    await using worker = await startBlockWorker(pair.provider, 1);
    await accessAt(pair, worker);
    await systemClock.sleep(300);
    expect(await openOn(worker.meter, openEntry(pair.agreement))).toMatchObject({ code: 'window-exhausted' });
  });
});

describe('a worker that dies', () => {
  /** Rows that keep whoever puts something waiting, until they answer: with what was put, or with a fault. */
  const gated = (options: MeteringOptions) => {
    let gate = Promise.withResolvers<void>();
    gate.resolve();
    const unstated: MeteringOptions['unstated'] = {
      ...options.unstated,
      put: async (key, accesses) => {
        await gate.promise;
        return options.unstated.put(key, accesses);
      },
    };
    const shut = () => {
      gate = Promise.withResolvers<void>();
    };
    return {
      unstated,
      shut,
      open: () => gate.resolve(),
      fail: () => gate.reject(new Error('the rows are out of reach')),
    };
  };

  test('leaves its mark behind what no row holds, and its successor hands that over', async () => {
    let offset = 0;
    const clock = { now: () => systemClock.now() + offset, sleep: systemClock.sleep };
    const ids = createIds(clock, systemRandom);
    const network = createMeterNetwork();
    let gates: ReturnType<typeof gated> | undefined;
    await using provider = await startMeterParty(network, {
      role: 'provider',
      clock,
      changes: { window: { ...defaultWindow, ageMs: 2 ** 40 } },
      mortal: (options) => {
        gates = gated(options);
        return { ...options, unstated: gates.unstated };
      },
    });
    const info = agreementFor('provider');
    await provider.metering.agreementInForce(info);
    const first = await startBlockWorker(provider, 1, { clock, segmentBytes: 4_096 });
    const serve = async (meter: typeof first.meter): Promise<void> => {
      const entry = openEntry(info.agreement, { request: ids(), at: clock.now(), proof: 'x'.repeat(700) });
      expect(await openOn(meter, entry)).toBeNull();
      expect(await closeOn(meter, closeEntry(entry))).toBe(false);
    };
    const unstated = () => provider.options.unstated.list({ ...info });
    await serve(first.meter);
    await eventually(unstated, (rows) => rows.length === 1);
    offset += 3_600_000; // no request of before could come again: only what waits keeps the mark back
    gates?.shut();
    await serve(first.meter); // on its way into the rows
    await systemClock.sleep(60);
    for (let count = 0; count < 8; count += 1) await serve(first.meter); // these wait behind it, in segments of their own
    offset += 3_600_000;
    gates?.open();
    gates?.shut(); // the next batch gets nowhere: the worker dies before
    await eventually(unstated, (rows) => rows.length >= 2);
    await systemClock.sleep(60);
    expect(await unstated()).toHaveLength(2);
    provider.metering.lender.disconnect('provider.1');
    gates?.fail();
    gates?.shut();
    gates?.open();
    await using second = await startBlockWorker(provider, 1, { clock, segmentBytes: 4_096 });
    expect(second.meter.isReady()).toBe(true);
    expect(await unstated()).toHaveLength(10);
    await Promise.resolve(first[Symbol.asyncDispose]()).catch(() => undefined); // its files are its successor's
  });

  test('keeps its block until its journal was read, and nothing is lent to it before', async () => {
    const window = { requests: 10, bytes: 1 << 30, cost: 50, ageMs: 900_000 };
    await using pair = await startMeterPair({ changes: { window } });
    const { lender } = pair.provider.metering;
    const first = lender.connect('provider.1', async () => undefined);
    expect(await first.lease(pair.agreement, { requests: 0, bytes: 0, cost: 0 })).toMatchObject({ kind: 'refused' });
    await first.recovered([]);
    const leased = await first.lease(pair.agreement, { requests: 0, bytes: 0, cost: 0 });
    expect(leased).toMatchObject({ kind: 'lent', load: { requests: 5 } });
    lender.disconnect('provider.1');
    await using other = await startBlockWorker(pair.provider, 2);
    const serve = async () => (await openOn(other.meter, openEntry(pair.agreement))) === null;
    let served = 0;
    while (await serve()) served += 1;
    expect(served).toBe(5);
    const second = lender.connect('provider.1', async () => undefined);
    await second.recovered([openEntry(pair.agreement, { proof: '' })]); // one of the five was opened
    first.giveBack(pair.agreement, { load: { requests: 5, bytes: 0, cost: 0 }, isAll: false }); // it has no block any more
    await systemClock.sleep(300);
    while (await serve()) served += 1;
    expect(served).toBe(9);
  });
});
