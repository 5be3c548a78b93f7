import type { FinalAnchor } from '../../contracts/anchor/served.ts';
import { isAppError } from '../../contracts/errors.ts';
import { type Checkpoint, readNote } from '../../contracts/ledger/note.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { createEvmDriver, type EvmDriverOptions, submissionId } from './driver.ts';
import { createFinals, type Finals } from './finals.ts';
import type { AnchorDriver, AnchorRow, AnchorStore, AnchorTarget } from './ports.ts';
import type { AnchorPace } from './rules.ts';

/**
 * Anchoring as a service (anchoring §1, §5): takes the newest checkpoint at most once in an interval, moves it to its end,
 * and serves what is final. A dead chain delays nothing here; it raises an alarm by the age of what waits.
 */

/**
 * `intervalMs`: a checkpoint is anchored at most this often; `pollMs`: how often the chain is looked at while something is
 * on its way; `alarmMs`: what waits longer than this for a final anchor raises an alarm.
 */
export interface AnchoringOptions extends Omit<EvmDriverOptions, 'onWait'>, AnchorPace {}

/** For the operator. */
export interface AnchoringStatus {
  readonly newestFinal: FinalAnchor | null;
  /** Checkpoints on their way, by size. */
  readonly open: readonly Pick<AnchorRow, 'size' | 'state' | 'attempts' | 'place' | 'createdAt'>[];
  /** Since when something waits for a final anchor, ms; null when nothing does. */
  readonly waitingSince: number | null;
  /** What it waits for, or why anchoring stopped. */
  readonly reason: string | null;
  /** It goes on only after a restart. */
  readonly isStopped: boolean;
}

/** What is under way when anchoring stops may take this long. */
const graceMs = 5_000;

interface Fed {
  readonly note: string;
  readonly size: number;
  readonly at: number;
}

/** A class because it lives: one loop that wakes with each checkpoint. */
export class Anchoring {
  /** What is final, at this contract or at an earlier one. */
  readonly finals: Finals['finals'];
  readonly covering: Finals['covering'];
  readonly #target: AnchorTarget;
  readonly #store: AnchorStore;
  readonly #driver: AnchorDriver;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #options: Pick<AnchoringOptions, 'intervalMs' | 'pollMs' | 'alarmMs'>;
  readonly #closing = new AbortController();
  #awake: PromiseWithResolvers<void> = Promise.withResolvers();
  #loop: Promise<void> = Promise.resolve();
  #newest: Fed | undefined;
  #submittedSize: number;
  #submittedAt: number;
  #isBusy = true;
  /** What a look that is under way hears, what the last one heard, and what of it was said already. */
  #heard: string | null = null;
  #reason: string | null = null;
  #said: string | null = null;
  #isStopped = false;
  #stoppedBecause: string | null = null;
  #alarmedAt = Number.NEGATIVE_INFINITY;
  #isLate = false;

  private constructor(options: AnchoringOptions, last: AnchorRow | undefined) {
    this.#target = options.target;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#options = options;
    const { finals, covering } = createFinals(options.store, options.target.origin);
    this.finals = finals;
    this.covering = covering;
    this.#driver = createEvmDriver({ ...options, onWait: (reason) => this.#wait(reason) });
    this.#submittedSize = last?.size ?? 0;
    this.#submittedAt = last?.createdAt ?? Number.NEGATIVE_INFINITY;
  }

  /** Goes on where the rows left off. Asks nothing of the chain: a node that is gone delays no start. */
  static async start(options: AnchoringOptions): Promise<Anchoring> {
    const { store, target } = options;
    const open = await store.open(target);
    const finals = await store.finals(target.origin, { target, newestFirst: true, limit: 1 });
    const [last] = [...finals, ...open].toSorted((a, b) => b.size - a.size);
    const anchoring = new Anchoring(options, last);
    anchoring.#loop = anchoring.#run();
    return anchoring;
  }

  /** Hears of every published checkpoint; the newest of them is anchored when its time comes. Never throws. */
  readonly feed = (note: string): void => {
    const read = readNote(note);
    if (!read.ok) {
      this.#log.error({ origin: this.#target.origin, reason: read.reason }, 'a checkpoint cannot be anchored');
      return;
    }
    this.#take(read.value.checkpoint, note);
    this.#awake.resolve();
  };

  /** Whether something waits for a final anchor for longer than it should, or anchoring stopped; as of the last look. */
  get isLate(): boolean {
    return this.#isLate || this.#isStopped;
  }

  async status(): Promise<AnchoringStatus> {
    const open = await this.#store.open(this.#target);
    const [newest] = await this.finals({ limit: 1 });
    return {
      newestFinal: newest ?? null,
      open: open.map(({ size, state, attempts, place, createdAt }) => ({ size, state, attempts, place, createdAt })),
      waitingSince: this.#waitingSince(open),
      reason: this.#stoppedBecause ?? this.#reason,
      isStopped: this.#isStopped,
    };
  }

  /** Stops looking at the chain; what was published and not taken yet is queued, so that nothing is lost. */
  async close(): Promise<void> {
    this.#closing.abort();
    const waited = new AbortController();
    // A node that does not answer holds up no stop, and neither does the timer of this.
    await Promise.race([this.#loop, this.#clock.sleep(graceMs, waited.signal)]);
    waited.abort();
    await this.#submitNewest();
  }

  #take({ size }: Checkpoint, note: string): void {
    if (size <= (this.#newest?.size ?? this.#submittedSize)) return;
    const isNews = this.#newest === undefined || this.#newest.size <= this.#submittedSize;
    this.#newest = { note, size, at: isNews ? this.#clock.now() : (this.#newest?.at ?? 0) };
  }

  #wait(reason: string, err?: unknown): void {
    this.#heard = reason;
    if (reason === this.#said) return;
    this.#said = reason;
    this.#log.warn({ ...this.#target, reason, ...(err === undefined ? {} : { err }) }, 'an anchor waits');
  }

  get #waiting(): Fed | undefined {
    return this.#newest !== undefined && this.#newest.size > this.#submittedSize ? this.#newest : undefined;
  }

  /** How long until the newest checkpoint may be submitted; undefined when there is nothing new. */
  get #dueInMs(): number | undefined {
    if (this.#waiting === undefined) return undefined;
    const since = this.#clock.now() - this.#submittedAt;
    return since < 0 ? 0 : Math.max(0, this.#options.intervalMs - since); // a clock that jumped back delays nothing
  }

  async #submitNewest(): Promise<void> {
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    await this.#driver.submit(waiting.note);
    this.#submittedSize = waiting.size;
    this.#submittedAt = this.#clock.now();
  }

  /** Takes what is due, and moves everything that is on its way. */
  async #step(): Promise<void> {
    if (this.#dueInMs === 0 && !this.#isStopped) await this.#submitNewest();
    const open = await this.#store.open(this.#target);
    this.#isBusy = open.length > 0;
    for (const { size } of open) {
      if (this.#closing.signal.aborted) return;
      const state = await this.#driver.poll(submissionId(this.#target, size));
      if (state === 'refused') await this.#stop(size);
    }
  }

  /** What the contract will never take, or should never have: going on could only make it worse. */
  async #stop(size: number): Promise<void> {
    const row = await this.#store.find(this.#target, size);
    this.#isStopped = true;
    this.#stoppedBecause = row?.reason ?? null;
    this.#log.error({ ...this.#target, size, reason: row?.reason }, 'anchoring stopped: it needs its operator');
  }

  #waitingSince(open: readonly AnchorRow[]): number | null {
    const waiting = this.#waiting === undefined ? [] : [this.#waiting.at];
    const times = [...open.map(({ createdAt }) => createdAt), ...waiting];
    return times.length === 0 ? null : Math.min(...times);
  }

  async #checkAge(): Promise<void> {
    const since = this.#waitingSince(await this.#store.open(this.#target));
    const now = this.#clock.now();
    const { alarmMs } = this.#options;
    this.#isLate = since !== null && now - since >= alarmMs;
    if (since === null || !this.#isLate || now - this.#alarmedAt < alarmMs) return;
    this.#alarmedAt = now;
    this.#log.error({ ...this.#target, ageMs: now - since, reason: this.#reason }, 'no final anchor for too long');
  }

  /** Runs one part of the loop; what fails is said once, and tried again at the next look. */
  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#wait(isAppError(error) ? (error.detail ?? error.title) : 'something went wrong here', error);
    }
  }

  async #run(): Promise<void> {
    while (!this.#closing.signal.aborted) {
      this.#awake = Promise.withResolvers();
      this.#heard = null;
      await this.#attempt(() => this.#step());
      this.#reason = this.#heard;
      if (this.#reason === null) this.#said = null;
      await this.#attempt(() => this.#checkAge());
      await this.#pause();
    }
  }

  /** Until the next look, or until something new may be submitted, or is there at all. */
  async #pause(): Promise<void> {
    const due = this.#isStopped ? undefined : this.#dueInMs;
    const slept = new AbortController();
    const ms = Math.max(1, Math.min(this.#options.pollMs, due ?? this.#options.pollMs));
    const wait = this.#clock.sleep(ms, AbortSignal.any([this.#closing.signal, slept.signal]));
    await (this.#isBusy || due !== undefined ? wait : Promise.race([wait, this.#awake.promise]));
    slept.abort();
  }
}
