import type { Clock } from '../../../kernel/clock.ts';

/**
 * Processes that were saved last, for a database that this process has alone: a message is read and decided on several
 * times before the next one comes. Only what was saved here is kept, and nothing while a change is under way, so that
 * nobody sees less than the rows say.
 */
export interface ProcessCache<Row> {
  readonly find: (participant: string, pid: string) => Row | undefined;
  /** Runs a change of one process; gives back what stands in the rows when the change was made, undefined when it was not. */
  readonly changing: <Result>(
    row: { readonly participant: string; readonly pid: string },
    save: () => Promise<Result>,
    isSaved: (result: Result) => Row | undefined,
  ) => Promise<Result>;
}

/** Between two messages of a process; what is over is forgotten here before it may be forgotten in the rows. */
const keptMs = 60_000;
/** Negotiations and transfers under way at once; an agreement with its signatures takes some ten kilobytes. */
const maxKept = 500;

/** For a database that other processes change, too: nothing is kept. */
export const noCache = <Row>(): ProcessCache<Row> => ({ find: () => undefined, changing: (_row, save) => save() });

export const createProcessCache = <Row>(clock: Pick<Clock, 'now'>): ProcessCache<Row> => {
  const kept = new Map<string, { readonly row: Row; readonly until: number }>();
  const changes = new Map<string, { count: number; isAlone: boolean }>();
  const keyOf = (participant: string, pid: string) => `${participant} ${pid}`;
  const keep = (key: string, row: Row): void => {
    const [oldest] = kept.keys();
    if (kept.size >= maxKept && oldest !== undefined) kept.delete(oldest);
    kept.set(key, { row, until: clock.now() + keptMs });
  };
  return {
    find: (participant, pid) => {
      const key = keyOf(participant, pid);
      const known = kept.get(key);
      if (known === undefined || clock.now() < known.until) return known?.row;
      kept.delete(key);
      return undefined;
    },
    changing: async ({ participant, pid }, save, isSaved) => {
      const key = keyOf(participant, pid);
      const known = changes.get(key);
      const change = known ?? { count: 0, isAlone: true };
      change.count += 1;
      change.isAlone &&= known === undefined;
      changes.set(key, change);
      kept.delete(key);
      let saved: Row | undefined;
      try {
        const result = await save();
        saved = isSaved(result);
        return result;
      } finally {
        change.count -= 1;
        if (change.count === 0) changes.delete(key);
        // Of several at once it is not known here which the rows have now.
        if (change.isAlone && saved !== undefined) keep(key, saved);
      }
    },
  };
};
