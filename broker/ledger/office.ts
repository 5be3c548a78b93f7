import { AppError, type ErrorCode } from '../../contracts/errors.ts';
import { movedOn } from './moved.ts';
import type { Fence } from './ports.ts';
import type { Replica } from './replica.ts';
import type { LogProcesses, Term, WritingTools } from './term.ts';

/**
 * Who writes (ledger §12 "one writer per origin, held by a lease"). Alone with its log a process is in office from its start
 * to its end. Among several, whoever has the lease is, and the others read; one that dies is followed when its lease ends.
 */

const defaultLeaseMs = 6_000;
const renewalsPerLease = 4;
/** Behind these a process writes no more until its operator has looked. */
const forGood: readonly ErrorCode[] = ['backup-restored', 'data-damaged', 'invariant-broken', 'log-stopped'];
/** Another process gave the lease back: one of those that hear it takes over at once. */
const releasedChannel = 'log-released';
/** Work of the writer that did not begin is begun again after this, ms. */
const againMs = 1_000;

export interface OfficeTools extends Pick<WritingTools, 'origin' | 'clock' | 'log' | 'processes'> {
  readonly replica: Replica;
  /** Begins to write: checks first, then the first entry of a new log. @throws AppError when this process may not write. */
  readonly begin: (its: {
    readonly fence: Fence;
    readonly onFatal: (error: AppError) => void;
    readonly enter: (term: Term) => void;
  }) => Promise<void>;
  /** A process that does not write looks whether the log is the one it was made for. @throws AppError `data-damaged`. */
  readonly check: () => Promise<void>;
}

/** Work that only the writer does. */
interface Duty {
  readonly begin: () => Promise<AsyncDisposable>;
  running: { readonly stop: AbortController; readonly work: Promise<AsyncDisposable | undefined> } | undefined;
}

/** A class because it lives: it takes and keeps the lease, and begins and ends with it what only the writer does. */
export class Office {
  readonly #tools: OfficeTools;
  readonly #closing = new AbortController();
  readonly #duties = new Set<Duty>();
  readonly #ready = Promise.withResolvers<void>();
  #isReady = false;
  #term: Term | undefined;
  #isOpen = false;
  /** By our own clock: behind it somebody else may write, whatever we have not heard yet. */
  #until = Number.POSITIVE_INFINITY;
  #stopped: AppError | undefined;
  #serving: Promise<void> = Promise.resolve();

  private constructor(tools: OfficeTools) {
    this.#tools = tools;
  }

  /**
   * Answers once this process writes, or once the log that another one writes is there to read.
   *
   * @throws AppError `backup-restored`, `data-damaged`.
   */
  static async open(tools: OfficeTools): Promise<Office> {
    const office = new Office(tools);
    const { processes } = tools;
    if (processes === undefined) {
      await office.#enter(null, () => undefined);
      return office;
    }
    office.#serving = office.#serve(processes);
    try {
      await office.#ready.promise;
    } catch (error) {
      await office.close();
      throw error;
    }
    return office;
  }

  /** The term that runs, when this process writes now. */
  get term(): Term | undefined {
    return this.#tools.clock.now() < this.#until ? this.#term : undefined;
  }

  /** Why this process writes no more, when that needs its operator. */
  get stopped(): AppError | undefined {
    return this.#stopped;
  }

  /**
   * Work of the writer alone: begun now when this process writes, and whenever it begins to; ended with that, or when the
   * answer is disposed. Resolves once it was begun, or did not begin at the first attempt and is begun again soon.
   */
  async whileWriting(begin: Duty['begin']): Promise<AsyncDisposable> {
    const duty: Duty = { begin, running: undefined };
    this.#duties.add(duty);
    if (this.#isOpen) await this.#beginDuty(duty);
    return {
      [Symbol.asyncDispose]: async () => {
        this.#duties.delete(duty);
        await this.#endDuty(duty);
      },
    };
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#serving;
    if (this.#tools.processes === undefined) await this.#leave(undefined);
  }

  async #enter(fence: Fence, onFatal: (error: AppError) => void): Promise<void> {
    await this.#tools.begin({
      fence,
      onFatal,
      enter: (term) => {
        this.#term = term;
      },
    });
    this.#isOpen = true;
    for (const duty of this.#duties) void this.#beginDuty(duty);
  }

  /** Ends the term: in order, or because it must. */
  async #leave(reason: AppError | undefined): Promise<void> {
    const term = this.#term;
    if (reason !== undefined) this.#term = undefined;
    this.#isOpen = false;
    if (reason === undefined) await term?.close();
    else await term?.abandon(reason);
    // Behind the last checkpoint: what hears of it takes it in before it ends.
    await Promise.all([...this.#duties].map((duty) => this.#endDuty(duty)));
  }

  /** Resolves behind the first attempt. */
  #beginDuty(duty: Duty): Promise<void> {
    const { clock, log, origin } = this.#tools;
    const stop = new AbortController();
    const attempted = Promise.withResolvers<void>();
    const work = async (): Promise<AsyncDisposable | undefined> => {
      while (!stop.signal.aborted) {
        try {
          return await duty.begin();
        } catch (err) {
          log.error({ origin, err }, 'work of the writer did not begin');
        } finally {
          attempted.resolve();
        }
        await clock.sleep(againMs, stop.signal);
      }
      return undefined;
    };
    duty.running = { stop, work: work() };
    return attempted.promise;
  }

  async #endDuty(duty: Duty): Promise<void> {
    const { running } = duty;
    duty.running = undefined;
    running?.stop.abort();
    await (await running?.work)?.[Symbol.asyncDispose]();
  }

  async #serve(processes: LogProcesses): Promise<void> {
    const { log, origin, clock } = this.#tools;
    const leaseMs = processes.leaseMs ?? defaultLeaseMs;
    let awake = Promise.withResolvers<void>();
    const forget = processes.wakeups.listen(releasedChannel, () => awake.resolve());
    while (!this.#closing.signal.aborted) {
      awake = Promise.withResolvers();
      const wasInOffice = await this.#round(processes, leaseMs).catch((err: unknown) => {
        log.error({ origin, err }, 'the lease of the log was not looked at');
        return false;
      });
      if (wasInOffice || this.#closing.signal.aborted) continue;
      const slept = new AbortController();
      const signal = AbortSignal.any([this.#closing.signal, slept.signal]);
      await Promise.race([awake.promise, clock.sleep(leaseMs / renewalsPerLease, signal)]);
      slept.abort();
    }
    forget();
  }

  #becomeReady(): void {
    this.#isReady = true;
    this.#ready.resolve();
  }

  /** Takes the lease and serves until it ends; otherwise looks at what the writer did. @returns whether it served. */
  async #round(processes: LogProcesses, leaseMs: number): Promise<boolean> {
    const { clock, replica } = this.#tools;
    const before = clock.now();
    const fence = this.#stopped === undefined ? await processes.lease.take(leaseMs) : undefined;
    if (fence !== undefined) {
      this.#until = before + leaseMs;
      return await this.#hold(processes, leaseMs, fence);
    }
    await replica.refresh();
    if (this.#isReady || (replica.head()?.size ?? 0) === 0) return false;
    await this.#tools.check().then(
      () => this.#becomeReady(),
      (error: unknown) => this.#ready.reject(error),
    );
    return false;
  }

  /** One term, from the lease to its end. @returns whether it began. */
  async #hold(processes: LogProcesses, leaseMs: number, fence: number): Promise<boolean> {
    const { log, origin } = this.#tools;
    const over = Promise.withResolvers<AppError | undefined>();
    const end = new AbortController();
    const onClosing = () => over.resolve(undefined);
    this.#closing.signal.addEventListener('abort', onClosing, { signal: end.signal });
    if (this.#closing.signal.aborted) onClosing();
    const keeping = this.#keep(processes, {
      leaseMs,
      fence,
      signal: end.signal,
      onLost: () => over.resolve(movedOn()),
    });
    const reason = await this.#serveTerm(fence, over);
    const hasBegun = this.#isOpen;
    await this.#leave(reason);
    this.#term = undefined;
    end.abort();
    await keeping;
    if (reason !== undefined) this.#note(reason);
    await processes.lease
      .release(fence)
      .catch((err: unknown) => log.warn({ origin, err }, 'a lease was not given back'));
    processes.wakeups.notify(releasedChannel);
    return hasBegun;
  }

  /** What must not be tried again, or not by a process that only starts. */
  #note(reason: AppError): void {
    const { log, origin } = this.#tools;
    const { code } = reason;
    const isForGood = code !== 'log-moved' && (!this.#isReady || forGood.includes(code));
    const told = isForGood ? 'this process does not write the log any more' : 'this process wrote the log until now';
    log.error({ origin, code, err: reason }, told);
    if (!isForGood) return;
    this.#stopped = reason;
    this.#ready.reject(reason);
  }

  /** @returns why the term ended; undefined when this process closes. */
  async #serveTerm(fence: number, over: PromiseWithResolvers<AppError | undefined>): Promise<AppError | undefined> {
    const { log, origin } = this.#tools;
    try {
      await this.#enter(fence, over.resolve);
      log.info({ origin, fence }, 'this process writes the log');
      this.#becomeReady();
      return await over.promise;
    } catch (cause) {
      return cause instanceof AppError ? cause : new AppError('internal-error', { cause });
    }
  }

  /** Keeps the lease while the term runs, its start-up checks too. */
  async #keep(
    { lease }: LogProcesses,
    its: {
      readonly leaseMs: number;
      readonly fence: number;
      readonly signal: AbortSignal;
      readonly onLost: () => void;
    },
  ): Promise<void> {
    const { clock, log, origin } = this.#tools;
    const { leaseMs, fence, signal, onLost } = its;
    while (!signal.aborted) {
      await clock.sleep(leaseMs / renewalsPerLease, signal);
      if (signal.aborted) return;
      const before = clock.now();
      try {
        if (!(await lease.renew(fence, leaseMs))) return onLost();
        this.#until = before + leaseMs;
      } catch (err) {
        log.warn({ origin, err }, 'the lease of the log was not renewed');
      }
    }
  }
}
