import { maxIntervalRecords } from '../../contracts/ledger/draft.ts';
import type { Load } from './ports.ts';
import { isHalfFull, type Limits } from './window.pure.ts';

/** When an interval ends, and what stands in it (ledger §8; wire §9). */

export interface CutFacts {
  readonly now: number;
  /** When the last interval ended. */
  readonly lastTo: number;
  readonly intervalMs: number;
  /** Closed accesses that wait to be stated, and those that are still open. */
  readonly closed: number;
  readonly open: number;
  readonly exposed: Load;
  readonly oldestAt: number | null;
  readonly limits: Limits;
  readonly isAsked: boolean;
  readonly isEnded: boolean;
}

export type Cut = 'interval' | 'final' | 'none';

/** An interval without records makes no statement, the final one apart; that one waits for the last access to end. */
export const dueCut = (facts: CutFacts): Cut => {
  if (facts.isEnded && facts.open === 0 && facts.closed <= maxIntervalRecords) return 'final';
  if (facts.closed === 0) return 'none';
  const isDue =
    facts.isAsked ||
    facts.isEnded ||
    facts.closed >= maxIntervalRecords ||
    facts.now - facts.lastTo >= facts.intervalMs ||
    facts.now < facts.lastTo || // a clock that jumped back: waiting for it would hold the window closed
    isHalfFull(facts.exposed, facts.oldestAt, facts.now, facts.limits);
  return isDue ? 'interval' : 'none';
};

/** The order of numbers is the order in which accesses closed in the journal. */
export const inOrder = <Item extends { readonly closePlace: number }>(items: readonly Item[]): Item[] =>
  items.toSorted((a, b) => a.closePlace - b.closePlace).slice(0, maxIntervalRecords);

/** A record that is held over again waits twice as many statements as the last time. */
export const nextTry = (seq: number, holds: number): number => seq + 2 ** Math.min(holds, 16);

/** How long to wait before the same bytes are sent again: 1 s, doubling to 60 s (wire §9). */
export const pauseBefore = (attempt: number, pace: { readonly firstMs: number; readonly longestMs: number }): number =>
  Math.min(pace.firstMs * 2 ** Math.min(attempt, 20), pace.longestMs);
