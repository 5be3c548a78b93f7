import { uuidV7Time } from '../../contracts/ids.ts';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';

/**
 * Requests that were opened of late, so that none is opened twice (ledger §7). Ids are UUIDv7 of within a minute; older ones
 * are refused by their own time, so two generations are enough and nothing grows with time.
 */

export interface RecentRequest {
  readonly agreement: string;
  readonly request: string;
  readonly at: number;
}

interface Entry {
  readonly at: number;
  /** The highest part that was opened. */
  readonly part: number;
}

type Generation = Map<string, Map<string, Entry>>;

export interface RecentRequests {
  readonly remember: (entry: RecentRequest & { readonly part: number }, now: number) => void;
  /** The highest part that was opened, 0 when none is remembered. */
  readonly highestPart: (agreement: string, request: string) => number;
  /** Opened at or behind `since`. */
  readonly list: (since: number) => readonly RecentRequest[];
}

export const createRecentRequests = (generationMs: number): RecentRequests => {
  let current: Generation = new Map();
  let previous: Generation = new Map();
  let startedAt = Number.NEGATIVE_INFINITY;

  const rotate = (now: number): void => {
    if (Math.abs(now - startedAt) < generationMs) return; // a clock that jumps back rotates too, once
    previous = current;
    current = new Map();
    startedAt = now;
  };
  const find = (agreement: string, request: string): Entry | undefined =>
    current.get(agreement)?.get(request) ?? previous.get(agreement)?.get(request);

  return {
    remember: ({ agreement, request, part, at }, now) => {
      rotate(now);
      const first = find(agreement, request)?.at ?? at;
      const own = current.get(agreement) ?? new Map<string, Entry>();
      own.set(request, { at: first, part });
      current.set(agreement, own);
    },
    highestPart: (agreement, request) => find(agreement, request)?.part ?? 0,
    list: (since) =>
      [previous, current].flatMap((generation) =>
        [...generation].flatMap(([agreement, requests]) =>
          [...requests].flatMap(([request, { at }]) => (at >= since ? [{ agreement, request, at }] : [])),
        ),
      ),
  };
};

/** wire §9: ± 60 s, with room for the time between the check of the proof and here. */
const idToleranceMs = 85_000;
/** Longer than an id can be good twice: tolerance on both sides. */
export const generationMs = 180_000;

/** Whether an entry may not be opened: its part was, or the one before it was not, or its id is not of now. */
export const isRepeat = (
  recent: Pick<RecentRequests, 'highestPart'>,
  { agreement, request, part }: UsageOpen,
  its: { readonly now: number; readonly isRunning: (part: number) => boolean },
): boolean => {
  if (its.isRunning(part)) return true;
  const highest = recent.highestPart(agreement, request);
  if (part > 1) return highest >= part || (highest !== part - 1 && !its.isRunning(part - 1));
  return highest > 0 || Math.abs(uuidV7Time(request) - its.now) > idToleranceMs;
};

/** When each segment of late began: what was opened of late must be read again at the next start. */
export interface LateSegments {
  readonly note: (segment: number, now: number) => void;
  /** The oldest segment in which a request may have been opened that could come again. */
  readonly oldest: (now: number) => number;
}

export const createLateSegments = (): LateSegments => {
  let begun: readonly { readonly segment: number; readonly at: number }[] = [];
  return {
    note: (segment, now) => {
      if (begun.at(-1)?.segment !== segment) begun = [...begun, { segment, at: now }];
    },
    oldest: (now) => {
      const keep = begun.findLastIndex(({ at }) => at <= now - 2 * generationMs);
      begun = begun.slice(Math.max(0, keep));
      return begun[0]?.segment ?? 0;
    },
  };
};
