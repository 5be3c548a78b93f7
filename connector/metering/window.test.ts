import { describe, expect, test } from 'vitest';
import { rainPlan } from '../../test/support/meter-pair.ts';
import { unknownHave } from './counts.pure.ts';
import { dueCut, inOrder, nextTry, pauseBefore } from './cut.pure.ts';
import type { HeldRecord, StatedRow } from './ports.ts';
import { fateOf, never } from './redraft.pure.ts';
import {
  concededBeyond,
  costOf,
  defaultQuota,
  defaultWindow,
  fits,
  isHalfFull,
  isTooOld,
  minus,
  nothing,
  plus,
  ratesOf,
  reservation,
  times,
} from './window.pure.ts';

const limits = { requests: 10, bytes: 1_000, cost: 1, ageMs: 60_000 };
const load = (requests: number, bytes = 0, cost = 0) => ({ requests, bytes, cost });

describe('exposure window', () => {
  test('has the defaults on which implementations agree', () => {
    expect(defaultWindow).toEqual({ requests: 100_000, bytes: 17_179_869_184, cost: 50, ageMs: 900_000 });
    expect(defaultQuota).toEqual({ requests: 1_000, bytes: 1_073_741_824 });
  });

  test('costs in whole units of the currency, never less than what will be owed', () => {
    const rates = ratesOf(rainPlan);
    expect(costOf(rates, { requests: '3', bytes: '7' })).toBeCloseTo(0.0075, 6);
    expect(costOf(rates, { items: '3' })).toBe(0);
    expect(ratesOf(null)).toEqual({});
    expect(reservation(rates, 1, 1_000_000)).toEqual(load(1, 1_000_000, 0.0025 + 0.001));
    expect(reservation({}, 2, 5)).toEqual(load(0, 5));
  });

  test.each([
    ['requests', load(10), load(1)],
    ['bytes', load(0, 600), load(1, 401)],
    ['money', load(0, 0, 0.6), load(1, 1, 0.5)],
  ])('is closed when one measure is used up: %s', (_name, exposed, more) => {
    expect(fits(exposed, more, limits)).toBe(false);
    expect(fits(nothing, more, limits)).toBe(true);
    expect(fits(exposed, more, times(limits, 4))).toBe(true);
  });

  test('is closed when the oldest access waits for too long', () => {
    expect(isTooOld(null, 1_000_000, limits)).toBe(false);
    expect(isTooOld(0, 60_000, limits)).toBe(false);
    expect(isTooOld(0, 60_001, limits)).toBe(true);
  });

  test.each([
    ['requests', load(5), null],
    ['bytes', load(0, 500), null],
    ['money', load(0, 0, 0.51), null],
    ['age', nothing, 0],
  ])('is half full in one measure: %s', (_name, exposed, oldestAt) => {
    expect(isHalfFull(exposed, oldestAt, 30_001, limits)).toBe(true);
    expect(isHalfFull(load(4, 499, 0.5), 1, 30_001, limits)).toBe(false);
  });

  test('one per cent of what was co-signed is forgiven, and no more', () => {
    expect(concededBeyond(load(3, 30, 0.3), load(200, 2_000, 20))).toEqual(load(1, 10, 0.3 - 0.2));
    expect(concededBeyond(load(1, 10, 0.1), load(200, 2_000, 20))).toEqual(nothing);
    expect(minus(plus(load(1, 2, 3), load(4, 5, 6)), load(4, 5, 6))).toEqual(load(1, 2, 3));
  });
});

describe('the end of an interval', () => {
  const facts = {
    now: 1_000_000,
    lastTo: 999_000,
    intervalMs: 300_000,
    closed: 1,
    open: 0,
    exposed: load(1),
    oldestAt: 999_500,
    limits,
    isAsked: false,
    isEnded: false,
  };
  test.each([
    ['nothing is due yet', {}, 'none'],
    ['time', { lastTo: 700_000 }, 'interval'],
    ['time, but nothing to state', { lastTo: 700_000, closed: 0 }, 'none'],
    ['half of the window', { exposed: load(5) }, 'interval'],
    ['20,000 records', { closed: 20_000 }, 'interval'],
    ['the consumer asks', { isAsked: true }, 'interval'],
    ['the consumer asks, but nothing to state', { isAsked: true, closed: 0 }, 'none'],
    ['a clock that jumped back', { lastTo: 1_000_001 }, 'interval'],
    ['the agreement ends', { isEnded: true }, 'final'],
    ['the agreement ends with nothing to state', { isEnded: true, closed: 0 }, 'final'],
    ['the agreement ends while an access is open', { isEnded: true, open: 1 }, 'interval'],
    ['the agreement ends with nothing closed while an access is open', { isEnded: true, open: 1, closed: 0 }, 'none'],
    ['the agreement ends with more than an interval holds', { isEnded: true, closed: 20_001 }, 'interval'],
  ])('%s', (_name, changes, expected) => {
    expect(dueCut({ ...facts, ...changes })).toBe(expected);
  });

  test('records get their numbers in the order in which they closed, at most 20,000', () => {
    const items = Array.from({ length: 20_003 }, (_, index) => ({ closePlace: (index * 7_919) % 20_011 }));
    const chosen = inOrder(items).map(({ closePlace }) => closePlace);
    expect(chosen).toHaveLength(20_000);
    expect(chosen).toEqual(chosen.toSorted((a, b) => a - b));
  });

  test('retransmission starts at 1 s and doubles to 60 s', () => {
    const pace = { firstMs: 1_000, longestMs: 60_000 };
    expect([0, 1, 2, 5, 6, 1_000].map((attempt) => pauseBefore(attempt, pace))).toEqual([
      1_000, 2_000, 4_000, 32_000, 60_000, 60_000,
    ]);
    expect([nextTry(3, 1), nextTry(3, 2), nextTry(3, 100)]).toEqual([5, 7, 3 + 2 ** 16]);
  });
});

describe('a refused row', () => {
  const own = { ...unknownHave, outcome: 'ok', status: '404' } as const;
  const row = { request: 'r', part: '1', outcome: 'ok', refusals: 0 } as unknown as StatedRow;
  const refused = { request: 'r', part: '1', have: null };
  const before: HeldRecord = { request: 'r', part: 1, claim: null, holds: 1, retryAt: 4, isWrittenOff: false };

  test('stays as it is while nobody refuses it', () => {
    expect(fateOf({ row, refused: undefined, own, before: undefined, seq: 2 })).toEqual({ kind: 'keep' });
  });

  test('is resolved by rule, or tried once more', () => {
    const facts = { row, own, before: undefined, seq: 2 };
    expect(fateOf({ ...facts, refused })).toEqual({ kind: 'change', to: own, refusals: 1 });
    expect(fateOf({ ...facts, refused: { ...refused, have: unknownHave } })).toEqual({
      kind: 'change',
      to: unknownHave,
      refusals: 1,
    });
  });

  test('is held over after two rounds, each time for twice as long', () => {
    const again = { ...row, refusals: 1 };
    const held = { request: 'r', part: 1, claim: null, isWrittenOff: false };
    expect(fateOf({ row: again, refused, own, before: undefined, seq: 2 })).toEqual({
      kind: 'hold',
      held: { ...held, holds: 1, retryAt: 4 },
    });
    expect(fateOf({ row: again, refused, own, before, seq: 4 })).toEqual({
      kind: 'hold',
      held: { ...held, holds: 2, retryAt: 8 },
    });
  });

  test('stays out of the statement when it is refused even as disputed', () => {
    const disputed = { ...row, outcome: 'disputed' } as StatedRow;
    expect(fateOf({ row: disputed, refused, own, before, seq: 4 })).toEqual({
      kind: 'leave',
      held: { ...before, holds: 2, retryAt: never },
    });
  });
});
