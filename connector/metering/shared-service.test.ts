import { describe, expect, test } from 'vitest';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createWakeups } from '../../kernel/wakeups.ts';
import { closeOn, openOn } from '../../test/support/block-worker.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import {
  agreementFor,
  closeEntry,
  createMeterNetwork,
  type MeterNetwork,
  openEntry,
  startMeterParty,
  us,
} from '../../test/support/meter-pair.ts';
import { leaseMs, openSharedParty, type SharedParty, type SharedProcess } from '../../test/support/shared-party.ts';
import type { BlockMeter } from './block-meter.ts';
import type { MeterRole, StatementStore } from './ports.ts';

const quick = { intervalMs: 50 };

interface Side {
  readonly role: MeterRole;
  readonly meters: readonly BlockMeter[];
  readonly statements: StatementStore;
}

const sideOf = ({ role, options }: SharedParty, processes: readonly SharedProcess[]): Side => ({
  role,
  meters: processes.map(({ metering }) => metering.meters[role]),
  statements: options.statements,
});

/** So many accesses, each seen by one process of each side; their request ids. */
const accesses = async (agreement: string, sides: readonly Side[], count: number): Promise<readonly string[]> => {
  const requests: string[] = [];
  for (let each = 0; each < count; each += 1) {
    const entry: UsageOpen = openEntry(agreement);
    for (const { meters } of sides) {
      const meter = meters[each % meters.length];
      if (meter === undefined) throw new Error('nobody is there');
      expect(await openOn(meter, entry)).toBe(null);
      expect(await closeOn(meter, closeEntry(entry))).toBe(false);
    }
    requests.push(entry.request);
  }
  return requests;
};

/** Waits for what only a look now and then finds. */
const patiently: typeof eventually = async (look, holds) => {
  for (let round = 0; round < 5; round += 1)
    try {
      return await eventually(look, holds);
    } catch {
      // not yet
    }
  return eventually(look, holds);
};

const finalOf = ({ statements, role }: Side, agreement: string) =>
  eventually(
    () => statements.find({ participant: us, role, agreement }, 'newest'),
    (found) => found?.state === 'complete' && found.payload.final,
  );

/** Every request that a side has stated, in order of number. */
const statedBy = async ({ options: { usage }, role }: Pick<SharedParty, 'options' | 'role'>, agreement: string) => {
  const key = { participant: us, role, agreement };
  return (await usage.page(key, { after: 0, limit: 10_000 })).map(({ n, request }) => ({ n, request }));
};

const world = async (shared: MeterRole, more: Partial<Parameters<typeof openSharedParty>[1]> = {}) => {
  const stack = new AsyncDisposableStack();
  const network: MeterNetwork = createMeterNetwork();
  const party = stack.use(await openSharedParty(network, { role: shared, changes: quick, ...more }));
  const other = stack.use(
    await startMeterParty(network, { role: shared === 'provider' ? 'consumer' : 'provider', changes: quick }),
  );
  const info = agreementFor(shared);
  await other.metering.agreementInForce(agreementFor(other.role, { at: info.startedAt }));
  const otherSide: Side = {
    role: other.role,
    meters: [other.metering.meters[other.role]],
    statements: other.options.statements,
  };
  return { party, other, otherSide, info, [Symbol.asyncDispose]: () => stack.disposeAsync() };
};

/** The consumer opens first, as it asks. */
const inOrder = (...sides: readonly Side[]): readonly Side[] => sides.toSorted((a, b) => (a.role < b.role ? -1 : 1));

describe.each(['provider', 'consumer'] as const)('as %s of several processes', (role) => {
  test('what any of them recorded is stated once, and the last statement waits for all of them', async () => {
    await using its = await world(role);
    const { party, other, otherSide, info } = its;
    await using one = await party.start();
    await using two = await party.start();
    await one.metering.agreementInForce(info);
    const side = sideOf(party, [one, two]);
    const requests = await accesses(info.agreement, inOrder(side, otherSide), 20);
    const open = openEntry(info.agreement);
    for (const { meters } of inOrder(side, otherSide))
      expect(await openOn(meters.at(-1) as BlockMeter, open)).toBe(null);
    await two.metering.agreementEnded(us, info.agreement);
    await other.metering.agreementEnded(us, info.agreement);
    expect(await openOn(one.metering.meters[role], openEntry(info.agreement))).toMatchObject({
      code: 'agreement-ended',
    });
    for (const { meters } of inOrder(side, otherSide))
      expect(await closeOn(meters.at(-1) as BlockMeter, closeEntry(open))).toBe(false);
    await finalOf(side, info.agreement);
    await finalOf(otherSide, info.agreement);
    await eventually(
      () => statedBy(party, info.agreement),
      (stated) => stated.length === requests.length + 1,
    );
    const stated = await statedBy(party, info.agreement);
    expect(stated.map(({ n }) => n)).toEqual(stated.map((_, index) => String(index + 1)));
    expect(new Set(stated.map(({ request }) => request))).toEqual(new Set([...requests, open.request]));
    const theirs = await eventually(
      () => statedBy(other, info.agreement),
      (found) => found.length === stated.length,
    );
    expect(theirs).toEqual(stated);
    expect(await one.metering.usage.list(us)).toEqual(await two.metering.usage.list(us));
  });

  test('the one that writes the statements stops, and another goes on', async () => {
    await using its = await world(role);
    const { party, other, otherSide, info } = its;
    const one = await party.start();
    await using two = await party.start();
    await one.metering.agreementInForce(info);
    const first = await accesses(info.agreement, inOrder(sideOf(party, [one, two]), otherSide), 6);
    await one[Symbol.asyncDispose]();
    two.serve();
    const side = sideOf(party, [two]);
    const second = await accesses(info.agreement, inOrder(side, otherSide), 6);
    await using three = await party.start(one.files);
    const third = await accesses(info.agreement, inOrder(sideOf(party, [two, three]), otherSide), 6);
    await three.metering.agreementEnded(us, info.agreement);
    await other.metering.agreementEnded(us, info.agreement);
    await finalOf(side, info.agreement);
    const stated = await eventually(
      () => statedBy(party, info.agreement),
      (found) => found.length === 18,
    );
    expect(new Set(stated.map(({ request }) => request))).toEqual(new Set([...first, ...second, ...third]));
  });

  test('whoever takes the books over knows what is out', async () => {
    await using its = await world(role, { busyAfterMs: 4 * leaseMs }); // from the first moment on, not after a look
    const { party, other, otherSide, info } = its;
    const one = await party.start();
    await using two = await party.start();
    await one.metering.agreementInForce(info);
    const side = sideOf(party, [two]);
    const open = openEntry(info.agreement);
    for (const { meters } of inOrder(side, otherSide)) expect(await openOn(meters[0] as BlockMeter, open)).toBe(null);
    if (role === 'provider') await two.metering.agreementEnded(us, info.agreement);
    await one[Symbol.asyncDispose]();
    two.serve();
    await systemClock.sleep(leaseMs * 2); // it has them by now
    for (const { meters } of inOrder(side, otherSide))
      expect(await closeOn(meters[0] as BlockMeter, closeEntry(open))).toBe(false);
    await two.metering.agreementEnded(us, info.agreement);
    await other.metering.agreementEnded(us, info.agreement);
    await finalOf(side, info.agreement);
    const stated = await eventually(
      () => statedBy(party, info.agreement),
      (found) => found.length > 0,
    );
    expect(stated).toEqual([{ n: '1', request: open.request }]);
  });

  test('whoever lost the lease signs nothing', async () => {
    let isHeld = false;
    await using its = await world(role, { isHeld: () => isHeld });
    const { party, other, otherSide, info } = its;
    await using one = await party.start();
    await one.metering.agreementInForce(info);
    const side = sideOf(party, [one]);
    await accesses(info.agreement, inOrder(side, otherSide), 4);
    const { drafts, statements } = role === 'provider' ? other.options : party.options;
    const key = { participant: us, role: 'consumer' as const, agreement: info.agreement };
    await eventually(
      () => drafts.list(key),
      (accepted) => accepted.length > 0,
    );
    await systemClock.sleep(100); // it would be signed by now
    expect(await party.options.statements.find({ ...key, role }, 'newest')).toBeUndefined();
    expect(await party.signed()).not.toContain(info.agreement);
    isHeld = true;
    await eventually(
      () => statements.find(key, 'newest'),
      (found) => found?.state === 'complete',
    );
  });

  test('no word arrives: everything is found all the same', { timeout: 60_000 }, async () => {
    const deaf = { ...createWakeups(silentLogger), notify: () => undefined };
    await using its = await world(role, { wakeups: deaf });
    const { party, other, otherSide, info } = its;
    await using one = await party.start();
    await using two = await party.start();
    await two.metering.agreementInForce(info);
    const side = sideOf(party, [one, two]);
    const requests = await accesses(info.agreement, inOrder(side, otherSide), 10);
    await two.metering.agreementEnded(us, info.agreement);
    await other.metering.agreementEnded(us, info.agreement);
    const stated = await patiently(
      () => statedBy(party, info.agreement),
      (found) => found.length === requests.length,
    );
    expect(new Set(stated.map(({ request }) => request))).toEqual(new Set(requests));
  });
});
