import { systemClock } from '../../kernel/clock.ts';

/** Longer than the minute for which EDC now and then holds a process that it has lost hold of. */
const patienceMs = 90_000;
const pauseMs = 20;

/** Looks until there is something to see. @throws when there is nothing in time. */
export const until = async <Value>(
  what: string,
  look: () => Promise<Value | undefined> | Value | undefined,
  ms = patienceMs,
): Promise<Value> => {
  const end = performance.now() + ms;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (performance.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
    await systemClock.sleep(pauseMs);
  }
};

/** Fails unless this holds. */
export const demand = (holds: boolean, what: string): void => {
  if (!holds) throw new Error(what);
};

/** Fails unless both are the same, as JSON. */
export const same = (found: unknown, expected: unknown, what: string): void =>
  demand(
    JSON.stringify(found) === JSON.stringify(expected),
    `${what}: ${JSON.stringify(found)} is not ${JSON.stringify(expected)}`,
  );
