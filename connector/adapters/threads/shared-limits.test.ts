import { describe, expect, test } from 'vitest';
import { type Clock, manualClock } from '../../../kernel/clock.ts';
import { createRateLimits } from '../../../kernel/rate-limits.ts';
import { createLimitMemory, createSharedLimits } from './shared-limits.ts';

describe('rate limits in shared memory', () => {
  test('a burst, then one after the other, whichever thread is asked', () => {
    const clock = manualClock(1_795_000_000_000);
    const memory = createLimitMemory();
    const views = [createSharedLimits(memory, clock), createSharedLimits(memory, clock)] as const;
    const limit = { perMinute: 60, burst: 10 };
    const take = (count: number, key = 'a') => views[count % 2 === 0 ? 0 : 1].take(key, limit);
    for (let count = 0; count < 10; count += 1) expect(take(count)).toBe(0);
    for (let count = 0; count < 4; count += 1) expect(take(count)).toBe(1_000);
    expect(take(1, 'b')).toBe(0);
    clock.advance(1_000);
    expect([take(0), take(1)]).toEqual([0, 1_000]);
  });

  test.each([
    ['of all threads', (clock: Clock) => createSharedLimits(createLimitMemory(), clock)],
    ['of one process', createRateLimits],
  ] as const)('a clock that was set back keeps nobody out for longer than a burst takes: %s', (_whose, create) => {
    const clock = manualClock(1_795_000_000_000);
    const limits = create(clock);
    const limit = { perMinute: 60, burst: 2 };
    expect([limits.take('a', limit), limits.take('a', limit)]).toEqual([0, 0]);
    clock.advance(-3_600_000);
    expect(limits.take('a', limit)).toBeLessThanOrEqual(1_000);
    clock.advance(2_000);
    expect(limits.take('a', limit)).toBe(0);
  });

  test('more keys than there is room for still have limits', () => {
    const limits = createSharedLimits(createLimitMemory(), manualClock(1_795_000_000_000));
    const limit = { perMinute: 60, burst: 2 };
    for (let count = 0; count < 70_000; count += 1) limits.take(`${count}`, limit);
    const waits = Array.from({ length: 4 }, () => limits.take('late', limit));
    expect(waits.at(-1)).toBeGreaterThan(0);
  });
});
