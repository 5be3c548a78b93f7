import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { maxPageRecords } from '../../contracts/ledger/draft.ts';
import type { Clock } from '../../kernel/clock.ts';
import { startRepeating } from '../../kernel/lifecycle.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Random } from '../../kernel/random.ts';
import type { PeerTransport } from '../exchange/ports.ts';
import { type Account, enterMissing, forgiveConceded, hold, setBlocks } from './account.ts';
import { createCompletion } from './completion.ts';
import { type Consumer, createConsumer } from './consumer.ts';
import { startConsumerWatch } from './consumer-watch.ts';
import { createMeter, type Meter, type MeterOptions } from './meter.ts';
import { askNewest } from './newest.ts';
import { counterpartyOf, createPeerCalls } from './peer-calls.ts';
import type {
  AccountKey,
  DisputeStore,
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
  UnstatedAccess,
  UnstatedStore,
  UsageStore,
} from './ports.ts';
import { wireRow } from './statements.ts';
import { defaultQuota, defaultWindow, type Limits, nothing } from './window.pure.ts';
import { type Pace, StatementWriter } from './writer.ts';

/** Accounts in memory, and what goes on in them: statements that are written, compared, completed and handed over. */

/** What statements are made with. */
export interface StatementOptions {
  readonly seqs: SignedSeqs;
  readonly accounts: MeterAccountStore;
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
}

export type Meters = Readonly<Record<MeterRole, Meter>>;

const defaultPace: Pace = { firstMs: 1_000, longestMs: 60_000 };
const defaultConsumerWaitsMs = 60_000;
const sweepMs = 60_000;
export const roles = ['provider', 'consumer'] as const;

/** The exposure that each role may have. */
export const windowsOf = ({
  window = defaultWindow,
  consumerWindow = window,
}: Pick<StatementOptions, 'window' | 'consumerWindow'>) => ({
  provider: window,
  consumer: consumerWindow,
});

/** The meters of both roles. */
export const createMeters = (
  its: Pick<StatementOptions, 'clock' | 'log' | 'window' | 'consumerWindow' | 'quota'>,
  more: Pick<MeterOptions, 'onChange' | 'reclaim'>,
): Meters => {
  const { clock, log, quota = defaultQuota } = its;
  const windows = windowsOf(its);
  const meterOf = (role: MeterRole) => createMeter({ role, window: windows[role], quota, clock, log, ...more });
  return { provider: meterOf('provider'), consumer: meterOf('consumer') };
};

/** Brings every complete statement of an account into the usage store. */
export const indexAll = async (statements: StatementStore, key: AccountKey): Promise<void> => {
  for (const { seq, ...other } of await statements.unfinished())
    if (other.agreement === key.agreement && other.role === key.role) await statements.index(other, seq);
};

export interface Book {
  /** An account that was made just now: nothing stands under it yet, and nothing is looked for. */
  readonly begin: (info: MeteredAgreement) => Account;
  readonly open: (stored: StoredAccount) => Promise<Account>;
  readonly find: (key: AccountKey) => Promise<Account | undefined>;
}

/** The last statement that is complete; the newest may still lack a signature. */
const newestComplete = async (statements: StatementStore, key: AccountKey): Promise<KeptStatement | undefined> => {
  const newest = await statements.find(key, 'newest');
  if (newest === undefined || newest.state === 'complete') return newest;
  return statements.find(key, Number(newest.payload.seq) - 1);
};

/** Of accounts that other processes open accesses under. */
interface SharedRows {
  /** The journals that have something of an account's window. */
  readonly blocks?: (key: AccountKey) => Promise<readonly string[]>;
  /** Hears of each account once, with what waits in rows to be stated. */
  readonly opened?: (account: Account, waiting: readonly UnstatedAccess[]) => void;
}

/** What stands under an account beside its statements. */
interface Standing {
  readonly settled: readonly string[];
  readonly journals: readonly string[];
  readonly waiting: readonly UnstatedAccess[];
}

const nothingStands: Standing = { settled: [], journals: [], waiting: [] };

/** No journal of this process: nothing that was settled is asked for by its place. */
const nowhere = { provider: Number.MAX_SAFE_INTEGER, consumer: Number.MAX_SAFE_INTEGER };

type BookOptions = Pick<StatementOptions, 'accounts' | 'statements' | 'drafts' | 'usage' | 'unstated'>;

/**
 * Accounts as they stand in rows and journal; one that is closed is opened again when somebody asks for it.
 *
 * @param settledFrom of each role, the place in the journal from which on it is asked what was settled.
 * @param shared where other processes may have something of an account.
 */
export const createBook = (
  { accounts, statements, drafts, usage, unstated }: BookOptions,
  meters: Meters,
  settledFrom: Readonly<Record<MeterRole, number>> = nowhere,
  { blocks = async () => [], opened: hear = () => undefined }: SharedRows = {},
): Book => {
  const add = (opened: Parameters<Meter['add']>[0], { settled, journals, waiting }: Standing): Account => {
    const { info } = opened.stored;
    const known = meters[info.role].find(info.agreement); // opened by somebody else meanwhile
    if (known !== undefined) return known;
    const account = meters[info.role].add(opened, new Set(settled));
    if (!account.chain.isFinal) enterMissing(account, waiting);
    setBlocks(account, journals);
    hear(account, waiting);
    return account;
  };
  const open = async (stored: StoredAccount): Promise<Account> => {
    const { info } = stored;
    const newest = await newestComplete(statements, info);
    const held = await drafts.held(info);
    const groups = await usage.groups(info);
    const settled = await usage.settledSince(info, settledFrom[info.role]);
    const journals = await blocks(info); // before the accesses: whoever has none any more has brought all of them
    const waiting = await unstated.list(info);
    const settledRequests = groups.reduce((sum, { accesses }) => sum + accesses, 0);
    const settledBytes = groups.reduce((sum, { bytes }) => sum + bytes, 0);
    return add({ stored, newest, held, settledRequests, settledBytes }, { settled, journals, waiting });
  };
  return {
    begin: (info) => {
      const stored = { info, isEnded: false, conceded: nothing, settledBefore: 0 };
      return add({ stored, newest: undefined, held: [], settledRequests: 0, settledBytes: 0 }, nothingStands);
    },
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
export const heldFor = async (
  its: Pick<StatementOptions, 'statements' | 'usage'>,
  info: AccountKey,
  seq: 'newest' | number,
): Promise<Json> => {
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

/** Takes up what was left unfinished, at start and from time to time: records not indexed, artifacts not handed over. */
const sweep = async (its: StatementOptions, finish: (key: AccountKey, seq: number) => Promise<void>): Promise<void> => {
  for (const { seq, ...key } of await its.statements.unfinished()) await finish(key, seq);
};

const writeOff = async (its: StatementOptions, account: Account): Promise<void> => {
  await its.accounts.change(account.info, { conceded: nothing });
  forgiveConceded(account);
  const held = [...account.held.values()].map((one) => ({ ...one, isWrittenOff: true, retryAt: 0 }));
  const [draft] = await its.drafts.list(account.info);
  if (draft === undefined) await its.drafts.drop(account.info, held);
  else await its.drafts.save(account.info, draft, { replace: false, held });
  hold(account, held);
};

const startSweeping = (
  its: StatementOptions,
  finish: (key: AccountKey, seq: number) => Promise<void>,
): AsyncDisposable => {
  const { clock, log } = its;
  const later = (error: unknown): void => log.warn({ error }, 'complete statements are handed over later');
  return startRepeating({ everyMs: sweepMs, work: () => sweep(its, finish).catch(later), clock, log });
};

export interface BooksOptions extends StatementOptions {
  readonly meters: Meters;
  readonly book: Book;
  /** A complete statement is taken care of: its records stand in the usage store, the registrar has its artifact. */
  readonly finished: (key: AccountKey) => Promise<void>;
}

export interface Books extends AsyncDisposable {
  readonly consumer: Consumer;
  /** Something changed in an account. */
  readonly touch: (account: Account) => void;
  /** An account goes on where it stands: its statements are asked for, drafted, compared. */
  readonly take: (account: Account) => void;
  /** The consumer asks for a statement. @throws AppError `not-found` for strangers, `too-many-requests`. */
  readonly request: (participant: ParticipantId, caller: Did, agreement: string) => Promise<void>;
  /** The owner writes off what was conceded and what is in dispute in both roles. */
  readonly writeOff: (participant: ParticipantId, agreement: string) => Promise<void>;
}

/** Starts what goes on in accounts; those that are known go on when they are taken. */
export const startBooks = (its: BooksOptions): Books => {
  const { meters, book, pace = defaultPace, consumerWaitsMs = defaultConsumerWaitsMs } = its;
  const windows = windowsOf(its);
  const tasks = createTasks(its.log);
  const completion = createCompletion({ ...its, later: tasks.later, consumerWaitsMs });
  const calls = createPeerCalls(its);
  const ask = (account: Account) => askNewest({ ...its, calls, completion }, account);
  const shared = { ...its, calls, completion, askNewest: ask, pace };
  const writer = new StatementWriter({ ...shared, window: windows.provider });
  const watch = startConsumerWatch({ ...shared, window: windows.consumer });
  const sweeping = startSweeping(its, completion.finish);
  for (const role of roles) meters[role].closeLost();
  const take = (account: Account): void => {
    if (account.chain.isFinal) return;
    if (account.info.role === 'provider') writer.take(account);
    else watch.touch(account);
  };
  return {
    consumer: createConsumer({ ...its, account: book.find, completion, isAsked: watch.isAsked }),
    touch: (account) => (account.info.role === 'provider' ? writer : watch).touch(account),
    take,
    request: async (participant, caller, agreement) => {
      const account = await book.find({ participant, role: 'provider', agreement });
      if (account === undefined || counterpartyOf(account.info) !== caller) throw new AppError('not-found');
      if (!writer.request(account)) throw new AppError('too-many-requests', { retryAfterSeconds: 10 });
    },
    writeOff: async (participant, agreement) => {
      for (const role of roles) {
        const account = await book.find({ participant, role, agreement });
        if (account === undefined) continue;
        await writeOff(its, account);
        take(account);
      }
    },
    [Symbol.asyncDispose]: async () => {
      for (const part of [writer, watch, sweeping, tasks]) await part[Symbol.asyncDispose]();
    },
  };
};
