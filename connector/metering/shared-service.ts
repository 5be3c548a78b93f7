import { textOf, utf8 } from '../../contracts/bytes.ts';
import { AppError, isAppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { StatementDraft } from '../../contracts/ledger/draft.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import { type FilePort, writeWhole } from '../../kernel/files.ts';
import type { Term } from '../../kernel/sql/leased-part.ts';
import type { PartCalls } from '../../kernel/sql/part-calls.ts';
import type { Wakeups } from '../../kernel/wakeups.ts';
import { createBook, createMeters, heldFor, roles, type StatementOptions, windowsOf } from './books.ts';
import { openJournal, recoverJournals } from './journal-folders.ts';
import { createPagedDrafts } from './pages.ts';
import { counterpartyOf } from './peer-calls.ts';
import type { AccountKey, JournalMarkStore, MeterRole, SignedSeqs, WindowStore } from './ports.ts';
import { createStatementRoutes, type StatementRoutes } from './routes.ts';
import { createRowLender, type RowLender } from './row-lender.ts';
import type { Metering } from './service.ts';
import { openSharedBooks, type SharedBooks } from './shared-books.ts';
import { createUsageQueries } from './usage.ts';
import { defaultQuota } from './window.pure.ts';

/**
 * Metering of a connector of several processes on the same rows. Each has journals of its own and opens accesses out of blocks
 * that it leases from the rows; one of them, whichever has the lease, writes the statements of all.
 */

export interface SharedMeteringOptions extends Omit<StatementOptions, 'seqs'> {
  readonly files: FilePort;
  /** Of this process's journals, outside the backup of the rows. */
  readonly folder: string;
  readonly marks: JournalMarkStore;
  readonly windows: WindowStore;
  readonly wakeups: Wakeups;
  /** To the process that writes the statements. */
  readonly calls: PartCalls;
  /** Begins the part that writes the statements whenever this process has its lease. */
  readonly lead: (begin: (term: Term) => Promise<AsyncDisposable>) => AsyncDisposable;
  /** Opens the record of what was signed, which all processes share; once in each term. */
  readonly openSeqs: () => Promise<SignedSeqs>;
  /** A UUID, never used before. */
  readonly newId: () => string;
  readonly segmentBytes?: number;
}

/** An account changed in the rows. */
const usageChannel = 'usage';
/** Whoever has something of a window and does not use it gives it back. */
const recallChannel = 'recall';

/** The name under which a folder's journals are known in the rows: drawn once, and kept in it. */
const folderId = async ({ files, folder, newId }: SharedMeteringOptions): Promise<string> => {
  const path = `${folder}/id`;
  const known = textOf((await files.read(path)) ?? new Uint8Array());
  if (known !== undefined && known !== '') return known;
  const id = newId();
  await writeWhole(files, path, utf8(id));
  return id;
};

const isJournal = (name: string): boolean => /^(provider|consumer)(\.|$)/.test(name);
const roleOf = (journal: string): MeterRole => (journal.startsWith('provider') ? 'provider' : 'consumer');

type Lenders = Readonly<Record<MeterRole, RowLender>>;

interface Told {
  readonly role: MeterRole;
  readonly agreement: string;
  readonly isEnded: boolean;
}

const tellRecall = ({ wakeups }: SharedMeteringOptions, told: Told): void =>
  wakeups.notify(recallChannel, JSON.stringify(told));

const createLenders = (its: SharedMeteringOptions, tellUsage: (key: AccountKey) => void): Lenders => {
  const windows = windowsOf(its);
  const lenderOf = (role: MeterRole) =>
    createRowLender({
      role,
      store: its.windows,
      marks: its.marks,
      window: windows[role],
      quota: its.quota ?? defaultQuota,
      clock: its.clock,
      log: its.log,
      newId: its.newId,
      tellRecall: (agreement, isEnded) => tellRecall(its, { role, agreement, isEnded }),
      changed: tellUsage,
    });
  return { provider: lenderOf('provider'), consumer: lenderOf('consumer') };
};

const hearRecalls = ({ wakeups, log }: SharedMeteringOptions, lenders: Lenders): (() => void) =>
  wakeups.listen(recallChannel, (payload) => {
    if (payload === '') return; // what was missed is asked for again, and a block that is not renewed ends by itself
    const { role, agreement, isEnded } = JSON.parse(payload) as Told; // by `tellRecall`
    lenders[role]
      .recalled(agreement, isEnded)
      .catch((error: unknown) => log.warn({ error, agreement }, 'what is not used was not given back'));
  });

/** What others ask of the process that writes the statements; each may come twice. */
interface Asked {
  readonly participant: ParticipantId;
  readonly caller: Did;
}

/** JSON as it travels: our own types hold nothing that JSON does not. */
const asJson = (value: unknown): Json => value as Json;

const handlersOf = ({ consumer, request, writeOff, refresh }: SharedBooks) => {
  /** Nothing is denied that another process fetched a moment ago. */
  const draft = async (participant: ParticipantId, caller: Did, received: StatementDraft): Promise<Json> => {
    await refresh({ participant, role: 'consumer', agreement: received.payload.agreementDigest });
    return consumer.draft(participant, caller, received);
  };
  const page = createPagedDrafts(draft);
  const handler =
    <Body>(work: (body: Body) => Promise<unknown>) =>
    async (body: Json): Promise<Json> =>
      asJson((await work(body as Body)) ?? null); // sent by `askingBooks` of this program
  return {
    draft: handler<Asked & { draft: StatementDraft }>((asked) => draft(asked.participant, asked.caller, asked.draft)),
    page: handler<Asked & { text: string }>(({ participant, caller, text }) => page(participant, caller, utf8(text))),
    signed: handler<Asked & { artifact: Json }>((asked) =>
      consumer.signed(asked.participant, asked.caller, asked.artifact),
    ),
    request: handler<Asked & { agreement: string }>((asked) =>
      request(asked.participant, asked.caller, asked.agreement),
    ),
    'write-off': handler<{ participant: ParticipantId; agreement: string }>((asked) =>
      writeOff(asked.participant, asked.agreement),
    ),
  };
};

/** The same as a process asks it that may not be the one. */
const askingBooks = ({ calls }: SharedMeteringOptions) => {
  const ask = async <Answer>(name: keyof ReturnType<typeof handlersOf>, body: object): Promise<Answer> =>
    (await calls.call(name, asJson(body))) as Answer; // made by `handlersOf` of this program
  return {
    consumer: {
      draft: (participant: ParticipantId, caller: Did, draft: StatementDraft) =>
        ask<Json>('draft', { participant, caller, draft }),
      signed: (participant: ParticipantId, caller: Did, artifact: unknown) =>
        ask<GeneralJws>('signed', { participant, caller, artifact }),
    },
    page: (participant: ParticipantId, caller: Did, bytes: Uint8Array) =>
      ask<{ received: readonly number[] } | { answer: Json }>('page', {
        participant,
        caller,
        text: textOf(bytes) ?? '',
      }),
    request: async (participant: ParticipantId, caller: Did, agreement: string): Promise<void> => {
      await ask('request', { participant, caller, agreement });
    },
    writeOff: async (participant: ParticipantId, agreement: string): Promise<void> => {
      await ask('write-off', { participant, agreement });
    },
  };
};

const maxKnownProviders = 10_000;

const answersOf = (its: SharedMeteringOptions): StatementRoutes => {
  const providers = new Set<string>();
  return {
    ...askingBooks(its),
    hasProvider: async (participant, caller) => {
      const name = `${participant} ${caller}`;
      if (providers.has(name)) return true;
      const all = await its.accounts.list(participant);
      const isTheirs = all.some(({ info }) => info.role === 'consumer' && info.provider === caller);
      if (providers.size >= maxKnownProviders) providers.clear();
      if (isTheirs) providers.add(name);
      return isTheirs;
    },
    held: async (participant, caller, agreement, seq) => {
      for (const role of roles) {
        const stored = await its.accounts.find({ participant, role, agreement });
        if (stored !== undefined && counterpartyOf(stored.info) === caller) return heldFor(its, stored.info, seq);
      }
      throw new AppError('not-found');
    },
  };
};

/** Accounts as the rows have them now: for people who ask, in any process. */
const accountInRows = (its: SharedMeteringOptions) => (key: AccountKey) =>
  createBook(its, createMeters(its, { onChange: () => undefined })).find(key);

/** A record that another process has opened since belongs to that one: our term is over. */
const claimOrEnd = async (signed: SignedSeqs, term: Term, asked: Parameters<SignedSeqs['claim']>): Promise<boolean> => {
  try {
    return await signed.claim(...asked);
  } catch (error) {
    if (isAppError(error, 'data-in-use')) term.end();
    throw error;
  }
};

/** One term of the process that writes the statements. What it signs after it lost the lease is nowhere sent. */
const beginTerm = async (its: SharedMeteringOptions, term: Term): Promise<AsyncDisposable> => {
  await using stack = new AsyncDisposableStack();
  const signed = await its.openSeqs();
  const seqs: SignedSeqs = {
    newest: signed.newest,
    claim: async (...asked) => (await term.isHeld()) && claimOrEnd(signed, term, asked),
  };
  const books = stack.use(await openSharedBooks({ ...its, seqs, giveUp: term.end }));
  stack.defer(
    its.wakeups.listen(usageChannel, (payload) => {
      if (payload === '') books.lookAtAll();
      else books.look(JSON.parse(payload) as AccountKey); // by `tellUsage`
    }),
  );
  stack.use(its.calls.serve(handlersOf(books)));
  its.log.info({}, 'this process writes the statements');
  const whole = stack.move();
  return { [Symbol.asyncDispose]: () => whole.disposeAsync() };
};

/** Opens this process's journals, and writes the statements of all processes while it has the lease. */
export const startSharedMetering = async (its: SharedMeteringOptions): Promise<Metering> => {
  await using stack = new AsyncDisposableStack();
  const tellUsage = ({ participant, role, agreement }: AccountKey): void =>
    its.wakeups.notify(usageChannel, JSON.stringify({ participant, role, agreement }));
  const lenders = createLenders(its, tellUsage);
  for (const role of roles) stack.use(lenders[role]);
  stack.defer(hearRecalls(its, lenders));
  const id = await folderId(its);
  const journals = { provider: `provider.${id}`, consumer: `consumer.${id}` };
  const own = Object.values(journals);
  // Also those that were brought here from elsewhere.
  await recoverJournals(
    its,
    (name) => isJournal(name) && !own.includes(name),
    (name) => lenders[roleOf(name)],
  );
  const provider = stack.use(await openJournal(its, journals.provider, lenders.provider));
  const consumer = stack.use(await openJournal(its, journals.consumer, lenders.consumer));
  stack.use(its.lead((term) => beginTerm(its, term)));
  const whole = stack.move();
  return {
    meters: { provider: provider.meter, consumer: consumer.meter },
    lender: lenders.provider,
    journalOf: (worker) => `${journals.provider}.${worker}`,
    routes: (options) => createStatementRoutes(answersOf(its), options),
    agreementInForce: async (info) => {
      await its.accounts.put(info);
      tellUsage(info);
    },
    agreementEnded: async (participant, agreement) => {
      for (const role of roles) {
        const stored = await its.accounts.find({ participant, role, agreement });
        if (stored === undefined) continue;
        await its.accounts.change(stored.info, { isEnded: true });
        tellRecall(its, { role, agreement, isEnded: true });
        await lenders[role].recalled(agreement, true);
        tellUsage(stored.info);
      }
    },
    writeOff: askingBooks(its).writeOff,
    usage: createUsageQueries({ ...its, account: accountInRows(its) }),
    [Symbol.asyncDispose]: () => whole.disposeAsync(),
  };
};
