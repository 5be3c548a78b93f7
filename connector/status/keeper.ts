import type { Logger } from '../../kernel/log.ts';
import type { Followed, Notice, StatusStore, StreamName } from './ports.ts';

/**
 * Brings what changed into the rows, one write at a time. What could not be written stays to be written: the number of the
 * last event never becomes durable before what the events said.
 */

export interface Keeper {
  readonly followed: () => Followed;
  readonly hear: (wordAt: number, now: number) => void;
  /** The event that was taken last; null: only a snapshot helps. */
  readonly advance: (n: number | null) => void;
  readonly put: (notice: Notice) => void;
  readonly remove: (notice: Notice) => void;
  /** Lets the next `flush` write when the broker was heard last. */
  readonly touch: () => void;
  /** Writes what is waiting, behind whatever else happens. */
  readonly flush: () => void;
  readonly close: () => Promise<void>;
}

interface KeeperOptions {
  readonly store: StatusStore;
  readonly name: StreamName;
  readonly log: Logger;
  readonly followed: Followed;
}

interface Waiting {
  readonly notice: Notice;
  readonly isPut: boolean;
}

const keyOf = ({ issuer, subject, isHeld, type }: Notice): string => `${issuer} ${isHeld ? type : ''} ${subject}`;

export const createKeeper = ({ store, name, log, followed: initial }: KeeperOptions): Keeper => {
  let followed = initial;
  let waiting = new Map<string, Waiting>();
  let isDirty = false;
  let writing: Promise<void> | undefined;

  const write = async (): Promise<void> => {
    const batch = waiting;
    waiting = new Map();
    isDirty = false;
    const all = [...batch.values()];
    const pick = (isPut: boolean) => all.filter((one) => one.isPut === isPut).map(({ notice }) => notice);
    try {
      await store.save(name, { followed, put: pick(true), remove: pick(false) });
    } catch (error) {
      waiting = new Map([...batch, ...waiting]);
      isDirty = true;
      log.error({ error }, 'what is known of standing could not be written');
    }
  };
  const flush = (): void => {
    if (!isDirty || writing !== undefined) return;
    writing = write().finally(() => {
      writing = undefined;
    });
  };
  return {
    followed: () => followed,
    hear: (wordAt, now) => {
      followed = { ...followed, wordAt: Math.max(followed.wordAt, wordAt), heardAt: now };
    },
    advance: (n) => {
      isDirty ||= n !== followed.n;
      followed = { ...followed, n };
    },
    put: (notice) => {
      waiting.set(keyOf(notice), { notice, isPut: true });
      isDirty = true;
    },
    remove: (notice) => {
      waiting.set(keyOf(notice), { notice, isPut: false });
      isDirty = true;
    },
    touch: () => {
      isDirty = true;
    },
    flush,
    close: async () => {
      await writing;
      isDirty = true;
      flush();
      await writing;
    },
  };
};
