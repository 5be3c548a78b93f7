import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { systemClock } from '../../kernel/clock.ts';
import type { FilePort } from '../../kernel/files.ts';
import { silentLogger } from '../../kernel/log.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { closeOn, counted, openOn } from '../../test/support/block-worker.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { agreementFor, closeEntry, openEntry } from '../../test/support/meter-pair.ts';
import { tornFiles } from '../../test/support/torn-files.ts';
import { rowWorld, type WindowWorld, type WorldOptions } from '../../test/support/window-worlds.ts';
import { createSqlJournalMarkStore } from '../adapters/sql/metering-store.ts';
import type { MeteringTables } from '../adapters/sql/metering-tables.ts';
import { type OpenedBlockMeter, openBlockMeter } from './block-meter.ts';
import type { MeteredAgreement } from './ports.ts';
import { defaultWindow, type Limits } from './window.pure.ts';

/** Block meters of several processes, each with a journal of its own, over windows in rows. */

interface Deployment extends AsyncDisposable {
  readonly world: WindowWorld;
  readonly files: FilePort;
  readonly db: Kysely<MeteringTables>;
  /** A meter over the journal of this name; what an older one was doing is left where it stood. */
  readonly start: (journal: string) => Promise<OpenedBlockMeter>;
}

const deploy = async (its: Partial<WorldOptions> = {}): Promise<Deployment> => {
  const rows = openSqlite<MeteringTables>({ path: ':memory:', fullSync: false });
  const world = await rowWorld(rows.db, { window: defaultWindow, ...its });
  const files = tornFiles();
  const marks = createSqlJournalMarkStore(rows.db);
  const started: OpenedBlockMeter[] = [];
  return {
    ...{ world, files, db: rows.db },
    start: async (journal) => {
      world.disconnect(journal);
      const opened = await openBlockMeter({
        ...{ files, clock: systemClock, log: silentLogger, folder: `/journal/${journal}`, segmentBytes: 1 << 16 },
        from: await marks.get(journal),
        connect: (recall) => world.connect(journal, recall),
      });
      started.push(opened);
      return opened;
    },
    [Symbol.asyncDispose]: async () => {
      for (const one of started) await Promise.resolve(one[Symbol.asyncDispose]()).catch(() => undefined);
      await world[Symbol.asyncDispose]();
      await rows[Symbol.asyncDispose]();
    },
  };
};

const windowOf = (requests: number): Limits => ({ requests, bytes: 2 ** 40, cost: 50, ageMs: 900_000 });
const rain = agreementFor('provider');

const serve = async (
  { meter }: OpenedBlockMeter,
  { agreement }: MeteredAgreement,
  changes: Partial<UsageClose> = {},
): Promise<UsageOpen> => {
  const entry = openEntry(agreement);
  expect(await openOn(meter, entry)).toBeNull();
  expect(await closeOn(meter, closeEntry(entry, 'abc', changes))).toBe(false);
  return entry;
};

const requestsOf = async ({ world }: Deployment, info: MeteredAgreement): Promise<readonly string[]> =>
  (await world.waiting(info)).map(({ open }) => open.request).toSorted();

describe('block meters over windows in rows', () => {
  test('what each of them serves stands in rows, without its proof', async () => {
    await using its = await deploy();
    await its.world.inForce(rain);
    const [one, two] = [await its.start('provider.a'), await its.start('provider.b')];
    const served: string[] = [];
    for (let round = 0; round < 5; round += 1)
      for (const each of [one, two]) served.push((await serve(each, rain)).request);
    await eventually(
      () => requestsOf(its, rain),
      (found) => found.length === served.length,
    );
    expect(await requestsOf(its, rain)).toEqual(served.toSorted());
    expect((await its.world.waiting(rain)).every(({ open }) => open.proof === '')).toBe(true);
  });

  test('an agreement that ended is closed at all of them, and its blocks end with its last access', async () => {
    await using its = await deploy();
    await its.world.inForce(rain);
    const [one, two] = [await its.start('provider.a'), await its.start('provider.b')];
    await serve(one, rain);
    const open = openEntry(rain.agreement);
    expect(await openOn(two.meter, open)).toBeNull();
    await its.world.end(rain);
    for (const { meter } of [one, two])
      expect(await openOn(meter, openEntry(rain.agreement))).toMatchObject({ code: 'agreement-ended' });
    await eventually(
      () => its.world.blocks(rain),
      (blocks) => blocks.length === 1,
    );
    expect(await its.world.blocks(rain)).toEqual(['provider.b']);
    await closeOn(two.meter, closeEntry(open));
    await eventually(
      () => its.world.blocks(rain),
      (blocks) => blocks.length === 0,
    );
    expect(await requestsOf(its, rain)).toHaveLength(2);
  });

  test('one that has nothing left gets what the other does not use, to the last access of the window', async () => {
    await using its = await deploy({ window: windowOf(10) });
    await its.world.inForce(rain);
    const [one, two] = [await its.start('provider.a'), await its.start('provider.b')];
    await counted(one.meter, rain.agreement, () => undefined);
    const served: boolean[] = [];
    for (let count = 0; count < 12; count += 1)
      served.push((await openOn(two.meter, openEntry(rain.agreement))) === null);
    expect(served.filter(Boolean)).toHaveLength(10);
    expect(await openOn(one.meter, openEntry(rain.agreement))).toMatchObject({ code: 'window-exhausted' });
  });

  test('accesses are counted over all of them, so that no two are the last one', async () => {
    await using its = await deploy();
    await its.world.inForce(rain);
    const [one, two] = [await its.start('provider.a'), await its.start('provider.b')];
    const counts: number[] = [];
    const openCounted = ({ meter }: OpenedBlockMeter) =>
      counted(meter, rain.agreement, () => {
        counts.push(meter.count(rain.agreement));
        return new Promise((resolve) => meter.open(openEntry(rain.agreement), resolve));
      });
    await Promise.all([one, two, one, two].map(openCounted));
    expect(counts.toSorted()).toEqual([0, 1, 2, 3]);
    await counted(one.meter, rain.agreement, () => counts.push(one.meter.count(rain.agreement)));
    const next = () => counted(two.meter, rain.agreement, () => two.meter.count(rain.agreement));
    expect(counts[4]).toBe(4);
    expect(await eventually(next, (found) => found === 4)).toBe(4); // what was not opened does not count
  });

  test('a journal whose process died is read by the next one: nothing is lost, doubled or held back', async () => {
    await using its = await deploy({ window: windowOf(10) });
    await its.world.inForce(rain);
    const first = await its.start('provider.a');
    const served = [await serve(first, rain), await serve(first, rain)];
    const open = openEntry(rain.agreement);
    expect(await openOn(first.meter, open)).toBeNull();
    await eventually(
      () => requestsOf(its, rain),
      (found) => found.length === 2,
    );
    const second = await its.start('provider.a');
    await eventually(
      () => requestsOf(its, rain),
      (found) => found.length === 3,
    );
    expect(await requestsOf(its, rain)).toEqual([...served, open].map(({ request }) => request).toSorted());
    const lost = (await its.world.waiting(rain)).find((one) => one.open.request === open.request);
    expect(lost?.close).toMatchObject({ outcome: 'unknown', units: {} });
    const account = await its.db.selectFrom('usage_account').select('opened').executeTakeFirstOrThrow();
    expect(Number(account.opened)).toBe(3);
    let opened = 0;
    while ((await openOn(second.meter, openEntry(rain.agreement))) === null) opened += 1;
    expect(opened).toBe(7);
    expect(its.world.errors).toEqual([]);
  });

  test('who stops in order leaves no block behind', async () => {
    await using its = await deploy();
    await its.world.inForce(rain);
    const one = await its.start('provider.a');
    await serve(one, rain);
    expect(await its.world.blocks(rain)).toEqual(['provider.a']);
    await one[Symbol.asyncDispose]();
    await its.world[Symbol.asyncDispose]();
    expect(await its.world.blocks(rain)).toEqual([]);
    expect(await requestsOf(its, rain)).toHaveLength(1);
  });
});

describe('block meters of a consumer', () => {
  test('what a provider refused takes nothing of the window, what it served does', async () => {
    const info = agreementFor('consumer');
    await using its = await deploy({ window: windowOf(4), role: 'consumer' });
    await its.world.inForce(info);
    const one = await its.start('consumer.a');
    for (let count = 0; count < 6; count += 1) await serve(one, info, { status: '429', units: {}, bytes: 0 });
    await eventually(
      () => requestsOf(its, info),
      (found) => found.length === 6,
    );
    let served = 0;
    for (let entry = openEntry(info.agreement); (await openOn(one.meter, entry)) === null; served += 1) {
      await closeOn(one.meter, closeEntry(entry));
      entry = openEntry(info.agreement);
    }
    expect(served).toBe(4);
    await eventually(
      () => requestsOf(its, info),
      (found) => found.length === 10,
    );
  });

  test('under `plain-dsp` nothing bounds it', async () => {
    const info = agreementFor('consumer', { assurance: 'plain-dsp' });
    await using its = await deploy({ window: windowOf(1), quota: { requests: 1, bytes: 1 }, role: 'consumer' });
    await its.world.inForce(info);
    const one = await its.start('consumer.a');
    for (let count = 0; count < 4; count += 1) await serve(one, info);
    await eventually(
      () => requestsOf(its, info),
      (found) => found.length === 4,
    );
  });
});
