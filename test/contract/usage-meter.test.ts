import { describe, expect, test } from 'vitest';
import type { MeteringTables } from '../../connector/adapters/sql/metering-tables.ts';
import type { UsageMeter } from '../../connector/data-plane/ports.ts';
import { openBlockMeter } from '../../connector/metering/block-meter.ts';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { closeOn, counted, openOn, startBlockWorker } from '../support/block-worker.ts';
import { diskFull, failingFiles } from '../support/failing-files.ts';
import { agreementFor, createMeterNetwork, openEntry, startMeterParty } from '../support/meter-pair.ts';
import { tornFiles } from '../support/torn-files.ts';
import { createArrayMeter } from '../support/usage-meter.ts';
import { rowWorld } from '../support/window-worlds.ts';

/** What the suite needs of a meter. */
interface MeterHarness {
  readonly meter: UsageMeter;
  readonly clock: Clock;
  /** agreementDigest of an agreement that the meter knows, with a window of at least 100 requests and at most 64 MiB. */
  readonly agreement: string;
  /** The journal refuses from now on. */
  readonly breakJournal: () => void;
  /** The meter as it is after the program has stopped and started again. */
  readonly restart: () => Promise<UsageMeter>;
}

const mebibyte = 1_048_576;
const emptyDigest = '47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU';

const openOf = (its: MeterHarness, changes: Partial<UsageOpen> = {}): UsageOpen =>
  openEntry(its.agreement, { at: its.clock.now(), ...changes });

const closeOf = ({ agreement, request, part }: UsageOpen, changes: Partial<UsageClose> = {}): UsageClose => ({
  t: 'close',
  agreement,
  request,
  part,
  bytes: 0,
  digest: emptyDigest,
  outcome: 'ok',
  status: '200',
  units: { requests: '1' },
  ...changes,
});

const countOf = (meter: UsageMeter, agreement: string): Promise<number> =>
  counted(meter, agreement, () => meter.count(agreement));

/** The promises of `UsageMeter`, for every implementation. */
const usageMeterContract = (name: string, make: () => Promise<MeterHarness>): void => {
  describe(`UsageMeter: ${name}`, () => {
    test('opens an access once, counts it, and closes it', async () => {
      const its = await make();
      const entry = openOf(its);
      expect(await countOf(its.meter, its.agreement)).toBe(0);
      expect(await openOn(its.meter, entry)).toBeNull();
      expect(await countOf(its.meter, its.agreement)).toBe(1);
      expect(await openOn(its.meter, entry)).toMatchObject({ code: 'request-repeated' });
      expect(await countOf(its.meter, its.agreement)).toBe(1);
      expect(await closeOn(its.meter, closeOf(entry, { bytes: 10 }))).toBe(false);
      expect(await openOn(its.meter, entry)).toMatchObject({ code: 'request-repeated' });
    });

    test('counts an access from the call on, so that no two are the last one', async () => {
      const its = await make();
      const counts: number[] = [];
      const open = () =>
        counted(its.meter, its.agreement, () => {
          counts.push(its.meter.count(its.agreement));
          its.meter.open(openOf(its), () => undefined);
        });
      await Promise.all([open(), open()]);
      expect(counts).toEqual([0, 1]);
      expect(await countOf(its.meter, its.agreement)).toBe(2);
    });

    test('of the same request opened twice at once, exactly one is opened', async () => {
      const its = await make();
      const entry = openOf(its);
      const answers = await Promise.all([1, 2, 3].map(() => openOn(its.meter, entry)));
      expect(answers.filter((answer) => answer === null)).toHaveLength(1);
      expect(answers.filter((answer) => answer?.code === 'request-repeated')).toHaveLength(2);
    });

    test('the parts of a body are opened one by one, and count as one access', async () => {
      const its = await make();
      const first = openOf(its);
      const second = { ...first, part: 2 };
      expect(await openOn(its.meter, first)).toBeNull();
      expect(await closeOn(its.meter, closeOf(first, { bytes: 5 }))).toBe(false);
      expect(await openOn(its.meter, second)).toBeNull();
      expect(await countOf(its.meter, its.agreement)).toBe(1);
      expect(await closeOn(its.meter, closeOf(second, { bytes: 5, units: { bytes: '5' } }))).toBe(false);
    });

    test('what is reserved is given back down to what was used', async () => {
      const its = await make();
      await countOf(its.meter, its.agreement);
      const before = its.meter.remaining(its.agreement);
      const entry = openOf(its);
      await openOn(its.meter, entry);
      expect(its.meter.remaining(its.agreement).bytes).toBe(before.bytes - mebibyte);
      expect(its.meter.extend(its.agreement, entry.request, 1, mebibyte)).toBe(true);
      expect(its.meter.remaining(its.agreement).bytes).toBe(before.bytes - 2 * mebibyte);
      await closeOn(its.meter, closeOf(entry, { bytes: 100, units: { requests: '1', bytes: '100' } }));
      expect(its.meter.remaining(its.agreement)).toEqual({ requests: before.requests - 1, bytes: before.bytes - 100 });
    });

    test('beyond the window nothing is opened and nothing extended', async () => {
      const its = await make();
      const entry = openOf(its);
      await openOn(its.meter, entry);
      const extended = async () => {
        await countOf(its.meter, its.agreement);
        return its.meter.extend(its.agreement, entry.request, 1, mebibyte);
      };
      let mebibytes = 1;
      for (; await extended(); mebibytes += 1)
        expect(its.meter.remaining(its.agreement).bytes).toBeGreaterThanOrEqual(0);
      expect(mebibytes).toBe(64);
      expect(await openOn(its.meter, openOf(its))).toMatchObject({ code: 'window-exhausted' });
      expect(await countOf(its.meter, its.agreement)).toBe(1);
    });

    test('tells what was opened lately, also after a restart', async () => {
      const its = await make();
      const entry = openOf(its);
      await openOn(its.meter, entry);
      const lately = { agreement: its.agreement, request: entry.request, at: entry.at };
      expect(its.meter.recent(120_000)).toMatchObject([lately]);
      const again = await its.restart();
      expect(again.recent(120_000)).toMatchObject([lately]);
      expect(await countOf(again, its.agreement)).toBe(1);
      expect(await openOn(again, entry)).toMatchObject({ code: 'request-repeated' });
    });

    test('a journal that fails refuses, and says so', async () => {
      const its = await make();
      const entry = openOf(its);
      await openOn(its.meter, entry);
      expect(its.meter.isReady()).toBe(true);
      its.breakJournal();
      expect(await closeOn(its.meter, closeOf(entry))).toBe(true);
      expect(await openOn(its.meter, openOf(its))).toMatchObject({ code: 'journal-unavailable' });
      expect(its.meter.isReady()).toBe(false);
    });
  });
};

usageMeterContract('over arrays', async () => {
  const options = { clock: systemClock, requests: 100, bytes: 64 * mebibyte };
  const meter = createArrayMeter(options);
  return {
    meter,
    clock: systemClock,
    agreement: 'vUaaN0_alUxcH7SexPt0Qh6FQwnuxgJrH9m32yrHbdU',
    breakJournal: () => meter.fail(true),
    restart: async () => createArrayMeter({ ...options, entries: meter.entries }),
  };
});

describe.each(['provider', 'consumer'] as const)('as %s', (role) => {
  usageMeterContract('journal and window', async () => {
    const network = createMeterNetwork();
    const files = failingFiles(tornFiles());
    const window = { requests: 100, bytes: 64 * mebibyte, cost: 50, ageMs: 900_000 };
    const party = await startMeterParty(network, { role, files, changes: { window } });
    const info = agreementFor(role);
    await party.metering.agreementInForce(info);
    return {
      meter: party.metering.meters[role],
      clock: systemClock,
      agreement: info.agreement,
      breakJournal: () => {
        files.fault = diskFull();
      },
      restart: async () => {
        await party.metering[Symbol.asyncDispose]();
        await party.restart();
        return party.metering.meters[role];
      },
    };
  });
});

usageMeterContract('a worker with a journal of its own, beside another one', async () => {
  const network = createMeterNetwork();
  const files = failingFiles(tornFiles());
  const window = { requests: 100, bytes: 64 * mebibyte, cost: 50, ageMs: 900_000 };
  const party = await startMeterParty(network, { role: 'provider', files, changes: { window } });
  const info = agreementFor('provider');
  await party.metering.agreementInForce(info);
  const other = await startBlockWorker(party, 2);
  await countOf(other.meter, info.agreement); // it holds a part of the window, and does not use it
  const worker = await startBlockWorker(party, 1);
  return {
    meter: worker.meter,
    clock: systemClock,
    agreement: info.agreement,
    breakJournal: () => {
      files.fault = diskFull();
    },
    restart: async () => {
      for (const one of [worker, other, party.metering]) await one[Symbol.asyncDispose]();
      await party.restart();
      return (await startBlockWorker(party, 1)).meter;
    },
  };
});

describe.each(['provider', 'consumer'] as const)('as %s', (role) => {
  usageMeterContract('leased from rows, beside another process', async () => {
    const rows = openSqlite<MeteringTables>({ path: ':memory:', fullSync: false });
    const files = failingFiles(tornFiles());
    const window = { requests: 100, bytes: 64 * mebibyte, cost: 50, ageMs: 900_000 };
    const world = await rowWorld(rows.db, { window, role });
    const info = agreementFor(role);
    await world.inForce(info);
    const start = (journal: string) =>
      openBlockMeter({
        ...{ files, clock: systemClock, log: silentLogger, folder: `/journal/${journal}`, from: undefined },
        connect: (recall) => world.connect(journal, recall),
      });
    const other = await start(`${role}.b`);
    await countOf(other.meter, info.agreement);
    const own = await start(`${role}.a`);
    return {
      meter: own.meter,
      clock: systemClock,
      agreement: info.agreement,
      breakJournal: () => {
        files.fault = diskFull();
      },
      restart: async () => {
        for (const one of [own, other]) await one[Symbol.asyncDispose]();
        return (await start(`${role}.a`)).meter;
      },
    };
  });
});
