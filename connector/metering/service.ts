import type { Hono } from 'hono';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { FilePort } from '../../kernel/files.ts';
import type { RouteOptions } from '../exchange/http.ts';
import type { Account } from './account.ts';
import type { BlockMeter } from './block-meter.ts';
import {
  type Book,
  type Books,
  createBook,
  createMeters,
  heldFor,
  indexAll,
  type Meters,
  roles,
  type StatementOptions,
  startBooks,
  windowsOf,
} from './books.ts';
import { Journal } from './journal.ts';
import { recoverJournals } from './journal-folders.ts';
import { createLender, type Lender } from './lender.ts';
import { createPagedDrafts } from './pages.ts';
import { counterpartyOf } from './peer-calls.ts';
import type { JournalMarkStore, MeteredAgreement, MeterRole } from './ports.ts';
import { createStatementRoutes, type StatementRoutes } from './routes.ts';
import { placeOf } from './segments.ts';
import { createUsageQueries, type UsageQueries } from './usage.ts';
import { defaultQuota } from './window.pure.ts';

/** Metering of a connector that is one process: journals, meters, statements on both sides. */

export interface MeteringOptions extends StatementOptions {
  readonly files: FilePort;
  /** Of all journals; outside the backup of the rows, like `seqs`. */
  readonly folder: string;
  readonly marks: JournalMarkStore;
  readonly segmentBytes?: number;
}

export interface Metering extends AsyncDisposable {
  /** The data plane's `UsageMeter` for each role. */
  readonly meters: Readonly<Record<MeterRole, BlockMeter>>;
  /** Where workers with journals of their own lease blocks of the provider's windows; `journal` is a name of `journalOf`. */
  readonly lender: Pick<Lender, 'connect' | 'disconnect'>;
  /** The journal of a worker (1, 2, …): its name, and that of its folder. */
  readonly journalOf: (worker: number) => string;
  /** `<root>/ext/1/…` */
  readonly routes: (options: RouteOptions) => Hono;
  /** Durable when it returns, and before the first access; repeats change nothing. */
  readonly agreementInForce: (info: MeteredAgreement) => Promise<void>;
  /** No more accesses; the provider drafts the final statement once the last one has closed. Repeats change nothing. */
  readonly agreementEnded: (participant: ParticipantId, agreement: string) => Promise<void>;
  /** The owner writes off what was conceded and what is in dispute: the window opens again. */
  readonly writeOff: (participant: ParticipantId, agreement: string) => Promise<void>;
  readonly usage: UsageQueries;
}

/** Its meters know every account. */
export interface SingleMetering extends Metering {
  readonly meters: Meters;
}

/** Places of what workers hand over lie below those of the lines of our own journals. */
const firstPlace = -(2 ** 52);

const journalOf = (worker: number): string => `provider.${worker}`;
const isWorkerJournal = (name: string): boolean => /^provider\.\d+$/.test(name);

const openJournals = async (
  its: MeteringOptions,
  meters: Meters,
  from: Readonly<Record<MeterRole, number | undefined>>,
): Promise<readonly Journal[]> => {
  const journals: Journal[] = [];
  for (const role of roles) {
    const journal = await Journal.open({
      files: its.files,
      folder: `${its.folder}/${role}`,
      clock: its.clock,
      log: its.log,
      from: from[role],
      replay: meters[role].replay,
      onRecovered: () => meters[role].closeLost(),
      ...(its.segmentBytes === undefined ? {} : { segmentBytes: its.segmentBytes }),
    });
    meters[role].attach(journal);
    journals.push(journal);
  }
  return journals;
};

const openLender = async (
  its: MeteringOptions,
  { meters, book }: { readonly meters: Meters; readonly book: Book },
  onChange: (account: Account) => void,
): Promise<Lender> => {
  const { accounts, statements, unstated, marks, clock, log } = its;
  const { provider } = meters;
  return createLender({
    key: async (agreement) => provider.find(agreement)?.info ?? (await accounts.ofDigest('provider', agreement))?.info,
    find: provider.find,
    open: book.find,
    index: (key) => indexAll(statements, key),
    unstated,
    marks,
    window: windowsOf(its).provider,
    quota: its.quota ?? defaultQuota,
    clock,
    log,
    lastPlace: (await unstated.lastPlace()) ?? firstPlace,
    onChange,
  });
};

interface Parts {
  readonly meters: Meters;
  readonly journals: readonly Journal[];
  readonly book: Book;
  readonly lender: Lender;
}

/** Journals are read and accounts rebuilt before anything else runs. */
const rebuild = async (its: MeteringOptions, onChange: (account: Account) => void): Promise<Parts> => {
  const { statements, marks } = its;
  let reclaim: (account: Account) => Promise<void> = async () => undefined;
  const meters = createMeters(its, { onChange, reclaim: (account) => reclaim(account) });
  for (const { seq, ...key } of await statements.unfinished()) await statements.index(key, seq);
  const from = { provider: await marks.get('provider'), consumer: await marks.get('consumer') };
  const journals = await openJournals(its, meters, from);
  const settledFrom = { provider: placeOf(from.provider ?? 0, 0), consumer: placeOf(from.consumer ?? 0, 0) };
  const book = createBook(its, meters, settledFrom);
  for (const stored of await its.accounts.listOpen()) await book.open(stored);
  const lender = await openLender(its, { meters, book }, onChange);
  await recoverJournals(its, isWorkerJournal, () => lender); // whether or not there will be such a worker again
  reclaim = lender.reclaim;
  return { meters, journals, book, lender };
};

/** The first segments that the next start must read move on. */
const moveMark = async ({ marks }: MeteringOptions, meters: Meters, role: MeterRole): Promise<void> => {
  const lowest = meters[role].lowestSegment();
  if (lowest > ((await marks.get(role)) ?? 0)) await marks.set(role, lowest);
};

/** What the routes ask; strangers find nothing. */
const answersOf = (its: MeteringOptions, { book, meters }: Parts, books: Books): StatementRoutes => {
  const of = async (role: MeterRole, participant: ParticipantId, caller: Did, agreement: string) => {
    const account = await book.find({ participant, role, agreement });
    return account !== undefined && counterpartyOf(account.info) === caller ? account : undefined;
  };
  return {
    consumer: books.consumer,
    page: createPagedDrafts(books.consumer.draft),
    hasProvider: async (participant, caller) => {
      const isTheirs = (info: MeteredAgreement) =>
        info.role === 'consumer' && info.participant === participant && info.provider === caller;
      for (const { info } of meters.consumer.accounts()) if (isTheirs(info)) return true;
      return (await its.accounts.list(participant)).some(({ info }) => isTheirs(info));
    },
    request: books.request,
    held: async (participant, caller, agreement, seq) => {
      const account =
        (await of('provider', participant, caller, agreement)) ??
        (await of('consumer', participant, caller, agreement));
      if (account === undefined) throw new AppError('not-found');
      return heldFor(its, account.info, seq);
    },
  };
};

/** Builds everything and starts it: journals are read, accounts rebuilt, statements go on where they stood. */
export const startMetering = async (its: MeteringOptions): Promise<SingleMetering> => {
  let changed: (account: Account) => void = () => undefined;
  const parts = await rebuild(its, (account) => changed(account));
  const { meters, book, lender, journals } = parts;
  const finished = ({ role }: { readonly role: MeterRole }) => moveMark(its, meters, role);
  const books = startBooks({ ...its, meters, book, finished });
  changed = books.touch;
  for (const role of roles) for (const account of meters[role].accounts()) books.take(account);
  return {
    meters,
    lender,
    journalOf,
    routes: (options) => createStatementRoutes(answersOf(its, parts, books), options),
    agreementInForce: async (info) => {
      const isNew = await its.accounts.put(info);
      const account = isNew ? book.begin(info) : await book.find(info);
      if (account === undefined) throw new AppError('invariant-broken', { detail: 'an account is not there' });
      meters[info.role].closeLost(account);
      books.take(account);
    },
    agreementEnded: async (participant, agreement) => {
      for (const role of roles) {
        const account = await book.find({ participant, role, agreement });
        if (account === undefined) continue;
        await its.accounts.change(account.info, { isEnded: true });
        account.isEnded = true;
        await lender.end(account);
        books.take(account);
      }
    },
    writeOff: books.writeOff,
    usage: createUsageQueries({ ...its, account: book.find }),
    [Symbol.asyncDispose]: async () => {
      for (const part of [books, ...journals]) await part[Symbol.asyncDispose]();
    },
  };
};
