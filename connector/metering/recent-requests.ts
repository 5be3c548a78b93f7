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
