import { hash } from 'node:crypto';
import type { Clock } from '../../../kernel/clock.ts';
import type { LocalRateLimits } from '../../../kernel/rate-limits.ts';

/**
 * Rate limits for all threads of a process, in shared memory: for each key the time at which all that was taken is used up
 * again (generic cell rate algorithm), changed in one step. Keys are 64 bits of a hash; when the table is full, those that find
 * no place share one, which can only make somebody wait.
 */

const slots = 65_536;
const longestProbe = 64;
/** Of a millisecond. */
const precision = 1_000;

/** Keys, then times. */
export const createLimitMemory = (): SharedArrayBuffer => new SharedArrayBuffer(2 * slots * 8);

/** How long to wait, and when all is used up then; undefined when that stays as it is. */
const judge = (
  usedUpAt: number,
  now: number,
  { eachMs, burst }: { readonly eachMs: number; readonly burst: number },
) => {
  const ahead = Math.max(usedUpAt - now, 0);
  // A clock that was set back must not keep anybody out for longer than a whole burst takes.
  const taken = Math.min(ahead, burst * eachMs);
  const wait = taken - (burst - 1) * eachMs;
  if (wait <= 0.001) return { wait: 0, after: now + taken + eachMs };
  return { wait: Math.ceil(wait), after: taken === ahead ? undefined : now + taken };
};

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
    take: (name, { perMinute, burst }) => {
      const slot = slotOf(name);
      const eachMs = 60_000 / perMinute;
      for (;;) {
        const before = Atomics.load(times, slot);
        const { wait, after } = judge(Number(before) / precision, clock.now(), { eachMs, burst });
        if (after === undefined) return wait;
        if (Atomics.compareExchange(times, slot, before, BigInt(Math.round(after * precision))) === before) return wait;
      }
    },
  };
};
