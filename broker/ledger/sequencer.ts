import type { Crypto } from '../../contracts/crypto.ts';
import { AppError, type ErrorCode, isAppError } from '../../contracts/errors.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Candidate } from './admission.ts';
import { type Judged, judgeBatch, wantedOf } from './batch.ts';
import type { KeyBook } from './key-book.pure.ts';
import { endsWriting, lostTo, movedOn } from './moved.ts';
import type { EntryRow, Fence, LogHead, LogStore, NewEntry, Origin, SubjectRow } from './ports.ts';
import { viewOf } from './rules.ts';

/** Steps 2 and 3 of the sequencer (ledger §12): one batch after the other gets its indexes in one durable commit. */

/** What became of a candidate. */
export type Outcome =
  | { readonly kind: 'registered'; readonly entry: EntryRow }
  /** Registered before, or by another submission of the same batch. */
  | { readonly kind: 'duplicate'; readonly entry: EntryRow }
  | { readonly kind: 'equivocation'; readonly index: number }
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly reason: string };

export interface SequencerLimits {
  /** Candidates that may wait for an index; beyond it 503. */
  readonly maxWaiting: number;
  readonly maxBatch: number;
  /** How long the first of a batch waits for others, ms. */
  readonly batchMs: number;
}

export const defaultSequencerLimits: SequencerLimits = { maxWaiting: 10_000, maxBatch: 1_000, batchMs: 100 };

export interface SequencerTools {
  readonly origin: Origin;
  readonly store: LogStore;
  readonly keyBook: KeyBook;
  readonly crypto: Pick<Crypto, 'sha256'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: SequencerLimits;
  /** Of the lease that is written under. */
  readonly fence: Fence;
  /** This writer cannot go on. */
  readonly onFatal: (error: AppError) => void;
  /** Hears of each new head, once it is durable. */
  readonly onCommit: (head: LogHead) => void;
  /** Hears of each entry after that. */
  readonly onEntry: (subject: SubjectRow) => void;
}

interface Waiting {
  readonly candidate: Candidate;
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: AppError) => void;
}

/** What somebody is told who waits for an index from a sequencer that stopped: where another process goes on, that. */
const toldBy = (cause: AppError): AppError =>
  isAppError(cause, 'log-moved') ? cause : new AppError('log-stopped', { cause });

export class Sequencer {
  readonly #tools: SequencerTools;
  #head: LogHead;
  #waiting: Waiting[] = [];
  #stopped: AppError | undefined;
  #isClosing = false;
  #isRunning = false;
  #running: Promise<void> = Promise.resolve();
  #endPause: (() => void) | undefined;

  /** @param head the rows as the start-up checks found them. */
  constructor(tools: SequencerTools, head: LogHead) {
    this.#tools = tools;
    this.#head = head;
  }

  get head(): LogHead {
    return this.#head;
  }

  get isWorking(): boolean {
    return this.#stopped === undefined;
  }

  /**
   * Resolves once the candidate's fate is durable.
   *
   * @throws AppError `busy` when the queue is full, `log-stopped` when this log does not go on, `log-moved` when another
   * process writes it, what the store throws.
   */
  submit(candidate: Candidate): Promise<Outcome> {
    if (this.#stopped !== undefined) return Promise.reject(toldBy(this.#stopped));
    if (this.#isClosing || this.#waiting.length >= this.#tools.limits.maxWaiting)
      return Promise.reject(new AppError('busy', { retryAfterSeconds: 1 }));
    return new Promise((resolve, reject) => {
      this.#waiting.push({ candidate, resolve, reject });
      if (this.#isReady()) this.#endPause?.();
      if (this.#isRunning) return;
      this.#isRunning = true;
      this.#running = this.#run();
    });
  }

  /** Ends everything: nobody gets an index any more until a new start has checked the rows. */
  stop(cause: AppError): void {
    if (this.#stopped !== undefined) return;
    this.#stopped = cause;
    this.#tools.log.error({ origin: this.#tools.origin, code: cause.code }, `the log stops here: ${cause.message}`);
    const left = this.#waiting.splice(0);
    for (const { reject } of left) reject(toldBy(cause));
    this.#endPause?.();
    this.#tools.onFatal(cause);
  }

  /** Takes no more, and resolves when everything that waited has its answer. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#endPause?.();
    await this.#running;
  }

  /** A public entry is rare and ends its batch anyway: it waits for nobody. */
  #isReady(): boolean {
    const hasPublic = this.#waiting.some(({ candidate }) => candidate.subject.kind === 'public');
    return this.#isClosing || hasPublic || this.#waiting.length >= this.#tools.limits.maxBatch;
  }

  async #run(): Promise<void> {
    const { clock, limits } = this.#tools;
    while (this.#waiting.length > 0) {
      if (!this.#isReady()) {
        const pause = new AbortController();
        this.#endPause = () => pause.abort();
        await clock.sleep(limits.batchMs, pause.signal);
        this.#endPause = undefined;
      }
      const batch = this.#takeBatch();
      if (batch.length > 0) await this.#runBatch(batch);
    }
    this.#isRunning = false; // in the same turn as the last look at the queue: nobody waits for ever
  }

  /** A public entry may change which keys count for what comes behind it: a batch ends with the first one. */
  #takeBatch(): Waiting[] {
    const first = this.#waiting.findIndex(({ candidate }) => candidate.subject.kind === 'public');
    const { maxBatch } = this.#tools.limits;
    return this.#waiting.splice(0, first < 0 ? maxBatch : Math.min(maxBatch, first + 1));
  }

  async #runBatch(batch: readonly Waiting[]): Promise<void> {
    const { origin, store, clock, keyBook, crypto, log } = this.#tools;
    try {
      const candidates = batch.map(({ candidate }) => candidate);
      const view = viewOf(await store.load(origin, wantedOf(candidates)));
      const { judged, entries, head } = judgeBatch({ crypto, keyBook, view, now: clock.now() }, this.#head, candidates);
      if (entries.length > 0) await this.#commit(entries, head);
      const outcomes = await this.#outcomes(judged, entries);
      for (const [place, { resolve }] of batch.entries()) {
        const outcome = outcomes[place];
        if (outcome !== undefined) resolve(outcome);
      }
    } catch (cause) {
      const error = cause instanceof AppError ? cause : new AppError('internal-error', { cause });
      for (const { reject } of batch) reject(error);
      if (endsWriting(error)) this.stop(error);
      else log.error({ origin, code: error.code }, `a batch was not committed: ${error.message}`);
    }
  }

  async #commit(entries: readonly NewEntry[], next: LogHead): Promise<void> {
    const { origin, store, keyBook, fence, onCommit, onEntry } = this.#tools;
    const result = await store
      .commit(origin, { from: this.#head.size, head: next, entries, fence })
      .catch((cause: unknown) => this.#whatHappened(next, cause));
    if (result === 'fenced') throw movedOn();
    if (result === 'conflict') throw lostTo(fence, 'another sequencer wrote to this log');
    this.#head = next;
    for (const { subject } of entries) if (subject.kind === 'public') keyBook.add(subject.row);
    onCommit(next);
    for (const { subject } of entries) onEntry(subject);
  }

  /** After an error nobody knows what the commit did: the rows say. Nothing done: the error is the submitters'. */
  async #whatHappened(next: LogHead, cause: unknown): Promise<'committed' | 'conflict'> {
    const found = await this.#tools.store.head(this.#tools.origin).catch((unreadable: unknown) => {
      throw lostTo(this.#tools.fence, 'the rows cannot be read', unreadable);
    });
    if (found?.size === this.#head.size && found.root === this.#head.root) throw cause;
    return found?.size === next.size && found.root === next.root ? 'committed' : 'conflict';
  }

  /** Answers with rows: new ones from this batch, older ones from the store. */
  async #outcomes(judged: readonly Judged[], entries: readonly NewEntry[]): Promise<Outcome[]> {
    const rows = new Map(entries.map(({ entry }) => [entry.index, entry]));
    for (const one of judged) {
      if (one.kind !== 'duplicate' || rows.has(one.index)) continue;
      const [row] = await this.#tools.store.entries(this.#tools.origin, one.index, one.index + 1);
      if (row !== undefined) rows.set(one.index, row);
    }
    return judged.map((one): Outcome => {
      if (one.kind === 'append') return { kind: 'registered', entry: one.row };
      if (one.kind !== 'duplicate') return one;
      const entry = rows.get(one.index);
      if (entry === undefined) throw new AppError('invariant-broken', { detail: `entry ${one.index} is gone` });
      return { kind: 'duplicate', entry };
    });
  }
}
