import type { Crypto } from '../../contracts/crypto.ts';
import type { AppError } from '../../contracts/errors.ts';
import type { VerifierKey } from '../../contracts/ledger/note.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Wakeups } from '../../kernel/wakeups.ts';
import type { Candidate } from './admission.ts';
import { startIntake } from './handover.ts';
import { movedOn } from './moved.ts';
import type {
  ChainHead,
  CheckpointFeed,
  Fence,
  HandoverStore,
  LogFiles,
  LogHead,
  LogKeys,
  LogStore,
  Origin,
  Published,
  SignedStore,
  SubjectRow,
  WitnessRound,
  WriterLease,
} from './ports.ts';
import { Publisher } from './publisher.ts';
import type { Replica } from './replica.ts';
import { defaultSequencerLimits, type Outcome, Sequencer, type SequencerLimits } from './sequencer.ts';
import { checkStart } from './start.ts';

/** What several processes that serve one log share. */
export interface LogProcesses {
  readonly lease: WriterLease;
  readonly queue: HandoverStore;
  readonly wakeups: Wakeups;
  /** How long a process that died keeps the others from writing, ms; 6,000 unless a test says otherwise. */
  readonly leaseMs?: number;
}

/** What writing a log takes. */
export interface WritingTools {
  /** `broker.example/log/2026` */
  readonly origin: Origin;
  readonly store: LogStore;
  readonly files: LogFiles;
  readonly signed: SignedStore;
  readonly keys: LogKeys;
  readonly chain: ChainHead;
  readonly feed: CheckpointFeed;
  /** No witnesses without it. */
  readonly witness?: WitnessRound;
  readonly crypto: Crypto;
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits?: Partial<SequencerLimits>;
  /** A checkpoint is published at most this often, ms. */
  readonly checkpointMs?: number;
  /** Hears of each entry, in order, once it is durable; must return at once and never throw. */
  readonly onEntry?: (subject: SubjectRow) => void;
  /** Where several processes serve this log; without it this one is alone with it. */
  readonly processes?: LogProcesses;
}

interface TermParts {
  readonly key: VerifierKey;
  readonly replica: Replica;
  readonly fence: Fence;
  /** Called once, when this term cannot go on. */
  readonly onFatal: (error: AppError) => void;
}

/** The time in which this process writes the log: from the start-up checks until it ends, or must end. */
export class Term {
  readonly #sequencer: Sequencer;
  readonly #publisher: Publisher;
  readonly #intake: AsyncDisposable | undefined;

  private constructor(parts: { sequencer: Sequencer; publisher: Publisher; intake: AsyncDisposable | undefined }) {
    this.#sequencer = parts.sequencer;
    this.#publisher = parts.publisher;
    this.#intake = parts.intake;
  }

  /**
   * Checks everything of ledger §12 "start-up checks", and begins to write.
   *
   * @throws AppError `backup-restored`, `data-damaged`, `log-moved`.
   */
  static async begin(tools: WritingTools, { key, replica, fence, onFatal }: TermParts): Promise<Term> {
    const { origin, store, crypto, clock, log, processes } = tools;
    const { head, start } = await checkStart({ ...tools, key, fence });
    await replica.refresh();
    const fatal = (error: AppError): void => sequencer.stop(error);
    const publisher: Publisher = new Publisher(
      {
        ...tools,
        key,
        fence,
        witness: tools.witness ?? (async (note) => ({ note, isReached: true })),
        intervalMs: tools.checkpointMs ?? 1_000,
        assertHeld: async () => {
          if (fence !== null && (await processes?.lease.isHeld(fence)) !== true) throw movedOn();
        },
        onFatal: fatal,
      },
      start,
      head,
    );
    const sequencer: Sequencer = new Sequencer(
      {
        origin,
        store,
        keyBook: replica.keyBook,
        crypto,
        clock,
        log,
        limits: { ...defaultSequencerLimits, ...tools.limits },
        fence,
        onFatal,
        onCommit: (next) => publisher.wake(next),
        onEntry: tools.onEntry ?? (() => undefined),
      },
      head,
    );
    const intake =
      processes &&
      startIntake({
        origin,
        ...processes,
        clock,
        log,
        fence,
        submit: (candidate) => sequencer.submit(candidate),
        onFenced: () => fatal(movedOn()),
      });
    return new Term({ sequencer, publisher, intake });
  }

  get head(): LogHead {
    return this.#sequencer.head;
  }

  get published(): Published | undefined {
    return this.#publisher.published;
  }

  /** False once it takes nothing more. */
  get isWorking(): boolean {
    return this.#sequencer.isWorking;
  }

  /** @throws AppError `busy`, `log-stopped`, `log-moved`, what the store throws. */
  submit(candidate: Candidate): Promise<Outcome> {
    return this.#sequencer.submit(candidate);
  }

  /** Publishes what is not published yet. */
  wake(): void {
    this.#publisher.wake(this.#sequencer.head);
  }

  /** Answers everything that waits, publishes the last checkpoint, and ends. */
  async close(): Promise<void> {
    await this.#intake?.[Symbol.asyncDispose]();
    await this.#sequencer.close();
    await this.#publisher.close();
  }

  /** Ends at once: whoever waits is told why. */
  async abandon(reason: AppError): Promise<void> {
    this.#sequencer.stop(reason);
    await this.#publisher.abandon();
    await this.#intake?.[Symbol.asyncDispose]();
    await this.#sequencer.close();
  }
}
