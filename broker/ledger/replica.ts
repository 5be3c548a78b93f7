import type { KeyBook } from './key-book.pure.ts';
import type { LogHead, LogStore, Origin, Published } from './ports.ts';

/**
 * What a process knows of the log, also while another one writes it: everybody's keys, how far the rows go, and the newest
 * checkpoint. Read from the rows; a writer adds what it commits itself.
 */
export interface Replica {
  /** A public entry that it has already is not taken in again. */
  readonly keyBook: KeyBook;
  /** As of the last look. */
  readonly head: () => LogHead | undefined;
  readonly published: () => Published | undefined;
  /** Looks at the rows; what was durable before the call is known after it. */
  readonly refresh: () => Promise<void>;
}

export const createReplica = (store: LogStore, origin: Origin, book: KeyBook): Replica => {
  let next = 0;
  let head: LogHead | undefined;
  let published: Published | undefined;
  let running: Promise<void> | undefined;
  let following: Promise<void> | undefined;
  const keyBook: KeyBook = {
    ...book,
    add: (row) => {
      if (row.index < next) return;
      book.add(row);
      next = row.index + 1;
    },
  };
  const look = async (): Promise<void> => {
    const rows = await store.publicRows(origin, next);
    for (const row of rows) keyBook.add(row);
    const found = await store.head(origin);
    if ((found?.size ?? 0) >= (head?.size ?? 0)) head = found;
    const checkpoint = await store.published(origin);
    if ((checkpoint?.size ?? 0) >= (published?.size ?? 0)) published = checkpoint;
  };
  const begin = (): Promise<void> => {
    const looking = look().finally(() => {
      running = undefined;
    });
    running = looking;
    return looking;
  };
  return {
    keyBook,
    head: () => head,
    published: () => published,
    refresh: () => {
      if (running === undefined) return begin();
      // The look that is under way may have passed what the caller wants to see: one more serves all who ask meanwhile.
      following ??= running
        .catch(() => undefined)
        .then(() => {
          following = undefined;
          return begin();
        });
      return following;
    },
  };
};
