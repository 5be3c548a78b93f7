import { hash } from 'node:crypto';
import type { Clock } from '../../../kernel/clock.ts';
import { type LocalRateLimits, takeOne } from '../../../kernel/rate-limits.ts';

/**
 * Rate limits for all threads of a process, in shared memory: for each key the time at which all that was taken is used up
 * again, changed in one step. Keys are 64 bits of a hash; when the table is full, those that find
 * no place share one, which can only make somebody wait.
 */

const slots = 65_536;
const longestProbe = 64;
/** Of a millisecond. */
const precision = 1_000;

/** Keys, then times. */
export const createLimitMemory = (): SharedArrayBuffer => new SharedArrayBuffer(2 * slots * 8);

/** The limits over shared memory: one for each thread. */
export const createSharedLimits = (memory: SharedArrayBuffer, clock: Clock): LocalRateLimits => {
  const keys = new BigInt64Array(memory, 0, slots);
  const times = new BigInt64Array(memory, slots * 8, slots);

  const slotOf = (name: string): number => {
    const bytes = hash('sha256', name, 'buffer');
    const first = bytes.readBigInt64BE(0);
    const key = first === 0n ? 1n : first;
    const start = bytes.readUInt32BE(8);
    for (let probe = 0; probe < longestProbe; probe += 1) {
      const slot = (start + probe) & (slots - 1);
      const before = Atomics.compareExchange(keys, slot, 0n, key);
      if (before === 0n || before === key) return slot;
    }
    return start & (slots - 1);
  };
  return {
    take: (name, limit) => {
      const slot = slotOf(name);
      for (;;) {
        const before = Atomics.load(times, slot);
        const { wait, after } = takeOne(Number(before) / precision, clock.now(), limit);
        if (after === undefined) return wait;
        if (Atomics.compareExchange(times, slot, before, BigInt(Math.round(after * precision))) === before) return wait;
      }
    },
  };
};
