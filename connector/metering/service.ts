import type { Hono } from 'hono';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { maxPageRecords } from '../../contracts/ledger/draft.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { FilePort } from '../../kernel/files.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Random } from '../../kernel/random.ts';
import type { RouteOptions } from '../exchange/http.ts';
import type { PeerTransport } from '../exchange/ports.ts';
import { type Account, enterAccess, forgiveConceded, hold, keyOf } from './account.ts';
import { openBlockMeter } from './block-meter.ts';
import { type Completion, createCompletion } from './completion.ts';
import { createConsumer } from './consumer.ts';
import { type ConsumerWatch, startConsumerWatch } from './consumer-watch.ts';
import { Journal } from './journal.ts';
import { createLender, type Lender } from './lender.ts';
import { createMeter, type Meter } from './meter.ts';
import { askNewest } from './newest.ts';
import { counterpartyOf, createPeerCalls } from './peer-calls.ts';
import type {
  AccountKey,
  DisputeStore,
  JournalMarkStore,
  KeptStatement,
  MeterAccountStore,
  MeteredAgreement,
  MeterRole,
  SignedSeqs,
  StatementBroker,
  StatementDraftStore,
  StatementPeers,
  StatementRegistrar,
  StatementSigner,
  StatementStore,
  StoredAccount,
  UnstatedStore,
  UsageStore,
} from './ports.ts';
import { createStatementRoutes, type StatementRoutes } from './routes.ts';
import { placeOf } from './segments.ts';
import { wireRow } from './statements.ts';
import { createUsageQueries, type UsageQueries } from './usage.ts';
import { defaultQuota, defaultWindow, type Limits, nothing } from './window.pure.ts';
import { type Pace, StatementWriter } from './writer.ts';

/** Metering as a whole: journals, meters, statements on both sides. `main.ts` starts it and connects it. */

export interface MeteringOptions {
  readonly files: FilePort;
  /** Of both journals; outside the backup of the rows, like `seqs`. */
  readonly folder: string;
  readonly seqs: SignedSeqs;
  readonly accounts: MeterAccountStore;
  readonly marks: JournalMarkStore;
  readonly unstated: UnstatedStore;
  readonly drafts: StatementDraftStore;
  readonly statements: StatementStore;
  readonly usage: UsageStore;
  readonly disputes: DisputeStore;
  readonly transport: PeerTransport;
  readonly peers: StatementPeers;
  readonly broker: StatementBroker;
  readonly signer: StatementSigner;
  readonly registrar: StatementRegistrar;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly intervalMs: number;
  readonly window?: Limits;
  readonly consumerWindow?: Limits;
  readonly quota?: { readonly requests: number; readonly bytes: number };
  readonly pace?: Pace;
  /** How long the consumer waits for the provider to register a statement; 60 s. */
  readonly consumerWaitsMs?: number;
  readonly segmentBytes?: number;
}

export interface Metering extends AsyncDisposable {
  /** The data plane's `UsageMeter` for each role. */
  readonly meters: Readonly<Record<MeterRole, Meter>>;
  /** Where workers with journals of their own lease blocks of the provider's windows; `journal` is a name of `workerJournal`. */
  readonly lender: Pick<Lender, 'connect' | 'disconnect'>;
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

const defaultPace: Pace = { firstMs: 1_000, longestMs: 60_000 };
const defaultConsumerWaitsMs = 60_000;
const sweepMs = 60_000;
const roles = ['provider', 'consumer'] as const;
/** Places of what workers hand over lie below those of the lines of our own journals. */
const firstPlace = -(2 ** 52);

interface Book {
  readonly open: (stored: StoredAccount) => Promise<Account>;
  readonly find: (key: AccountKey) => Promise<Account | undefined>;
}

/** The journal of a worker: its name, and that of its folder. */
export const workerJournal = (number: number): string => `provider.${number}`;

/** The last statement that is complete; the newest may still lack a signature. */
const newestComplete = async (statements: StatementStore, key: AccountKey): Promise<KeptStatement | undefined> => {
  const newest = await statements.find(key, 'newest');
  if (newest === undefined || newest.state === 'complete') return newest;
  return statements.find(key, Number(newest.payload.seq) - 1);
};

/** Accounts as they stand in rows and journal; one that is closed is opened again when somebody asks for it. */
const createBook = (
  { accounts, statements, drafts, usage, unstated }: MeteringOptions,
  meters: Metering['meters'],
  marks: Readonly<Record<MeterRole, number>>,
): Book => {
  const open = async (stored: StoredAccount): Promise<Account> => {
    const { info } = stored;
    const newest = await newestComplete(statements, info);
    const held = await drafts.held(info);
    const groups = await usage.groups(info);
    const settled = await usage.settledSince(info, placeOf(marks[info.role], 0));
    const waiting = await unstated.list(info);
    const known = meters[info.role].find(info.agreement); // opened by somebody else meanwhile
    if (known !== undefined) return known;
    const opened = {
      stored,
      newest,
      held,
      settledRequests: groups.reduce((sum, { accesses }) => sum + accesses, 0),
      settledBytes: groups.reduce((sum, { bytes }) => sum + bytes, 0),
    };
    const account = meters[info.role].add(opened, new Set(settled));
    for (const one of account.chain.isFinal ? [] : waiting)
      if (!account.accesses.has(keyOf(one.open.request, one.open.part))) enterAccess(account, one.open, one);
    return account;
  };
  return {
    open,
    find: async (key) => {
      const known = meters[key.role].find(key.agreement);
      if (known !== undefined) return known.info.participant === key.participant ? known : undefined;
      const stored = await accounts.find(key);
      return stored && open(stored);
    },
  };
};

/** A complete statement as its other party may see it. */
const heldFor = async (its: MeteringOptions, account: Account, seq: 'newest' | number): Promise<Json> => {
  const { info } = account;
  const statement =
    seq === 'newest' ? await newestComplete(its.statements, info) : await its.statements.find(info, seq);
  if (statement?.state !== 'complete' || statement.artifact === null) throw new AppError('not-found');
  const rows = statement.rows ?? (await its.usage.ofStatement(info, Number(statement.payload.seq)));
  const count = BigInt(statement.payload.last) + 1n - BigInt(statement.payload.first);
  const isWhole = BigInt(rows.length) === count && rows.length <= maxPageRecords;
  const body = {
    artifact: statement.artifact,
    sums: statement.sums,
    ...(statement.K === null ? {} : { K: statement.K }),
    records: isWhole ? rows.map(wireRow) : null,
  };
  return body as unknown as Json; // our own types hold nothing that JSON does not
};

interface Tasks extends AsyncDisposable {
  readonly later: (work: () => Promise<void>) => void;
}

/** Work that nobody waits for, but that the end waits for. */
const createTasks = (log: Logger): Tasks => {
  const running = new Set<Promise<void>>();
  return {
    later: (work) => {
      const tracked: Promise<void> = work()
        .catch((error: unknown) => log.warn({ error }, 'work on a statement is done later'))
        .finally(() => running.delete(tracked));
      running.add(tracked);
    },
    [Symbol.asyncDispose]: async () => {
      while (running.size > 0) await Promise.all(running);
    },
  };
};

const openJournals = async (
  its: MeteringOptions,
  meters: Metering['meters'],
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

/** Takes up what was left unfinished, at start and from time to time: records not indexed, artifacts not handed over. */
const sweep = async (its: MeteringOptions, finish: (key: AccountKey, seq: number) => Promise<void>): Promise<void> => {
  for (const { seq, ...key } of await its.statements.unfinished()) await finish(key, seq);
};

const writeOff = async (its: MeteringOptions, account: Account): Promise<void> => {
  await its.accounts.change(account.info, { conceded: nothing });
  forgiveConceded(account);
  const held = [...account.held.values()].map((one) => ({ ...one, isWrittenOff: true, retryAt: 0 }));
  const [draft] = await its.drafts.list(account.info);
  if (draft === undefined) await its.drafts.drop(account.info, held);
  else await its.drafts.save(account.info, draft, { replace: false, held });
  hold(account, held);
};

const openLender = async (
  its: MeteringOptions,
  { meters, book }: Pick<Parts, 'meters' | 'book'>,
  onChange: (account: Account) => void,
): Promise<Lender> => {
  const { accounts, statements, unstated, marks, clock, log } = its;
  const { provider } = meters;
  return createLender({
    key: async (agreement) => provider.find(agreement)?.info ?? (await accounts.ofDigest('provider', agreement))?.info,
    find: provider.find,
    open: book.find,
    index: async (key) => {
      for (const { seq, ...other } of await statements.unfinished())
        if (other.agreement === key.agreement && other.role === key.role) await statements.index(other, seq);
    },
    unstated,
    marks,
    window: its.window ?? defaultWindow,
    quota: its.quota ?? defaultQuota,
    clock,
    log,
    lastPlace: (await unstated.lastPlace()) ?? firstPlace,
    onChange,
  });
};

/** Takes over what the journals of workers hold, whether or not there will be such a worker again. */
const recoverWorkers = async (its: MeteringOptions, lender: Lender): Promise<void> => {
  const names = (await its.files.list(its.folder)).filter((name) => /^provider\.\d+$/.test(name));
  for (const name of names) {
    const { files, clock, log, segmentBytes } = its;
    const opened = await openBlockMeter({
      ...{ files, clock, log },
      folder: `${its.folder}/${name}`,
      from: await its.marks.get(name),
      connect: (recall) => lender.connect(name, recall),
      ...(segmentBytes === undefined ? {} : { segmentBytes }),
    });
    await opened[Symbol.asyncDispose]();
    lender.disconnect(name);
  }
};

interface Parts {
  readonly meters: Metering['meters'];
  readonly journals: readonly Journal[];
  readonly book: Book;
  readonly lender: Lender;
  readonly tasks: Tasks;
  readonly writer: StatementWriter;
  readonly watch: ConsumerWatch;
  readonly completion: Completion;
}

/** Journals are read and accounts rebuilt before anything else runs. */
const rebuild = async (
  its: MeteringOptions,
  windows: Readonly<Record<MeterRole, Limits>>,
  onChange: (account: Account) => void,
): Promise<Pick<Parts, 'meters' | 'journals' | 'book' | 'lender'>> => {
  const { clock, log, statements, marks } = its;
  const quota = its.quota ?? defaultQuota;
  let reclaim: (account: Account) => Promise<void> = async () => undefined;
  const shared = { clock, log, quota, onChange, reclaim: (account: Account) => reclaim(account) };
  const meterOf = (role: MeterRole) => createMeter({ role, window: windows[role], ...shared });
  const meters = { provider: meterOf('provider'), consumer: meterOf('consumer') };
  for (const { seq, ...key } of await statements.unfinished()) await statements.index(key, seq);
  const from = { provider: await marks.get('provider'), consumer: await marks.get('consumer') };
  const journals = await openJournals(its, meters, from);
  const book = createBook(its, meters, { provider: from.provider ?? 0, consumer: from.consumer ?? 0 });
  for (const stored of await its.accounts.listOpen()) await book.open(stored);
  const lender = await openLender(its, { meters, book }, onChange);
  await recoverWorkers(its, lender);
  reclaim = lender.reclaim;
  return { meters, journals, book, lender };
};

const startParts = async (its: MeteringOptions): Promise<Parts> => {
  const window = its.window ?? defaultWindow;
  const windows = { provider: window, consumer: its.consumerWindow ?? window };
  const pace = its.pace ?? defaultPace;
  let changed: (account: Account) => void = () => undefined;
  const { meters, journals, book, lender } = await rebuild(its, windows, (account) => changed(account));
  const tasks = createTasks(its.log);
  const consumerWaitsMs = its.consumerWaitsMs ?? defaultConsumerWaitsMs;
  const completion = createCompletion({ ...its, meters, later: tasks.later, consumerWaitsMs });
  const calls = createPeerCalls(its);
  const ask = (account: Account) => askNewest({ ...its, calls, completion }, account);
  const shared = { ...its, calls, completion, askNewest: ask, pace };
  const writer = new StatementWriter({ ...shared, window });
  const watch = startConsumerWatch({ ...shared, window: windows.consumer });
  changed = (account) => (account.info.role === 'provider' ? writer : watch).touch(account);
  for (const role of roles) meters[role].closeLost();
  return { meters, journals, book, lender, tasks, writer, watch, completion };
};

/** An account goes on where it stands: its statements are asked for, drafted, compared. */
const take = ({ writer, watch }: Pick<Parts, 'writer' | 'watch'>, account: Account): void => {
  if (account.chain.isFinal) return;
  if (account.info.role === 'provider') writer.take(account);
  else watch.touch(account);
};

/** What the routes ask; strangers find nothing. */
const answersOf = (its: MeteringOptions, { book, meters, writer, watch, completion }: Parts): StatementRoutes => {
  const of = async (role: MeterRole, participant: ParticipantId, caller: Did, agreement: string) => {
    const account = await book.find({ participant, role, agreement });
    return account !== undefined && counterpartyOf(account.info) === caller ? account : undefined;
  };
  return {
    consumer: createConsumer({ ...its, account: book.find, completion, isAsked: watch.isAsked }),
    hasProvider: async (participant, caller) => {
      const isTheirs = (info: MeteredAgreement) =>
        info.role === 'consumer' && info.participant === participant && info.provider === caller;
      for (const { info } of meters.consumer.accounts()) if (isTheirs(info)) return true;
      return (await its.accounts.list(participant)).some(({ info }) => isTheirs(info));
    },
    request: async (participant, caller, agreement) => {
      const account = await of('provider', participant, caller, agreement);
      if (account === undefined) throw new AppError('not-found');
      if (!writer.request(account)) throw new AppError('too-many-requests', { retryAfterSeconds: 10 });
    },
    held: async (participant, caller, agreement, seq) => {
      const account =
        (await of('provider', participant, caller, agreement)) ??
        (await of('consumer', participant, caller, agreement));
      if (account === undefined) throw new AppError('not-found');
      return heldFor(its, account, seq);
    },
  };
};

const startSweeping = (its: MeteringOptions, { completion }: Parts): AsyncDisposable => {
  const stopped = new AbortController();
  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      await sweep(its, completion.finish).catch((error: unknown) =>
        its.log.warn({ error }, 'complete statements are handed over later'),
      );
      await its.clock.sleep(sweepMs, stopped.signal);
    }
  };
  const looping = loop();
  return {
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await looping;
    },
  };
};

/** Builds everything and starts it: journals are read, accounts rebuilt, statements go on where they stood. */
export const startMetering = async (its: MeteringOptions): Promise<Metering> => {
  const parts = await startParts(its);
  const { meters, book, journals, tasks, writer, watch } = parts;
  for (const role of roles) for (const account of meters[role].accounts()) take(parts, account);
  const sweeping = startSweeping(its, parts);
  const answers = answersOf(its, parts);
  const change = async (
    participant: ParticipantId,
    agreement: string,
    work: (account: Account) => Promise<void>,
  ): Promise<void> => {
    for (const role of roles) {
      const account = await book.find({ participant, role, agreement });
      if (account === undefined) continue;
      await work(account);
      take(parts, account);
    }
  };
  return {
    meters,
    lender: parts.lender,
    routes: (options) => createStatementRoutes(answers, options),
    agreementInForce: async (info) => {
      await its.accounts.put(info);
      const account = await book.find(info);
      if (account === undefined) throw new AppError('invariant-broken', { detail: 'an account is not there' });
      meters[info.role].closeLost(account);
      take(parts, account);
    },
    agreementEnded: (participant, agreement) =>
      change(participant, agreement, async (account) => {
        await its.accounts.change(account.info, { isEnded: true });
        account.isEnded = true;
        await parts.lender.end(account);
      }),
    writeOff: (participant, agreement) => change(participant, agreement, (account) => writeOff(its, account)),
    usage: createUsageQueries({ ...its, account: book.find }),
    [Symbol.asyncDispose]: async () => {
      for (const part of [writer, watch, sweeping, tasks, ...journals]) await part[Symbol.asyncDispose]();
    },
  };
};
