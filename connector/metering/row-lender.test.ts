import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { agreementFor, closeEntry, digestOf, openEntry } from '../../test/support/meter-pair.ts';
import { rowWorld, startJournal, type WindowWorld, type WorldOptions } from '../../test/support/window-worlds.ts';
import { createSqlMeterAccountStore, createSqlStatementDraftStore } from '../adapters/sql/metering-store.ts';
import type { MeteringTables } from '../adapters/sql/metering-tables.ts';
import type { ShippedAccess, WindowLine } from './lender.ts';
import type { Load, MeteredAgreement, WindowStore } from './ports.ts';
import { type Limits, leastBytes, nothing } from './window.pure.ts';

const windowOf = (requests: number, changes: Partial<Limits> = {}): Limits => ({
  requests,
  bytes: 2 ** 40,
  cost: 50,
  ageMs: 900_000,
  ...changes,
});

const startWorld = async (its: WorldOptions): Promise<WindowWorld & { readonly db: Kysely<MeteringTables> }> => {
  const rows = openSqlite<MeteringTables>({ path: ':memory:', fullSync: false });
  const world = await rowWorld(rows.db, its);
  return {
    ...world,
    db: rows.db,
    [Symbol.asyncDispose]: async () => {
      await world[Symbol.asyncDispose]();
      await rows[Symbol.asyncDispose]();
    },
  };
};

const rain = agreementFor('provider', { name: 'rain', plan: null });
const entryOf = (info: MeteredAgreement): UsageOpen => openEntry(info.agreement, { proof: '' });
const endedAccess = (open: UsageOpen, changes: Partial<ShippedAccess> = {}): ShippedAccess => ({
  open,
  close: closeEntry(open),
  closedAt: open.at + 5,
  openPlace: 40,
  drawn: nothing,
  isCounted: false,
  ...changes,
});

/** All requests that there is still room for, until somebody says why not. */
const leaseAll = async (line: WindowLine, { agreement }: MeteredAgreement): Promise<readonly [number, string]> => {
  for (let sum = 0; ; ) {
    const lease = await line.lease(agreement, nothing);
    if (lease.kind === 'refused') return [sum, lease.code];
    sum += lease.load.requests;
    if (sum > 1_000) throw new Error('there is no end to the window');
  }
};

describe('a commit whose answer is lost', () => {
  /** Rows that commit and say that they did not, while it is told to. */
  const forgetful = () => {
    const its = { isLosing: false, lost: 0 };
    const through = (store: WindowStore): WindowStore => ({
      ...store,
      transact: async (work) => {
        const value = await store.transact(work);
        if (!its.isLosing) return value;
        its.lost += 1;
        throw new AppError('database-unavailable');
      },
    });
    return { its, through };
  };

  test('of a lease costs room until the next write, and nothing for ever', async () => {
    const { its, through } = forgetful();
    await using world = await startWorld({ window: windowOf(10), through });
    await world.inForce(rain);
    const { line } = await startJournal(world, 'provider.a');
    its.isLosing = true;
    await expect(line.lease(rain.agreement, nothing)).rejects.toMatchObject({ code: 'database-unavailable' });
    await expect(line.count(rain.agreement)).rejects.toMatchObject({ code: 'database-unavailable' });
    expect(await world.blocks(rain)).toEqual(['provider.a']);
    its.isLosing = false;
    await eventually(
      () => world.blocks(rain),
      (blocks) => blocks.length === 0,
    );
    expect(world.changed).toContain(rain.agreement);
    expect(await line.count(rain.agreement)).toBe(0);
    expect(await leaseAll(line, rain)).toEqual([10, 'window-exhausted']);
  });

  test('of what is handed over neither counts it twice nor takes it twice out of the block', async () => {
    const { its, through } = forgetful();
    await using world = await startWorld({ window: windowOf(10), through });
    await world.inForce(rain);
    const { line } = await startJournal(world, 'provider.a');
    expect(await line.lease(rain.agreement, nothing)).toMatchObject({ load: { requests: 5 } });
    expect(await line.count(rain.agreement)).toBe(0);
    const access = endedAccess(entryOf(rain), { drawn: { requests: 1, bytes: 3, cost: 0 }, isCounted: true });
    its.isLosing = true;
    await expect(line.ship([access])).rejects.toMatchObject({ code: 'database-unavailable' });
    its.isLosing = false;
    expect(await line.ship([access])).toEqual([]);
    expect(await world.waiting(rain)).toHaveLength(1);
    expect(await line.count(rain.agreement)).toBe(1);
    const other = await startJournal(world, 'provider.b');
    expect((await leaseAll(other.line, rain))[0]).toBe(5); // 4 are lent, and 1 waits
  });

  test('of what is given back gives it back once', async () => {
    const { its, through } = forgetful();
    await using world = await startWorld({ window: windowOf(10), through });
    await world.inForce(rain);
    const { line } = await startJournal(world, 'provider.a');
    await line.lease(rain.agreement, nothing);
    its.isLosing = true;
    line.giveBack(rain.agreement, { load: { requests: 2, bytes: 0, cost: 0 }, isAll: false });
    await eventually(
      async () => its.lost,
      (lost) => lost > 0,
    );
    its.isLosing = false;
    line.giveBack(rain.agreement, { load: { requests: 1, bytes: 0, cost: 0 }, isAll: false });
    await eventually(
      async () => {
        const rows = await world.db.selectFrom('window_block').select('requests').execute();
        return rows.map(({ requests }) => Number(requests));
      },
      ([requests]) => requests === 2,
    );
    const other = await startJournal(world, 'provider.b');
    expect((await leaseAll(other.line, rain))[0]).toBe(8);
  });
});

describe('what counts against a window in rows', () => {
  const put = async (line: WindowLine, info: MeteredAgreement, closes: readonly Parameters<typeof closeEntry>[2][]) => {
    const opens = closes.map(() => entryOf(info));
    await line.ship(opens.map((open, index) => endedAccess(open, { close: closeEntry(open, 'abc', closes[index]) })));
    return opens;
  };

  test('what the owner wrote off counts no more, what is in dispute does', async () => {
    await using world = await startWorld({ window: windowOf(10) });
    await world.inForce(rain);
    const drafts = createSqlStatementDraftStore(world.db);
    const { line } = await startJournal(world, 'provider.a');
    const opens = await put(line, rain, [{}, {}, {}]);
    const held = opens.slice(0, 2).map(({ request, part }, index) => {
      return { request, part, claim: null, holds: 1, retryAt: 3, isWrittenOff: index === 0 };
    });
    await drafts.drop(rain, held);
    expect(await leaseAll(line, rain)).toEqual([8, 'window-exhausted']);
  });

  test('what is in dispute grows no older, and a window that waits for nothing else lends', async () => {
    let now = openEntry(rain.agreement).at;
    const clock = { now: () => now, sleep: async () => undefined };
    await using world = await startWorld({ window: windowOf(10, { ageMs: 60_000 }), clock });
    await world.inForce(rain);
    const { line } = await startJournal(world, 'provider.a');
    const [first] = await put(line, rain, [{}]);
    now += 70_000;
    expect(await leaseAll(line, rain)).toEqual([0, 'window-exhausted']);
    const { request = '', part = 1 } = first ?? {};
    const held = { request, part, claim: null, holds: 1, retryAt: 3, isWrittenOff: false };
    await createSqlStatementDraftStore(world.db).drop(rain, [held]);
    expect(await leaseAll(line, rain)).toEqual([9, 'window-exhausted']);
  });

  test('what was conceded never returns beyond what is forgiven, not even when the account is closed', async () => {
    await using world = await startWorld({ window: windowOf(10) });
    const closed = agreementFor('provider', { name: 'closed', plan: null });
    for (const info of [rain, closed]) await world.inForce(info);
    const accounts = createSqlMeterAccountStore(world.db);
    const { line } = await startJournal(world, 'provider.a');
    await accounts.change(rain, { conceded: { requests: 4, bytes: 0, cost: 0 } });
    expect(await leaseAll(line, rain)).toEqual([6, 'window-exhausted']);
    await world.db
      .insertInto('statement')
      .values({
        ...{ participant: rain.participant, role: 'provider', agreement: rain.agreement, seq: 1, digest: 'd' },
        ...{ payload: JSON.stringify({ to: '2026-11-26T10:00:00.000Z' }), secret: null, leaf_key: null },
        ...{ artifact: null, state: 'complete', record_rows: null },
        sums: JSON.stringify({ totals: { requests: '200' } }),
      })
      .execute();
    expect((await leaseAll(line, rain))[0]).toBe(2); // one in a hundred is forgiven
    await accounts.change(closed, { conceded: { requests: 30, bytes: 0, cost: 0 } });
    await world.db.updateTable('usage_account').set({ closed: 1 }).where('agreement', '=', closed.agreement).execute();
    const other = agreementFor('provider', { name: 'other', plan: null });
    await world.inForce(other);
    expect(await leaseAll(line, other)).toEqual([0, 'window-exhausted']); // 40 of this counterparty: 30 + 10
  });

  test('amounts of different currencies are not added, and strangers do not count', async () => {
    const plan = (currency: string) => {
      const { pricePlan } = agreementFor('provider');
      return pricePlan === null ? null : { ...pricePlan, currency };
    };
    await using world = await startWorld({ window: windowOf(1_000_000, { cost: 1 }) });
    const euros = [1, 2, 3, 4, 5].map((n) => agreementFor('provider', { name: `euro ${n}`, plan: plan('EUR') }));
    const pounds = agreementFor('provider', { name: 'pounds', plan: plan('GBP') });
    const theirs = {
      ...agreementFor('provider', { name: 'theirs', plan: plan('EUR') }),
      consumer: 'did:web:c.example',
    };
    for (const info of [...euros, pounds, theirs as MeteredAgreement]) await world.inForce(info);
    const { line } = await startJournal(world, 'provider.a');
    const costs: number[] = [];
    for (const info of [...euros, pounds, theirs as MeteredAgreement]) {
      let cost = 0;
      for (let lease = await line.lease(info.agreement, nothing); lease.kind === 'lent' && lease.load.cost > 0; ) {
        cost += lease.load.cost;
        lease = await line.lease(info.agreement, nothing);
      }
      costs.push(Math.round(cost * 100) / 100);
    }
    expect(costs.slice(0, 4).every((cost) => cost > 0.95 && cost <= 1)).toBe(true);
    expect(costs[4]).toBeLessThan(0.1); // four windows are all that one counterparty gets
    expect(costs.slice(5).every((cost) => cost > 0.95 && cost <= 1)).toBe(true);
  });

  test('places grow over the lines of a journal, below zero', async () => {
    await using world = await startWorld({ window: windowOf(10) });
    await world.inForce(rain);
    for (let life = 0; life < 3; life += 1) {
      const { line } = await startJournal(world, 'provider.a');
      await put(line, rain, [{}, {}]);
      await put(line, rain, [{}]);
    }
    const places = (await world.waiting(rain)).map(({ place }) => place);
    expect(new Set(places).size).toBe(9);
    expect(places.every((place) => place < 0)).toBe(true);
    const rows = await world.db.selectFrom('unstated_access').select(['opened', 'place']).orderBy('place').execute();
    const requests = rows.map(({ opened }) => (JSON.parse(opened) as UsageOpen).request);
    expect(requests).toEqual(requests.toSorted()); // ids grow, and so they were put
  });
});

describe('as consumer', () => {
  const consumer = agreementFor('consumer', { name: 'rain', plan: null });
  const plain = agreementFor('consumer', { name: 'plain', plan: null, assurance: 'plain-dsp' });

  test('only what may be charged is exposed, and only what the newest statement should have held grows old', async () => {
    let now = consumer.startedAt + 10_000;
    const clock = { now: () => now, sleep: async () => undefined };
    await using world = await startWorld({ window: windowOf(10, { ageMs: 60_000 }), role: 'consumer', clock });
    await world.inForce(consumer);
    const { line } = await startJournal(world, 'consumer.a');
    const refused = entryOf(consumer);
    const charged = entryOf(consumer);
    await line.ship([
      endedAccess(refused, { close: closeEntry(refused, '', { status: '429', units: {} }), closedAt: now }),
      endedAccess(charged, { closedAt: now + 10_000 }),
    ]);
    now += 65_000; // the refused one is older than the window allows
    expect(await leaseAll(line, consumer)).toEqual([9, 'window-exhausted']);
    now += 10_000;
    expect(await line.lease(consumer.agreement, nothing)).toMatchObject({ kind: 'refused' });
  });

  test('nothing bounds a `plain-dsp` agreement, and its counters go on', async () => {
    await using world = await startWorld({
      window: windowOf(2, { bytes: leastBytes }),
      quota: { requests: 1, bytes: 1 },
      role: 'consumer',
    });
    await world.inForce(plain);
    const one = await startJournal(world, 'consumer.a');
    const two = await startJournal(world, 'consumer.b');
    for (let round = 0; round < 3; round += 1)
      for (const { line } of [one, two]) {
        const lease = await line.lease(plain.agreement, nothing);
        expect(lease.kind === 'lent' && lease.load.requests > 100 && lease.load.bytes > 2 ** 30).toBe(true);
      }
    for (const before of [0, 1, 2]) expect(await one.line.count(plain.agreement)).toBe(before);
    const accesses = [1, 2, 3].map(() => endedAccess(entryOf(plain), { isCounted: true }));
    await one.line.ship(accesses);
    expect(await two.line.count(plain.agreement)).toBe(3);
    const rows = await world.db.selectFrom('usage_account').select(['opened', 'sent']).execute();
    expect(rows.map(({ opened, sent }) => [Number(opened), Number(sent)])).toEqual([[3, 9]]);
  });
});

describe('several participants, many statements', () => {
  test('an agreement of another participant has a window of its own', async () => {
    await using world = await startWorld({ window: windowOf(10) });
    const foreign = { ...rain, participant: 'other' as ParticipantId, agreement: digestOf('foreign') };
    for (const info of [rain, foreign]) await world.inForce(info);
    const { line } = await startJournal(world, 'provider.a');
    const loads: Load[] = [];
    for (const { agreement } of [rain, foreign]) {
      const lease = await line.lease(agreement, nothing);
      if (lease.kind === 'lent') loads.push(lease.load);
    }
    expect(loads.map(({ requests }) => requests)).toEqual([5, 5]);
  });
});
