import { describe, expect, test } from 'vitest';
import type { MeteringTables } from '../../connector/adapters/sql/metering-tables.ts';
import type { Lease, ShippedAccess, WindowLine } from '../../connector/metering/lender.ts';
import type { MeteredAgreement } from '../../connector/metering/ports.ts';
import { type Limits, leastBytes, nothing } from '../../connector/metering/window.pure.ts';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { databases } from '../support/databases.ts';
import { eventually } from '../support/dsp-pair.ts';
import { agreementFor, closeEntry, openEntry } from '../support/meter-pair.ts';
import {
  type JournalClient,
  memoryWorld,
  rowWorld,
  startJournal,
  type WindowWorld,
  type WorldOptions,
} from '../support/window-worlds.ts';

const worlds: Readonly<Record<string, (its: WorldOptions) => Promise<WindowWorld>>> = {
  memory: memoryWorld,
  ...Object.fromEntries(
    Object.entries(databases).map(([name, empty]) => [
      `rows on ${name}`,
      async (its: WorldOptions) => rowWorld((await empty<MeteringTables>()).db, its),
    ]),
  ),
};

const windowOf = (requests: number, changes: Partial<Limits> = {}): Limits => ({
  requests,
  bytes: 2 ** 40,
  cost: 50,
  ageMs: 900_000,
  ...changes,
});

const free = (name: string): MeteredAgreement => agreementFor('provider', { name, plan: null });
const rain = free('rain');
const noRecall = async (): Promise<void> => undefined;

/** An access as its journal hands it over when it has ended. */
const endedAccess = (open: UsageOpen, changes: Partial<ShippedAccess> = {}): ShippedAccess => ({
  open,
  close: closeEntry(open),
  closedAt: open.at + 5,
  openPlace: 40,
  drawn: { requests: 1, bytes: 3, cost: 0 },
  isCounted: false,
  ...changes,
});
const entryOf = (info: MeteredAgreement, changes: Partial<UsageOpen> = {}): UsageOpen =>
  openEntry(info.agreement, { proof: '', ...changes });

const lent = (lease: Lease): number => (lease.kind === 'lent' ? lease.load.requests : -1);
const codeOf = (lease: Lease): string => (lease.kind === 'lent' ? 'lent' : lease.code);

/** Leases again and again until what others gave back has arrived. */
const leased = (line: WindowLine, info: MeteredAgreement, isRight: (lease: Lease) => boolean): Promise<Lease> =>
  eventually(() => line.lease(info.agreement, nothing), isRight);

describe.each(Object.entries(worlds))('WindowLine over %s: how much', (_name, create) => {
  test.each([
    [1, 24],
    [6, 40],
  ])(
    'several journals at once get to the last access of %i agreements with one counterparty, and never beyond it',
    async (count, room) => {
      await using world = await create({ window: windowOf(count === 1 ? room : room / 4) });
      const agreements = Array.from({ length: count }, (_, index) => free(`of ${index}`));
      for (const info of agreements) await world.inForce(info);
      const journals: JournalClient[] = [];
      for (const name of ['a', 'b', 'c', 'd']) journals.push(await startJournal(world, `provider.${name}`));
      const all = () =>
        journals
          .flatMap(({ has }) => agreements.map(({ agreement }) => has(agreement).requests))
          .reduce((a, b) => a + b);
      let [opened, most] = [0, 0];
      const openAll = async ({ open }: JournalClient, turn: number) => {
        for (let misses = 0; misses < count && opened <= room; ) {
          const { agreement } = agreements[(turn + misses) % count] ?? rain;
          const refusal = await open(agreement);
          most = Math.max(most, all());
          if (refusal === null) opened += 1;
          else misses += 1;
        }
      };
      await Promise.all(journals.map(openAll));
      for (const journal of journals.slice(0, 1)) await openAll(journal, 0); // now nobody is in its way
      expect([opened, most]).toEqual([room, room]);
    },
  );

  test('of half of what is free each journal gets its share, its own unused part included', async () => {
    await using world = await create({ window: windowOf(40) });
    await world.inForce(rain);
    const one = await startJournal(world, 'provider.a');
    expect(lent(await one.line.lease(rain.agreement, nothing))).toBe(20);
    const lease = await one.line.lease(rain.agreement, { requests: 8, bytes: 2 ** 39, cost: 0 });
    expect(lent(lease)).toBe(6); // half of 20 + 8 is 14
    expect(lease).toMatchObject({ free: { requests: 14 } });
  });

  test('bytes and costs are bounds like requests', async () => {
    await using world = await create({ window: windowOf(1_000, { bytes: 6 * leastBytes, cost: 0.5 }) });
    const priced = agreementFor('provider', { name: 'priced' });
    await world.inForce(rain);
    await world.inForce(priced);
    const { line } = await startJournal(world, 'provider.a');
    const first = await line.lease(rain.agreement, nothing);
    expect(first).toMatchObject({ load: { bytes: 3 * leastBytes, cost: 0 }, rates: {} });
    for (let bytes = 0; bytes < 3; bytes += 1) await line.lease(rain.agreement, nothing);
    expect(codeOf(await line.lease(rain.agreement, nothing))).toBe('window-exhausted');
    const paid = await line.lease(priced.agreement, nothing);
    expect(paid).toMatchObject({ load: { cost: 0.25 }, rates: { requests: 0.0025 } });
  });

  test('what is opened out of a lease ends with it, and soon enough for what waits', async () => {
    const now = 1_795_431_600_000;
    const clock = { now: () => now + offset, sleep: async () => undefined };
    let offset = 0;
    await using world = await create({ window: windowOf(10, { ageMs: 15_000 }), clock });
    await world.inForce(rain);
    const { line } = await startJournal(world, 'provider.a');
    expect(await line.lease(rain.agreement, nothing)).toMatchObject({ until: now + 10_000 });
    await line.ship([endedAccess(entryOf(rain), { closedAt: now })]);
    offset = 8_000;
    expect(await line.lease(rain.agreement, nothing)).toMatchObject({ until: now + 15_000 });
    offset = 15_001;
    expect(codeOf(await line.lease(rain.agreement, nothing))).toBe('window-exhausted');
  });
});

describe.each(Object.entries(worlds))('WindowLine over %s: refusals and returns', (_name, create) => {
  test('an agreement that is not known or ended, a window and a quota that are used up', async () => {
    await using world = await create({ window: windowOf(1), quota: { requests: 2, bytes: 2 ** 30 } });
    const prepaid = agreementFor('provider', { name: 'prepaid', plan: null, assurance: 'plain-dsp' });
    const over = free('over');
    for (const info of [rain, prepaid, over]) await world.inForce(info);
    await world.end(over);
    const { line } = await startJournal(world, 'provider.a');
    expect(codeOf(await line.lease('nobody knows it', nothing))).toBe('agreement-ended');
    expect(codeOf(await line.lease(over.agreement, nothing))).toBe('agreement-ended');
    expect(await line.count(over.agreement)).toBeUndefined();
    expect(lent(await line.lease(rain.agreement, nothing))).toBe(1);
    expect(codeOf(await line.lease(rain.agreement, nothing))).toBe('window-exhausted');
    expect(world.changed).toContain(rain.agreement);
    for (let round = 0; round < 2; round += 1) {
      expect(lent(await line.lease(prepaid.agreement, nothing))).toBe(1);
      await line.ship([endedAccess(entryOf(prepaid), { drawn: { requests: 1, bytes: leastBytes, cost: 0 } })]);
    }
    expect(codeOf(await line.lease(prepaid.agreement, nothing))).toBe('quota-exhausted');
  });

  test('who finds nothing left gets what others do not use, of this agreement and of others', async () => {
    await using world = await create({ window: windowOf(10) });
    const all = [rain, free('b'), free('c'), free('d'), free('e')];
    for (const info of all) await world.inForce(info);
    const one = await startJournal(world, 'provider.a');
    const two = await startJournal(world, 'provider.b');
    expect(await one.open(rain.agreement)).toBeNull();
    let opened = 1;
    while (opened < 99 && (await two.open(rain.agreement)) === null) opened += 1;
    expect(opened).toBe(10);
    for (const info of all) await one.open(info.agreement); // 40 is all there is for this counterparty
    for (const info of all) while (opened < 99 && (await two.open(info.agreement)) === null) opened += 1;
    expect(opened + 4).toBe(40);
  });

  test('what is given back can be lent again, and the end of a block is told', async () => {
    await using world = await create({ window: windowOf(8) });
    await world.inForce(rain);
    const one = await startJournal(world, 'provider.a');
    const two = await startJournal(world, 'provider.b');
    expect(lent(await one.line.lease(rain.agreement, nothing))).toBeGreaterThan(0);
    expect(await world.blocks(rain)).toEqual(['provider.a']);
    const before = world.changed.length;
    one.line.giveBack(rain.agreement, { load: nothing, isAll: true });
    await eventually(
      () => world.blocks(rain),
      (blocks) => blocks.length === 0,
    );
    expect(world.changed.slice(before)).toEqual([rain.agreement]);
    one.line.giveBack(rain.agreement, { load: { requests: 4, bytes: 0, cost: 0 }, isAll: true }); // it has no block
    const all = async () => {
      let sum = 0;
      for (let lease = await two.line.lease(rain.agreement, nothing); lease.kind === 'lent' && sum < 99; ) {
        sum += lease.load.requests;
        lease = await two.line.lease(rain.agreement, nothing);
      }
      return sum;
    };
    expect(await all()).toBe(8);
  });

  test('an agreement that ended is told to those who have something of it; its block ends when they say so', async () => {
    await using world = await create({ window: windowOf(8) });
    await world.inForce(rain);
    const told: [string, boolean][] = [];
    const line = world.connect('provider.a', async (agreement, isEnded) => void told.push([agreement, isEnded]));
    await line.recovered([]);
    await line.lease(rain.agreement, nothing);
    await world.end(rain);
    expect(told).toEqual([[rain.agreement, true]]);
    expect(codeOf(await line.lease(rain.agreement, nothing))).toBe('agreement-ended');
    expect(await world.blocks(rain)).toEqual(['provider.a']); // something may still be open there
    line.giveBack(rain.agreement, { load: nothing, isAll: true });
    await eventually(
      () => world.blocks(rain),
      (blocks) => blocks.length === 0,
    );
  });
});

describe.each(Object.entries(worlds))('WindowLine over %s: what is counted and handed over', (_name, create) => {
  test('no two accesses at several journals are the last one', async () => {
    await using world = await create({ window: windowOf(1_000) });
    await world.inForce(rain);
    const lines = [];
    for (const name of ['a', 'b', 'c']) lines.push((await startJournal(world, `provider.${name}`)).line);
    const [one, two, three] = lines as [WindowLine, WindowLine, WindowLine];
    const counts = await Promise.all([...lines, ...lines].map((line) => line.count(rain.agreement)));
    expect(counts.toSorted()).toEqual([0, 1, 2, 3, 4, 5]);
    one.uncount(rain.agreement);
    const again = await eventually(
      async () => {
        const counted = await two.count(rain.agreement);
        two.uncount(rain.agreement);
        return counted;
      },
      (counted) => counted === 5,
    );
    expect(again).toBe(5);
    await three.ship([endedAccess(entryOf(rain), { isCounted: true, drawn: nothing })]);
    expect(
      await eventually(
        () => three.count(rain.agreement),
        (counted) => counted === 5 || counted === undefined,
      ),
    ).toBe(5); // as a record it counts once, like before
    await two.ship([endedAccess(entryOf(rain), { drawn: nothing })]);
    expect(await one.count(rain.agreement)).toBe(7);
  });

  test('what is handed over stands in rows once, in order, and frees what was not used', async () => {
    await using world = await create({ window: windowOf(8) });
    await world.inForce(rain);
    const { line } = await startJournal(world, 'provider.a');
    expect(lent(await line.lease(rain.agreement, nothing))).toBe(4);
    const accesses = [entryOf(rain), entryOf(rain), entryOf(rain, { part: 2 })].map((open) => endedAccess(open));
    expect(await line.ship(accesses.slice(0, 2))).toEqual([]);
    expect(await line.ship(accesses.slice(2))).toEqual([]);
    const rows = await world.waiting(rain);
    expect(rows.map(({ open }) => open.request)).toEqual(accesses.map(({ open }) => open.request));
    expect(rows.map(({ load }) => load.requests)).toEqual([1, 1, 0]);
    expect(rows.every(({ place, journal }) => place < 0 && journal === 'provider.a')).toBe(true);
    expect(world.changed).toContain(rain.agreement);
    line.giveBack(rain.agreement, { load: nothing, isAll: true });
    let sum = 0;
    for (let lease = await line.lease(rain.agreement, nothing); lease.kind === 'lent' && sum < 99; ) {
      sum += lease.load.requests;
      lease = await line.lease(rain.agreement, nothing);
    }
    expect(sum).toBe(6);
  });

  test('what its journal hands over once more changes nothing, nor does a journal that was moved', async () => {
    await using world = await create({ window: windowOf(8) });
    await world.inForce(rain);
    const first = await startJournal(world, 'provider.a');
    const open = entryOf(rain);
    await first.line.count(rain.agreement);
    await first.line.ship([endedAccess(open, { isCounted: true, drawn: nothing })]);
    world.disconnect('provider.a');
    const line = world.connect('provider.a', noRecall);
    expect(
      await line.ship([endedAccess(open, { drawn: nothing }), endedAccess(entryOf(rain), { drawn: nothing })]),
    ).toEqual([]);
    await line.recovered([]);
    const rows = await world.waiting(rain);
    expect(rows).toHaveLength(2);
    expect(rows[0]?.open.request).toBe(open.request);
    expect(await line.count(rain.agreement)).toBe(2);
    expect(world.errors).toEqual([]);
  });

  test('a request that stands in two journals counts once, and is seen', async () => {
    await using world = await create({ window: windowOf(8) });
    await world.inForce(rain);
    const one = await startJournal(world, 'provider.a');
    const two = await startJournal(world, 'provider.b');
    const open = entryOf(rain);
    await one.line.ship([endedAccess(open, { drawn: nothing })]);
    await two.line.ship([endedAccess({ ...open, at: open.at + 1 }, { drawn: nothing }), endedAccess(entryOf(rain))]);
    expect((await world.waiting(rain)).map(({ journal }) => journal)).toEqual(['provider.a', 'provider.b']);
    expect(world.errors).toEqual(['a request stands in two journals: the first one counts']);
    expect(await one.line.count(rain.agreement)).toBe(2);
  });

  test('what belongs to an agreement that nobody knows is named, and all else is taken', async () => {
    await using world = await create({ window: windowOf(8) });
    await world.inForce(rain);
    const { line } = await startJournal(world, 'provider.a');
    const [known, unknown] = [entryOf(rain), entryOf(free('of nobody'))];
    const answer = await line.ship([unknown, known].map((open) => endedAccess(open)));
    expect(answer).toEqual([`${unknown.agreement} ${unknown.request} 1`]);
    expect(await world.waiting(rain)).toHaveLength(1);
  });
});

describe.each(Object.entries(worlds))('WindowLine over %s: a journal whose line died', (_name, create) => {
  test('keeps its block until it was read, and gets nothing before', async () => {
    await using world = await create({ window: windowOf(10) });
    await world.inForce(rain);
    const first = await startJournal(world, 'provider.a');
    expect(lent(await first.line.lease(rain.agreement, nothing))).toBe(5);
    world.disconnect('provider.a');
    const other = await startJournal(world, 'provider.b');
    let opened = 0;
    while (opened < 99 && (await other.open(rain.agreement)) === null) opened += 1;
    expect(opened).toBe(5);
    const second = world.connect('provider.a', noRecall);
    expect(codeOf(await second.lease(rain.agreement, nothing))).toBe('agreement-ended');
    expect(await second.count(rain.agreement)).toBeUndefined();
    const open = entryOf(rain); // one of the five was opened, and nobody knows how it ended
    await second.recovered([open]);
    expect(await world.waiting(rain)).toEqual([]);
    while (opened < 99 && (await other.open(rain.agreement)) === null) opened += 1;
    expect(opened).toBe(9);
    const close = closeEntry(open, '', { outcome: 'unknown', status: '', units: {} });
    await second.ship([endedAccess(open, { close, drawn: nothing })]);
    expect(await other.open(rain.agreement)).toBe('window-exhausted'); // it is one of those that wait now
    second.giveBack(rain.agreement, { load: nothing, isAll: true });
    await eventually(
      () => world.blocks(rain),
      (blocks) => !blocks.includes('provider.a'),
    );
    expect(await other.open(rain.agreement)).toBe('window-exhausted');
  });

  test('counts what is still open there', async () => {
    await using world = await create({ window: windowOf(10) });
    await world.inForce(rain);
    const first = await startJournal(world, 'provider.a');
    for (const before of [0, 1, 2]) expect(await first.line.count(rain.agreement)).toBe(before);
    world.disconnect('provider.a');
    const second = world.connect('provider.a', noRecall);
    const open = entryOf(rain);
    await second.recovered([open, entryOf(rain, { part: 2 })]);
    expect(await second.count(rain.agreement)).toBe(1);
    await second.ship([endedAccess(open, { drawn: nothing })]);
    expect(await second.count(rain.agreement)).toBe(2);
  });

  test('an older line of the same journal can do nothing', async () => {
    await using world = await create({ window: windowOf(10) });
    await world.inForce(rain);
    const { line: old } = await startJournal(world, 'provider.a');
    await old.lease(rain.agreement, nothing);
    const { line } = await startJournal(world, 'provider.a');
    expect(lent(await line.lease(rain.agreement, nothing))).toBeGreaterThan(0);
    await line.count(rain.agreement);
    const open = entryOf(rain);
    expect(codeOf(await old.lease(rain.agreement, nothing))).toBe('agreement-ended');
    expect(await old.count(rain.agreement)).toBeUndefined();
    await expect(old.ship([endedAccess(open)])).rejects.toMatchObject({ code: 'invariant-broken' });
    await expect(old.recovered([])).rejects.toMatchObject({ code: 'invariant-broken' });
    old.uncount(rain.agreement);
    old.giveBack(rain.agreement, { load: { requests: 5, bytes: 0, cost: 0 }, isAll: true });
    expect(await old.count(rain.agreement)).toBeUndefined(); // behind what it gave back
    expect(await world.blocks(rain)).toEqual(['provider.a']);
    expect(await world.waiting(rain)).toEqual([]);
    const other = await startJournal(world, 'provider.b');
    let opened = 0;
    while (opened < 99 && (await other.open(rain.agreement)) === null) opened += 1;
    expect(opened).toBe(5);
    expect(await line.count(rain.agreement)).toBe(1);
    expect(await leased(line, rain, (lease) => lease.kind === 'refused')).toMatchObject({ code: 'window-exhausted' });
  });
});
