import type { Clock } from '../../kernel/clock.ts';
import type { CatalogStore, Visibility } from './ports.ts';

/**
 * Offers whose policies name a time: whom they are shown to changes without anybody doing anything. Each is looked at again
 * when its time has come, and what that changed is told to whoever follows the catalog.
 */

export interface TurningOptions {
  readonly store: CatalogStore;
  readonly visibility: Visibility;
  readonly clock: Pick<Clock, 'now'>;
}

export interface Turning {
  /** Looks at offers that are due, at most so many; how many there were. Several programs may do it at once. */
  readonly turn: (limit: number) => Promise<number>;
}

export const createTurning = ({ store, visibility, clock }: TurningOptions): Turning => ({
  turn: async (limit) => {
    const now = clock.now();
    const due = await store.read.due(now, limit);
    for (const one of due) await store.turn(one, visibility.showing(one.offer.rules, now), now);
    return due.length;
  },
});
