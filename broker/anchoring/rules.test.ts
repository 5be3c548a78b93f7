import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ContractHead } from './ports.ts';
import { anchorPace, firstFee, type HeadFacts, judgeHead, nextFee, nextNonce } from './rules.ts';

const hash = (byte: number) => `0x${byte.toString(16).padStart(2, '0').repeat(32)}`;
const us = `0x${'01'.repeat(20)}`;
const nobody = `0x${'00'.repeat(20)}`;
const empty: ContractHead = { size: 0, root: hash(0), blockNumber: 0, closed: false, owner: us };
const at = (size: number, changes: Partial<ContractHead> = {}): ContractHead => ({
  ...empty,
  size,
  root: hash(size),
  blockNumber: 12,
  ...changes,
});

/** A checkpoint of size 5 on its way; our root at a size is that size, 32 times. */
const judge = (head: ContractHead, changes: Partial<HeadFacts> = {}) =>
  judgeHead({
    head,
    row: { size: 5, root: hash(5), sender: us },
    ourRoot: head.size === 0 ? undefined : hash(head.size),
    lastFinal: undefined,
    finalBlock: 100,
    ...changes,
  });

describe('the head of the contract', () => {
  test('the first anchor follows nothing, a later one the root that we signed', () => {
    expect(judge(empty)).toEqual({ kind: 'go', previousRoot: hash(0) });
    expect(judge(at(4))).toEqual({ kind: 'go', previousRoot: hash(4) });
  });

  test('the same size and root is success, whoever sent it', () => {
    expect(judge(at(5))).toEqual({ kind: 'anchored' });
    expect(judge(at(5, { closed: true, owner: nobody }))).toEqual({ kind: 'anchored' });
  });

  test('a larger size of ours takes its place', () => {
    expect(judge(at(9))).toEqual({ kind: 'superseded', reason: 'size 9 is anchored' });
  });

  test.each([
    ['smaller', 4],
    ['equal', 5],
    ['larger', 9],
  ])('a root that is not ours at a %s size stops everything', (_what, size) => {
    for (const ourRoot of [hash(77), undefined])
      expect(judge(at(size, { root: hash(88) }), { ourRoot })).toMatchObject({ kind: 'forbidden' });
  });

  test('a closed log stops; a foreign or absent owner waits', () => {
    expect(judge(at(4, { closed: true }))).toMatchObject({ kind: 'forbidden' });
    expect(judge(at(4, { owner: hash(2).slice(0, 42) }))).toMatchObject({ kind: 'wait' });
    expect(judge({ ...empty, owner: nobody })).toEqual({
      kind: 'wait',
      reason: 'the log belongs to nobody: it is not registered',
    });
  });

  test('a final anchor that is gone stops everything, unless the node is only behind', () => {
    const lastFinal = { size: 3, blockNumber: 50 };
    expect(judge(empty, { lastFinal, finalBlock: 50 })).toMatchObject({ kind: 'forbidden' });
    expect(judge(empty, { lastFinal, finalBlock: 49 })).toMatchObject({ kind: 'wait' });
    expect(judge(at(3), { lastFinal, finalBlock: 49 })).toMatchObject({ kind: 'go' });
  });
});

const gwei = 1_000_000_000n;
const wei = fc.bigInt({ min: 1n, max: 10_000n * gwei });

describe('fees', () => {
  test('no fee is ever above the ceiling, and each covers the tip', () => {
    let taken = 0;
    fc.assert(
      fc.property(wei, wei, wei, wei, (baseFee, ceiling, tip, last) => {
        const facts = { baseFee, ceiling, leastTip: tip };
        const first = firstFee(facts);
        const next = nextFee({ maxFee: String(last), tip: String(tip) }, { baseFee, ceiling });
        for (const fee of [first, next]) {
          if (fee === undefined) continue;
          taken += 1;
          expect(BigInt(fee.maxFee)).toBeLessThanOrEqual(ceiling);
          expect(BigInt(fee.maxFee)).toBeGreaterThanOrEqual(BigInt(fee.tip));
        }
      }),
      { numRuns: 1_000 },
    );
    expect(taken).toBeGreaterThan(100);
  });

  test('a first fee leaves room for the base fee to double, and there is none above the ceiling', () => {
    expect(firstFee({ baseFee: 10n * gwei, ceiling: 100n * gwei, leastTip: 1n })?.maxFee).toBe(String(21n * gwei));
    expect(firstFee({ baseFee: 90n * gwei, ceiling: 100n * gwei, leastTip: 1n })?.maxFee).toBe(String(100n * gwei));
    expect(firstFee({ baseFee: 99n * gwei, ceiling: 100n * gwei, leastTip: 1n })).toBeUndefined();
  });

  test('a raised fee is at least a tenth higher in both parts, as nodes demand', () => {
    let raisedOnes = 0;
    fc.assert(
      fc.property(wei, wei, wei, wei, (baseFee, ceiling, tip, extra) => {
        const last = { maxFee: String(tip + extra), tip: String(tip) };
        const next = nextFee(last, { baseFee, ceiling });
        if (next === undefined) return;
        raisedOnes += 1;
        expect(BigInt(next.maxFee) * 10n).toBeGreaterThanOrEqual(BigInt(last.maxFee) * 11n);
        expect(BigInt(next.tip) * 10n).toBeGreaterThanOrEqual(BigInt(last.tip) * 11n);
      }),
      { numRuns: 1_000 },
    );
    expect(raisedOnes).toBeGreaterThan(20); // some 130 of them
  });

  test('where the ceiling leaves no room, nothing is raised', () => {
    const last = { maxFee: String(95n * gwei), tip: String(gwei) };
    expect(nextFee(last, { baseFee: gwei, ceiling: 100n * gwei })).toBeUndefined();
    expect(nextFee({ ...last, maxFee: String(3n * gwei) }, { baseFee: 200n * gwei, ceiling: 100n * gwei })).toBe(
      undefined,
    );
  });
});

describe('nonces', () => {
  test('the next one is behind the chain and behind all that may still come', () => {
    const nonce = (value: number) => ({ call: { size: 1, root: '', previousRoot: '', gas: 1, nonce: value } });
    expect(nextNonce(7, [])).toBe(7);
    expect(nextNonce(7, [nonce(6), { call: null }])).toBe(7);
    expect(nextNonce(7, [nonce(8), nonce(7)])).toBe(9);
  });
});

describe('pace', () => {
  test('once a block at most, and an alarm after three turns or an hour', () => {
    const seconds = (value: number) => anchorPace(value * 1_000);
    expect(seconds(3_600)).toEqual({ intervalMs: 3_600_000, pollMs: 12_000, alarmMs: 10_800_000, stuckMs: 180_000 });
    expect(seconds(1)).toEqual({ intervalMs: 1_000, pollMs: 250, alarmMs: 3_600_000, stuckMs: 180_000 });
    expect(seconds(20)).toMatchObject({ pollMs: 5_000 });
  });
});
