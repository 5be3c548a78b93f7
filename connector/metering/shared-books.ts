import { startRepeating } from '../../kernel/lifecycle.ts';
import type { Logger } from '../../kernel/log.ts';
import { createTurnsByKey } from '../../kernel/turns.ts';
import { type Account, enterMissing, lateIn, setBlocks } from './account.ts';
import {
  type Book,
  type Books,
  createBook,
  createMeters,
  indexAll,
  type Meters,
  roles,
  type StatementOptions,
  startBooks,
} from './books.ts';
import type { AccountKey, UnstatedAccess, WindowStore } from './ports.ts';

/**
 * The books of a connector of several processes, in the one that writes the statements of all: accounts are built from rows
 * and kept true by them. What the others record stands in rows before anybody hears of it.
 */

export interface SharedBooksOptions extends StatementOptions {
  readonly windows: Pick<WindowStore, 'blocks' | 'busy'>;
  /** The rows know more than these books: somebody else wrote them. They must be opened anew. */
  readonly giveUp: () => void;
}

export interface SharedBooks extends Books {
  /** Something of an account changed in the rows: accesses came, a block went, the agreement ended. */
  readonly look: (key: AccountKey) => void;
  /** Anything may have changed. */
  readonly lookAtAll: () => void;
  /** The account is as the rows have it when this returns. */
  readonly refresh: (key: AccountKey) => Promise<void>;
}

/** The highest place that was seen of each journal. */
type Seen = Map<string, number>;

interface State extends SharedBooksOptions {
  readonly meters: Meters;
  readonly book: Book;
  readonly seen: WeakMap<Account, Seen>;
}

const lookAgainMs = 5_000;
const looksPerCheck = 6;

const note = (seen: Seen, accesses: readonly UnstatedAccess[]): Seen => {
  for (const { journal, place } of accesses) seen.set(journal, Math.max(place, seen.get(journal) ?? place));
  return seen;
};

/**
 * Takes over what the rows have of an account. Blocks are read before accesses: one that is gone by then has brought all of
 * them, and no further one is lent once the agreement has ended.
 */
const refresh = async (state: State, books: Books, key: AccountKey): Promise<void> => {
  const { accounts, windows, unstated, book, meters, seen } = state;
  const stored = await accounts.find(key);
  if (stored === undefined) return;
  const journals = await windows.blocks(key);
  const opened = meters[key.role].find(key.agreement);
  const account = opened ?? (await book.open(stored));
  if (account.chain.isFinal) return;
  const known = seen.get(account) ?? new Map<string, number>();
  const came = await unstated.list(key, known);
  if (account.chain.isFinal) return;
  seen.set(account, note(known, came));
  enterMissing(account, came);
  setBlocks(account, journals);
  const hasEnded = stored.isEnded && !account.isEnded;
  account.isEnded ||= stored.isEnded;
  if (opened === undefined || hasEnded) books.take(account);
  else books.touch(account);
};

/**
 * Compares an account with all of its rows, in case a word was lost on a way that should lose none. Nothing may be stated
 * meanwhile, or what was settled would look as if it had been forgotten.
 */
const check = async (state: State, key: AccountKey): Promise<void> => {
  const { statements, unstated, meters, seen, log } = state;
  const account = meters[key.role].find(key.agreement);
  if (account === undefined || account.chain.isFinal) return;
  const { seq } = account.chain;
  const newest = await statements.find(key, 'newest');
  const isBehind = newest?.state === 'complete' && Number(newest.payload.seq) > seq;
  if (isBehind && account.chain.seq === seq) {
    log.error({ agreement: key.agreement, role: key.role, seq }, 'a statement was completed by another process');
    state.giveUp();
    return;
  }
  await indexAll(statements, key);
  const all = await unstated.list(key);
  if (account.chain.seq !== seq) return; // it went on meanwhile: another time
  seen.set(account, note(seen.get(account) ?? new Map<string, number>(), all));
  enterMissing(account, all);
};

const createAccounts = (its: SharedBooksOptions, onChange: (account: Account) => void): State => {
  const meters = createMeters(its, { onChange });
  const seen: State['seen'] = new WeakMap();
  const book = createBook(its, meters, undefined, {
    blocks: its.windows.blocks,
    opened: (account, waiting) => seen.set(account, note(new Map(), waiting)),
  });
  return { ...its, meters, book, seen };
};

/** Work by account: one thing at a time for each, and what was asked for twice is done once. */
const createLooks = (
  log: Logger,
  inTurn: ReturnType<typeof createTurnsByKey>,
  work: (key: AccountKey) => Promise<void>,
) => {
  const pending = new Set<string>();
  const running = new Set<Promise<void>>();
  const nameOf = ({ participant, role, agreement }: AccountKey): string => `${participant} ${role} ${agreement}`;
  return {
    now: (key: AccountKey): Promise<void> => inTurn(nameOf(key), () => work(key)),
    look: (key: AccountKey): void => {
      const name = nameOf(key);
      if (pending.has(name)) return;
      pending.add(name);
      const tracked: Promise<void> = inTurn(name, async () => {
        pending.delete(name);
        await work(key);
      })
        .catch((error: unknown) => log.warn({ error, agreement: key.agreement }, 'an account is looked at later'))
        .finally(() => running.delete(tracked));
      running.add(tracked);
    },
    end: async (): Promise<void> => {
      while (running.size > 0) await Promise.all(running);
    },
  };
};

/** Builds the accounts from the rows, and goes on with every statement where it stands. */
export const openSharedBooks = async (its: SharedBooksOptions): Promise<SharedBooks> => {
  let changed: (account: Account) => void = () => undefined;
  const state = createAccounts(its, (account) => changed(account));
  const { meters, book } = state;
  for (const { seq, ...key } of await its.statements.unfinished()) await its.statements.index(key, seq);
  for (const stored of await its.accounts.listOpen()) await book.open(stored);
  const finished = async (key: AccountKey): Promise<void> => {
    const account = meters[key.role].find(key.agreement);
    if (key.role === 'consumer' && account !== undefined) await its.unstated.settleLate(key, lateIn(account));
  };
  const books = startBooks({ ...state, finished });
  changed = books.touch;
  for (const role of roles) for (const account of meters[role].accounts()) books.take(account);
  const inTurn = createTurnsByKey();
  const looks = createLooks(its.log, inTurn, (key) => refresh(state, books, key));
  const checks = createLooks(its.log, inTurn, (key) => check(state, key));
  const lookAtAll = async (isCheck = false): Promise<void> => {
    for (const key of await its.windows.busy()) {
      looks.look(key);
      if (isCheck) checks.look(key);
    }
  };
  const { clock, log } = its;
  const later = (error: unknown): void => log.warn({ error }, 'accounts are looked at later');
  let rounds = 0;
  /** Words may have been lost. */
  const lookAgain = (): Promise<void> => {
    rounds += 1;
    return lookAtAll(rounds % looksPerCheck === 0).catch(later);
  };
  const looking = startRepeating({ everyMs: lookAgainMs, work: lookAgain, clock, log });
  return {
    ...books,
    look: looks.look,
    refresh: looks.now,
    lookAtAll: () => void lookAtAll().catch(later),
    [Symbol.asyncDispose]: async () => {
      await looking[Symbol.asyncDispose]();
      await looks.end();
      await checks.end();
      await books[Symbol.asyncDispose]();
    },
  };
};
