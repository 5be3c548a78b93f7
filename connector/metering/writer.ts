import { parseTime } from '../../contracts/time.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { type Account, isInUse } from './account.ts';
import { pauseBefore } from './cut.pure.ts';
import { counterpartyOf } from './peer-calls.ts';
import { createWork, cutOf, type ProviderOptions, type StepResult, step, type Work } from './provider.ts';

/**
 * The agreements' statement writer: one for each agreement, at most one step under way in each, so that numbers are given
 * without a lock (ledger §7). Work that waits for a slow counterparty holds up that counterparty only.
 */

export interface Pace {
  /** 1 s, doubling to 60 s (wire §9). */
  readonly firstMs: number;
  readonly longestMs: number;
}

export interface WriterOptions extends ProviderOptions {
  readonly pace: Pace;
  readonly log: Logger;
  readonly clock: Clock;
}

interface Job {
  readonly work: Work;
  dueAt: number;
  attempts: number;
  isRunning: boolean;
  askedAt: number;
}

const maxRunning = 32;
const maxRunningPerPeer = 4;
const pollMs = 1_000;
/** wire §6 */
const askAgainMs = 10_000;
const never = Number.POSITIVE_INFINITY;

const peerOf = ({ work }: Job): string => `${work.account.info.participant} ${counterpartyOf(work.account.info)}`;

export class StatementWriter implements AsyncDisposable {
  readonly #its: WriterOptions;
  readonly #jobs = new Map<string, Job>();
  /** Those with a time at which they are looked at; agreements may be many, and most of them are idle. */
  readonly #scheduled = new Set<Job>();
  readonly #stopped = new AbortController();
  readonly #running = new Set<Promise<void>>();
  readonly #busyPeers = new Map<string, number>();
  readonly #looping: Promise<void>;
  #awake = Promise.withResolvers<void>();

  constructor(options: WriterOptions) {
    this.#its = options;
    this.#looping = this.#loop().catch((error: unknown) =>
      options.log.error({ error }, 'the statement writer stopped'),
    );
  }

  /** Something changed in an account: looks whether a statement is due. Cheap, and called often. */
  touch(account: Account): void {
    const job = this.#jobOf(account);
    if (job.isRunning || job.attempts > 0) return; // it looks again by itself
    const at = this.#idleUntil(job);
    if (at < job.dueAt) this.#schedule(job, at);
  }

  /**
   * Takes an account up: asks for the newest statement, goes on with what was under way. One that was never used asks
   * before its first statement.
   */
  take(account: Account): void {
    if (!isInUse(account)) return;
    this.#schedule(this.#jobOf(account), this.#its.clock.now());
  }

  /** The consumer asks for a statement; false when it asked within the last 10 s. */
  request(account: Account): boolean {
    const job = this.#jobOf(account);
    const now = this.#its.clock.now();
    if (Math.abs(now - job.askedAt) < askAgainMs) return false;
    job.askedAt = now;
    job.work.isRequested = true;
    if (!job.isRunning) this.#schedule(job, now);
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort();
    this.#awake.resolve();
    await this.#looping;
    await Promise.all(this.#running);
  }

  #jobOf(account: Account): Job {
    const known = this.#jobs.get(account.info.agreement);
    if (known !== undefined) return known;
    const job = { work: createWork(account), dueAt: never, attempts: 0, isRunning: false, askedAt: -askAgainMs };
    this.#jobs.set(account.info.agreement, job);
    return job;
  }

  /** When an account without anything under way must be looked at again. */
  #idleUntil({ work }: Job): number {
    if (cutOf(this.#its, work) !== 'none') return this.#its.clock.now();
    if (work.account.counts.closed === 0) return never;
    return (parseTime(work.account.chain.to) ?? 0) + this.#its.intervalMs;
  }

  #schedule(job: Job, at: number): void {
    job.dueAt = at;
    if (at < never) this.#scheduled.add(job);
    else this.#scheduled.delete(job);
    if (at <= this.#its.clock.now() + pollMs) this.#awake.resolve();
  }

  #after(job: Job, result: StepResult): void {
    const { account } = job.work;
    if (account.chain.isFinal) {
      this.#jobs.delete(account.info.agreement);
      this.#scheduled.delete(job);
      return;
    }
    job.attempts = result === 'later' ? job.attempts + 1 : 0;
    const { clock, pace } = this.#its;
    const at = result === 'later' ? clock.now() + pauseBefore(job.attempts - 1, pace) : this.#idleUntil(job);
    this.#schedule(job, at);
  }

  async #run(job: Job): Promise<void> {
    let result: StepResult = 'later';
    try {
      do {
        result = await step(this.#its, job.work);
        if (result === 'again') job.attempts = 0;
      } while (result === 'again' && !this.#stopped.signal.aborted && !job.work.account.chain.isFinal);
    } catch (error) {
      this.#its.log.error({ error, agreement: job.work.account.info.agreement }, 'a statement could not go on');
      job.work.isAsked = false; // what is kept is read again
    }
    this.#after(job, result);
  }

  #start(job: Job): void {
    const peer = peerOf(job);
    const busy = this.#busyPeers.get(peer) ?? 0;
    if (this.#running.size >= maxRunning || busy >= maxRunningPerPeer) return; // woken by whoever leaves its place
    this.#busyPeers.set(peer, busy + 1);
    job.isRunning = true;
    const tracked: Promise<void> = this.#run(job).finally(() => {
      job.isRunning = false;
      const left = (this.#busyPeers.get(peer) ?? 1) - 1;
      if (left > 0) this.#busyPeers.set(peer, left);
      else this.#busyPeers.delete(peer);
      this.#running.delete(tracked);
      this.#awake.resolve();
    });
    this.#running.add(tracked);
  }

  /** Starts what is due. The answer is when to look again. */
  #startDue(): number {
    const now = this.#its.clock.now();
    const latest = now + Math.max(this.#its.pace.longestMs, this.#its.intervalMs);
    let next = now + pollMs;
    for (const job of this.#scheduled) {
      if (job.isRunning) continue;
      if (job.dueAt > latest) job.dueAt = now; // our clock jumped back
      if (job.dueAt <= now) this.#start(job);
      else next = Math.min(next, job.dueAt);
    }
    return Math.max(1, next - now);
  }

  async #loop(): Promise<void> {
    const { clock } = this.#its;
    while (!this.#stopped.signal.aborted) {
      this.#awake = Promise.withResolvers<void>();
      const pause = this.#startDue();
      const slept = new AbortController();
      await Promise.race([this.#awake.promise, clock.sleep(pause, slept.signal)]);
      slept.abort();
    }
  }
}
