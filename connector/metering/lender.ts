import { AppError } from '../../contracts/errors.ts';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { createTurnsByKey } from '../../kernel/turns.ts';
import {
  type Account,
  type Block,
  closeAccess,
  countedAhead,
  enterAccess,
  enterMissing,
  expose,
  keyOf,
  lentOf,
  release,
} from './account.ts';
import { freeOfQuota, freeOfWindow, loanOf, recallMs, untilOf } from './lending.pure.ts';
import type {
  AccountKey,
  JournalMarkStore,
  Load,
  MeterRole,
  PutAccess,
  UnstatedAccess,
  UnstatedStore,
} from './ports.ts';
import { type Limits, loadOf, minus, nothing, plus, type Rates } from './window.pure.ts';

/**
 * Lends blocks of each agreement's window to the journals of data-plane workers, and takes their records (ledger §8). What is
 * lent counts as exposed until it comes back: as a record, unused, or with the journal of a worker that is gone.
 */

/** What a worker gets: more of the window, under these terms, or why not. */
export type Lease =
  | {
      readonly kind: 'lent';
      readonly load: Load;
      /** ms; nothing is opened behind it before more was leased. */
      readonly until: number;
      readonly rates: Rates;
      /** Of the account: what an access takes in the end is not the same on both sides. */
      readonly role: MeterRole;
      /** What nobody has of the window. */
      readonly free: Pick<Load, 'requests' | 'bytes'>;
    }
  | { readonly kind: 'refused'; readonly code: 'agreement-ended' | 'window-exhausted' | 'quota-exhausted' };

/** What a worker does not use. */
export interface GivenBack {
  readonly load: Load;
  /** Nothing is open or waits under this agreement: the block ends. */
  readonly isAll: boolean;
}

/** An access that is complete in the journal of a worker, as it is handed over. */
export interface ShippedAccess {
  /** Without its proof. */
  readonly open: UsageOpen;
  readonly close: UsageClose;
  readonly closedAt: number;
  readonly openPlace: number;
  /** What it took of the block; nothing of it for one that was read from the journal at start. */
  readonly drawn: Load;
  /** Whether it was counted ahead. */
  readonly isCounted: boolean;
}

/** The line of one journal to the lender; a later line of the same journal ends it. */
export interface WindowLine {
  /** Leases more of an agreement's window, beside what the worker has and does not use: together room for one request at least. */
  readonly lease: (agreement: string, unused: Load) => Promise<Lease>;
  readonly giveBack: (agreement: string, back: GivenBack) => void;
  /** How many accesses were opened or counted before this one, which is counted with it; undefined when the agreement ended. */
  readonly count: (agreement: string) => Promise<number | undefined>;
  /** One that was counted was not opened. */
  readonly uncount: (agreement: string) => void;
  /** Durable in rows when it returns. The answer names those (`agreement request part`) whose agreement is not known. */
  readonly ship: (accesses: readonly ShippedAccess[]) => Promise<readonly string[]>;
  /**
   * Everything that closed in the journal before it was opened is handed over; these have no end there yet. What the journal
   * was lent before is void.
   */
  readonly recovered: (open: readonly UsageOpen[]) => Promise<void>;
  /** Segments before this one need not be read at the next start. */
  readonly mark: (segment: number) => Promise<void>;
}

/** What the lender asks of a worker: to give back what it does not use now; and, of an agreement that ended, to open no more. */
export type Recall = (agreement: string, isEnded: boolean) => Promise<void>;

export interface LenderOptions {
  readonly key: (agreement: string) => Promise<AccountKey | undefined>;
  readonly find: (agreement: string) => Account | undefined;
  readonly open: (key: AccountKey) => Promise<Account | undefined>;
  readonly unstated: UnstatedStore;
  /** Brings every complete statement of an account into the usage store. */
  readonly index: (key: AccountKey) => Promise<void>;
  readonly marks: JournalMarkStore;
  readonly window: Limits;
  readonly quota: Pick<Load, 'requests' | 'bytes'>;
  readonly clock: Clock;
  readonly log: Logger;
  /** The place that was given last, in an earlier life. */
  readonly lastPlace: number;
  readonly onChange: (account: Account) => void;
}

export interface Lender {
  /** Opens the line of a journal. */
  readonly connect: (journal: string, recall: Recall) => WindowLine;
  /** The worker is gone. What it was lent stays with its journal. */
  readonly disconnect: (journal: string) => void;
  /** Has the workers give back what they do not use of an agreement. */
  readonly reclaim: (account: Account) => Promise<void>;
  /** No worker opens anything under this agreement once this has returned. */
  readonly end: (account: Account) => Promise<void>;
}

interface Connected {
  readonly journal: string;
  readonly recall: Recall;
  /** Whether its journal was read: until then nothing is lent to it. */
  isRecovered: boolean;
}

interface State extends LenderOptions {
  readonly lines: Map<string, Connected>;
  /** Accounts of which something is lent. */
  readonly lent: Set<Account>;
  readonly inTurn: ReturnType<typeof createTurnsByKey>;
  /** The place that was given last. */
  place: number;
}

/** As whoever hands over names an access: `agreement request part`. */
export const nameOf = ({ agreement, request, part }: UsageOpen): string => `${agreement} ${keyOf(request, part)}`;

const freeOf = ({ window, quota, clock }: State, account: Account): Load | undefined => {
  const { exposed, peer, currency, info, oldestAt } = account;
  if (info.assurance !== 'cosigned') {
    const requests = account.opened + lentOf(account).requests;
    return freeOfQuota(quota, { requests, bytes: account.settledBytes + exposed.bytes });
  }
  const ofPeer = { ...peer.exposed, cost: peer.costs.get(currency) ?? 0 };
  return freeOfWindow(window, { own: exposed, peer: ofPeer }, { oldestAt, now: clock.now() });
};

const blockOf = (state: State, account: Account, line: Connected): Block => {
  const block = account.blocks.get(line.journal) ?? { line, load: nothing, counted: 0 };
  account.blocks.set(line.journal, block);
  state.lent.add(account);
  return block;
};

const endBlock = (state: State, account: Account, journal: string): void => {
  account.blocks.delete(journal);
  if (account.blocks.size === 0) state.lent.delete(account);
};

/** Lends what the journal lacks of its share; undefined when not even one access has room. */
const lend = (state: State, account: Account, line: Connected, unused: Load): Lease | undefined => {
  const { rates, info, oldestAt } = account;
  const free = freeOf(state, account);
  const load = free && loanOf(free, { unused, rates, journals: state.lines.size });
  if (free === undefined || load === undefined) return undefined;
  const block = blockOf(state, account, line);
  expose(account, load);
  block.load = plus(block.load, load);
  const until = untilOf(info.assurance, { window: state.window, oldestAt, now: state.clock.now() });
  return { kind: 'lent', load, until, rates, role: info.role, free: minus(free, load) };
};

/** Whoever has something of the same window, and does not use it, gives it back. */
const recallFor = async (state: State, account: Account, asking?: Connected): Promise<void> => {
  const slept = new AbortController();
  const asked: Promise<void>[] = [];
  for (const other of state.lent)
    for (const line of other.peer === account.peer ? state.lines.values() : [])
      if (other.blocks.has(line.journal) && (line !== asking || other !== account))
        asked.push(line.recall(other.info.agreement, other.isEnded));
  await Promise.race([Promise.allSettled(asked), state.clock.sleep(recallMs, slept.signal)]);
  slept.abort();
};

const isConnected = (state: State, line: Connected): boolean =>
  line.isRecovered && state.lines.get(line.journal) === line;

const lease = async (state: State, line: Connected, agreement: string, unused: Load): Promise<Lease> => {
  const find = () => {
    const account = state.find(agreement);
    return account === undefined || account.isEnded || !isConnected(state, line) ? undefined : account;
  };
  const ended: Lease = { kind: 'refused', code: 'agreement-ended' };
  const account = find();
  if (account === undefined) return ended;
  const lent = lend(state, account, line, unused);
  if (lent !== undefined) return lent;
  await recallFor(state, account, line);
  if (find() === undefined) return ended;
  const second = lend(state, account, line, unused);
  if (second !== undefined) return second;
  state.onChange(account);
  return {
    kind: 'refused',
    code: account.info.assurance === 'cosigned' ? 'window-exhausted' : 'quota-exhausted',
  };
};

const giveBack = (state: State, line: Connected, agreement: string, back: GivenBack): void => {
  const account = state.find(agreement);
  const block = account?.blocks.get(line.journal);
  if (account === undefined || block?.line !== line) return;
  // The end of a block takes what rounding left of it; nothing is out then.
  const load = back.isAll ? block.load : back.load;
  release(account, load);
  block.load = minus(block.load, load);
  if (!back.isAll) return;
  endBlock(state, account, line.journal);
  state.onChange(account);
};

/** Counts an access before its policy is asked, so that no two are the last one. */
const count = (state: State, line: Connected, agreement: string): number | undefined => {
  const account = state.find(agreement);
  if (account === undefined || account.isEnded || !isConnected(state, line)) return undefined;
  const ahead = countedAhead(account);
  blockOf(state, account, line).counted += 1;
  return account.opened + ahead;
};

const uncount = (state: State, line: Connected, agreement: string): void => {
  const block = state.find(agreement)?.blocks.get(line.journal);
  if (block?.line === line) block.counted -= 1;
};

/** What an access took of a block is the access's own from now on. */
const draw = (account: Account, line: Connected, { drawn, isCounted }: ShippedAccess): void => {
  const block = account.blocks.get(line.journal);
  if (block?.line !== line) return;
  release(account, drawn);
  block.load = minus(block.load, drawn);
  if (isCounted) block.counted -= 1;
};

/** Enters an access that is in the rows; false when nobody can tell from memory whether it was settled meanwhile. */
const enter = (state: State, account: Account, one: UnstatedAccess, answer: PutAccess): boolean => {
  const { open, close, closedAt, place, journal } = one;
  const about = { agreement: open.agreement, request: open.request, part: open.part, journal };
  if (answer === 'doubled') {
    state.log.error(about, 'a request stands in two journals: the first one counts');
    return true;
  }
  const access = account.accesses.get(keyOf(open.request, open.part));
  if (access?.standing === 'open') closeAccess(account, access, close, closedAt, place);
  if (access !== undefined || answer === 'settled') return true;
  if (account.chain.isFinal) {
    state.log.error(about, 'an access came behind the last statement of its agreement');
    return true;
  }
  if (answer === 'kept') return false;
  enterAccess(account, open, one);
  return true;
};

/** What was put before and is not in memory was settled, or never got there: the rows know once they are in order. */
const enterKept = async (state: State, account: Account, kept: readonly UnstatedAccess[]): Promise<void> => {
  await state.index(account.info);
  const waiting = new Map(
    (await state.unstated.list(account.info)).map((one) => [keyOf(one.open.request, one.open.part), one]),
  );
  enterMissing(
    account,
    kept.flatMap(({ open }) => waiting.get(keyOf(open.request, open.part)) ?? []),
  );
};

const shipTo = async (
  state: State,
  line: Connected,
  key: AccountKey,
  accesses: readonly ShippedAccess[],
): Promise<void> => {
  const { journal } = line;
  const account = await state.open(key);
  if (account === undefined) throw new AppError('invariant-broken', { detail: 'an account is not there' });
  const placed = accesses.map(({ open, close, closedAt, openPlace }) => {
    state.place += 1;
    const load = loadOf(account.info.role, account.rates, close);
    return { open, close, closedAt, load, openPlace, journal, place: state.place };
  });
  const answers = await state.unstated.put(key, placed);
  const kept: UnstatedAccess[] = [];
  for (const [index, one] of placed.entries()) {
    const shipped = accesses[index];
    if (shipped === undefined) continue;
    draw(account, line, shipped);
    if (!enter(state, account, one, answers[index] ?? 'doubled')) kept.push(one);
  }
  if (kept.length > 0) await enterKept(state, account, kept);
  state.onChange(account);
};

/** What a line does whose journal was opened anew since then. */
export const replaced = (journal: string): AppError =>
  new AppError('invariant-broken', { detail: `the journal ${journal} has another writer now` });

const ship = async (state: State, line: Connected, accesses: readonly ShippedAccess[]): Promise<readonly string[]> => {
  if (state.lines.get(line.journal) !== line) throw replaced(line.journal);
  const unknown: string[] = [];
  for (const [agreement, own] of Map.groupBy(accesses, ({ open }) => open.agreement)) {
    const key = await state.key(agreement);
    if (key === undefined) unknown.push(...own.map(({ open }) => nameOf(open)));
    else await shipTo(state, line, key, own);
  }
  return unknown;
};

/** What a journal was lent before it was opened anew is over: all that became of it is known. */
const endOldBlock = (state: State, line: Connected, account: Account): void => {
  const block = account.blocks.get(line.journal);
  if (block === undefined || block.line === line) return;
  release(account, block.load);
  endBlock(state, account, line.journal);
  state.onChange(account);
};

const recovered = async (state: State, line: Connected, open: readonly UsageOpen[]): Promise<void> => {
  if (state.lines.get(line.journal) !== line) throw replaced(line.journal);
  for (const [agreement, own] of Map.groupBy(open, (one) => one.agreement)) {
    const key = await state.key(agreement);
    const account = key && (await state.open(key));
    if (account === undefined || account.chain.isFinal) continue;
    for (const entry of own)
      if (!account.accesses.has(keyOf(entry.request, entry.part))) enterAccess(account, entry, null);
  }
  for (const account of [...state.lent]) endOldBlock(state, line, account);
  line.isRecovered = true;
};

/** The lender of one role. It lends nothing to a journal that was not read to its end. */
export const createLender = (options: LenderOptions): Lender => {
  const state: State = {
    ...options,
    lines: new Map(),
    lent: new Set(),
    inTurn: createTurnsByKey(),
    place: options.lastPlace,
  };
  const { lines, inTurn, marks } = state;
  return {
    connect: (journal, recall) => {
      const line: Connected = { journal, recall, isRecovered: false };
      lines.set(journal, line);
      return {
        lease: (agreement, unused) => lease(state, line, agreement, unused),
        giveBack: (agreement, back) => giveBack(state, line, agreement, back),
        count: async (agreement) => count(state, line, agreement),
        uncount: (agreement) => uncount(state, line, agreement),
        ship: (accesses) => inTurn(journal, () => ship(state, line, accesses)),
        recovered: (open) => inTurn(journal, () => recovered(state, line, open)),
        mark: (segment) => marks.set(journal, segment),
      };
    },
    disconnect: (journal) => void lines.delete(journal),
    reclaim: (account) => recallFor(state, account),
    end: async ({ info, blocks }) => {
      const asked = [...lines.values()].filter(({ journal }) => blocks.has(journal));
      await Promise.allSettled(asked.map(({ recall }) => recall(info.agreement, true)));
    },
  };
};
