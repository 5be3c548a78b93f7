import type { Kysely } from 'kysely';
import { createSqlJournalMarkStore, createSqlMeterAccountStore } from '../../connector/adapters/sql/metering-store.ts';
import { type MeteringTables, meteringMigrations } from '../../connector/adapters/sql/metering-tables.ts';
import { createSqlUnstatedStore } from '../../connector/adapters/sql/unstated-store.ts';
import { createSqlWindowStore } from '../../connector/adapters/sql/window-store.ts';
import { type Account, createAccount } from '../../connector/metering/account.ts';
import { createLender, type Recall, type WindowLine } from '../../connector/metering/lender.ts';
import type {
  AccountKey,
  Load,
  MeteredAgreement,
  MeterRole,
  UnstatedAccess,
  WindowStore,
} from '../../connector/metering/ports.ts';
import { createRowLender, type RowLender } from '../../connector/metering/row-lender.ts';
import {
  defaultQuota,
  type Limits,
  minus,
  nothing,
  plus,
  reservation,
  roomFor,
} from '../../connector/metering/window.pure.ts';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';

/** Lenders of windows with lines to several journals: over accounts in memory, or of several processes over the same rows. */

export interface WorldOptions {
  readonly window: Limits;
  readonly quota?: Pick<Load, 'requests' | 'bytes'>;
  readonly role?: MeterRole;
  readonly clock?: Clock;
  /** The rows as the lenders see them. */
  readonly through?: (store: WindowStore) => WindowStore;
}

export interface WindowWorld extends AsyncDisposable {
  readonly inForce: (info: MeteredAgreement) => Promise<void>;
  /** The agreement ends, and no journal opens anything under it once this returns. */
  readonly end: (info: MeteredAgreement) => Promise<void>;
  /** Journals are spread over the processes there are, by the last character of their names. */
  readonly connect: (journal: string, recall: Recall) => WindowLine;
  readonly disconnect: (journal: string) => void;
  readonly waiting: (key: AccountKey) => Promise<readonly UnstatedAccess[]>;
  /** The journals that have something of this window. */
  readonly blocks: (key: AccountKey) => Promise<readonly string[]>;
  /** Agreements of which somebody heard that they changed. */
  readonly changed: string[];
  /** What was logged as an error. */
  readonly errors: string[];
}

const recordingLog = (errors: string[]): Logger => {
  const log: Logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: () => undefined,
    error: (_about: object, text: string) => void errors.push(text),
    child: () => log,
  };
  return log;
};

export const memoryWorld = async (its: WorldOptions): Promise<WindowWorld> => {
  const rows = openSqlite<MeteringTables>({ path: ':memory:', fullSync: false });
  await migrate(rows.db, 'metering', meteringMigrations);
  const unstated = createSqlUnstatedStore(rows.db);
  const accounts = new Map<string, Account>();
  const stored = createSqlMeterAccountStore(rows.db);
  const peer = { exposed: nothing, costs: new Map<string, number>() };
  const changed: string[] = [];
  const errors: string[] = [];
  const lender = createLender({
    ...{ unstated, window: its.window, quota: its.quota ?? defaultQuota, clock: its.clock ?? systemClock },
    key: async (agreement) => accounts.get(agreement)?.info,
    find: (agreement) => accounts.get(agreement),
    open: async ({ agreement }) => accounts.get(agreement),
    index: async () => undefined,
    marks: createSqlJournalMarkStore(rows.db),
    log: recordingLog(errors),
    lastPlace: -(2 ** 52),
    onChange: ({ info }) => changed.push(info.agreement),
  });
  return {
    inForce: async (info) => {
      await stored.put(info);
      const opened = { stored: { info, isEnded: false, conceded: nothing, settledBefore: 0 }, peer, newest: undefined };
      accounts.set(info.agreement, createAccount({ ...opened, held: [], settledRequests: 0, settledBytes: 0 }));
    },
    end: async ({ agreement }) => {
      const account = accounts.get(agreement);
      if (account === undefined) return;
      account.isEnded = true;
      await lender.end(account);
    },
    connect: lender.connect,
    disconnect: lender.disconnect,
    waiting: (key) => unstated.list(key),
    blocks: async ({ agreement }) => [...(accounts.get(agreement)?.blocks.keys() ?? [])].toSorted(),
    changed,
    errors,
    [Symbol.asyncDispose]: rows[Symbol.asyncDispose],
  };
};

const processes = 2;

/** Several processes over one database; a word to all of them takes a moment. */
export const rowWorld = async (db: Kysely<MeteringTables>, its: WorldOptions): Promise<WindowWorld> => {
  await migrate(db, 'metering', meteringMigrations);
  const accounts = createSqlMeterAccountStore(db);
  const unstated = createSqlUnstatedStore(db);
  const store = createSqlWindowStore(db);
  const clock = its.clock ?? systemClock;
  const changed: string[] = [];
  const errors: string[] = [];
  const lenders: RowLender[] = [];
  const recallAll = (agreement: string, isEnded: boolean) =>
    Promise.all(lenders.map((lender) => lender.recalled(agreement, isEnded)));
  for (let count = 0; count < processes; count += 1)
    lenders.push(
      createRowLender({
        ...{ window: its.window, quota: its.quota ?? defaultQuota, role: its.role ?? 'provider', clock },
        store: its.through?.(store) ?? store,
        marks: createSqlJournalMarkStore(db),
        log: recordingLog(errors),
        newId: createIds(systemClock, systemRandom),
        tellRecall: (agreement, isEnded) => void setImmediate(() => void recallAll(agreement, isEnded)),
        changed: ({ agreement }) => changed.push(agreement),
      }),
    );
  const of = (journal: string): RowLender => lenders[journal.charCodeAt(journal.length - 1) % processes] as RowLender;
  return {
    inForce: async (info) => void (await accounts.put(info)),
    end: async (info) => {
      await accounts.change(info, { isEnded: true });
      await recallAll(info.agreement, true);
    },
    connect: (journal, recall) => of(journal).connect(journal, recall),
    disconnect: (journal) => of(journal).disconnect(journal),
    waiting: (key) => unstated.list(key),
    blocks: (key) => store.blocks(key),
    changed,
    errors,
    [Symbol.asyncDispose]: async () => {
      for (const lender of lenders) await lender[Symbol.asyncDispose]();
    },
  };
};

/** A journal that opens accesses out of what it is lent, and gives back what it does not use when it is asked. */
export interface JournalClient {
  readonly line: WindowLine;
  /** Opens an access of the least size; null, or why not. */
  readonly open: (agreement: string) => Promise<string | null>;
  /** What it was lent and did not give back: in use or not. */
  readonly has: (agreement: string) => Load;
}

const leastAccess = reservation({}, 1, 1 << 20);

export const startJournal = async (
  world: WindowWorld,
  journal: string,
  open: readonly UsageOpen[] = [],
): Promise<JournalClient> => {
  const left = new Map<string, Load>();
  const used = new Map<string, Load>();
  const leftOf = (agreement: string) => left.get(agreement) ?? nothing;
  const usedOf = (agreement: string) => used.get(agreement) ?? nothing;
  const line = world.connect(journal, async (agreement) => {
    const load = leftOf(agreement);
    left.delete(agreement);
    line.giveBack(agreement, { load, isAll: false });
  });
  await line.recovered(open);
  const take = (agreement: string): boolean => {
    if (!roomFor(leftOf(agreement), leastAccess, false)) return false;
    left.set(agreement, minus(leftOf(agreement), leastAccess));
    used.set(agreement, plus(usedOf(agreement), leastAccess));
    return true;
  };
  return {
    line,
    open: async (agreement) => {
      if (take(agreement)) return null;
      const lease = await line.lease(agreement, leftOf(agreement));
      if (lease.kind === 'refused') return lease.code;
      left.set(agreement, plus(leftOf(agreement), lease.load));
      return take(agreement) ? null : 'recalled';
    },
    has: (agreement) => plus(leftOf(agreement), usedOf(agreement)),
  };
};
