import { AppError } from '../contracts/errors.ts';
import type { Clock } from './clock.ts';

/** How often somebody may do something: so many in a minute, and so many of them at once. */
export interface Limit {
  readonly perMinute: number;
  /** How many may come together, after a pause. */
  readonly burst: number;
}

export interface RateLimits {
  /**
   * Takes one for the key. The answer is how long to wait, ms, when there is none; 0 when it was taken. A limiter that
   * cannot reach the others goes on alone; the promise is never rejected.
   */
  readonly take: (key: string, limit: Limit) => number | Promise<number>;
}

/** So many in a minute, of which those of ten seconds may come at once. */
export const limitOf = (perMinute: number): Limit => ({ perMinute, burst: Math.max(1, Math.ceil(perMinute / 6)) });

const maxKeys = 100_000;

/** A map that forgets what came in first when it is full: whoever brings many names must not keep the others out. */
export const createBoundedMap = <Value>(capacity = maxKeys) => {
  const entries = new Map<string, Value>();
  return {
    get: (key: string): Value | undefined => entries.get(key),
    set: (key: string, value: Value): void => {
      if (entries.size >= capacity && !entries.has(key)) {
        const [oldest] = entries.keys();
        if (oldest !== undefined) entries.delete(oldest);
      }
      entries.set(key, value);
    },
  };
};

export interface LocalRateLimits extends RateLimits {
  readonly take: (key: string, limit: Limit) => number;
}

/**
 * Takes one, by the time at which all that was taken is used up again (generic cell rate algorithm): how long to wait, ms,
 * and that time afterwards, undefined when it stays as it is.
 */
export const takeOne = (
  usedUpAt: number,
  now: number,
  { perMinute, burst }: Limit,
): { readonly wait: number; readonly after: number | undefined } => {
  const eachMs = 60_000 / perMinute;
  const ahead = Math.max(usedUpAt - now, 0);
  // A clock that was set back must not keep anybody out for longer than a whole burst takes.
  const taken = Math.min(ahead, burst * eachMs);
  const wait = taken - (burst - 1) * eachMs;
  if (wait <= 0.001) return { wait: 0, after: now + taken + eachMs };
  return { wait: Math.ceil(wait), after: taken === ahead ? undefined : now + taken };
};

/** The limits of one process: one number for each key. */
export const createRateLimits = (clock: Clock, capacity = maxKeys): LocalRateLimits => {
  const usedUpAt = createBoundedMap<number>(capacity);
  return {
    take: (key, limit) => {
      const { wait, after } = takeOne(usedUpAt.get(key) ?? 0, clock.now(), limit);
      if (after !== undefined) usedUpAt.set(key, after);
      return wait;
    },
  };
};

/** Of one participant: how often one counterparty may come, and how often all of them together. */
export interface PeerLimits {
  readonly peer: Limit;
  readonly all: Limit;
}

/** So many in a minute, and all of them at once. */
export const wholeMinuteOf = (perMinute: number): Limit => ({ perMinute, burst: perMinute });

/** Both in a minute. */
export const peerLimitsOf = (peer: number, all: number): PeerLimits => ({ peer: limitOf(peer), all: limitOf(all) });

/** How long a counterparty of a participant must wait, ms; 0: one was taken. */
export type PeerRate = (participant: string, peer: string) => number | Promise<number>;

/** First the counterparty's own, then the participant's: whoever is refused takes nothing from the others. */
export const createPeerRate =
  (limits: RateLimits, what: string, { peer: one, all }: PeerLimits): PeerRate =>
  (participant, peer) => {
    const takeOfAll = () => limits.take(`${what} ${participant}`, all);
    const wait = limits.take(`${what} ${participant} ${peer}`, one);
    if (wait instanceof Promise) return wait.then((ms) => (ms > 0 ? ms : takeOfAll()));
    return wait > 0 ? wait : takeOfAll();
  };

/** The refusal of whoever must wait so many ms; undefined when nobody must. */
export const rateFault = (waitMs: number): AppError | undefined =>
  waitMs > 0 ? new AppError('too-many-requests', { retryAfterSeconds: Math.ceil(waitMs / 1_000) }) : undefined;
