import type { ParticipantId } from '../../contracts/ids.ts';
import type { ProcessEventNotice } from '../exchange/ports.ts';

/**
 * Changes of processes, for those who watch: the operator's event stream, and whoever waits for an outcome. Kept in
 * memory and bounded; what it forgot is to be had from the lists.
 */

/** One change with its place in the feed: `<run>-<n>`, so that a place of an earlier run is known as such. */
export interface FeedEvent {
  readonly id: string;
  readonly notice: ProcessEventNotice;
}

export interface ProcessFeed {
  readonly publish: (notice: ProcessEventNotice) => void;
  /** There may be changes that were not told here: whoever comes back is sent to the lists. */
  readonly missed: () => void;
  /** Where the feed is now. */
  readonly place: () => string;
  /** Events of a participant behind `id`; `isComplete` is false when some of them are no longer known. */
  readonly since: (
    participant: ParticipantId,
    id: string,
  ) => { readonly events: readonly FeedEvent[]; readonly isComplete: boolean };
  /** Calls back at once for each later event; returns how to stop. */
  readonly subscribe: (participant: ParticipantId, listener: (event: FeedEvent) => void) => () => void;
}

const capacity = 10_000;

/** `run` names this start of the program. */
export const createProcessFeed = (run: string): ProcessFeed => {
  const events: { readonly n: number; readonly event: FeedEvent }[] = [];
  const listeners = new Map<(event: FeedEvent) => void, ParticipantId>();
  let last = 0;
  const numberOf = (id: string): number | undefined => {
    const n = id.startsWith(`${run}-`) ? Number(id.slice(run.length + 1)) : Number.NaN;
    return Number.isSafeInteger(n) && n >= 0 && n <= last ? n : undefined;
  };
  return {
    publish: (notice) => {
      last += 1;
      const event = { id: `${run}-${last}`, notice };
      events.push({ n: last, event });
      if (events.length > capacity) events.splice(0, capacity / 10);
      for (const [listener, participant] of listeners) if (participant === notice.participant) listener(event);
    },
    missed: () => {
      last += 1;
      events.length = 0;
    },
    place: () => `${run}-${last}`,
    since: (participant, id) => {
      const after = numberOf(id);
      const oldest = events[0]?.n ?? last + 1;
      const behind = events.filter(({ n, event }) => n > (after ?? 0) && event.notice.participant === participant);
      return { events: behind.map(({ event }) => event), isComplete: after !== undefined && after >= oldest - 1 };
    },
    subscribe: (participant, listener) => {
      listeners.set(listener, participant);
      return () => void listeners.delete(listener);
    },
  };
};
