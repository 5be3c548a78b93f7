import { fromBase64, orNothing, toBase64 } from '../../contracts/bytes.ts';
import { AppError, type ErrorCode, isAppError } from '../../contracts/errors.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Wakeups } from '../../kernel/wakeups.ts';
import type { Candidate } from './admission.ts';
import { readPublicText } from './key-book.pure.ts';
import type { Fence, Handed, HandoverStore, Origin } from './ports.ts';
import type { Outcome } from './sequencer.ts';

/**
 * How processes that do not write the log hand candidates to the one that does: through a queue in the rows, which outlives
 * them all. A candidate is verified where it arrived; the writer judges it again by what stands in the log then. One that is
 * judged twice, because a writer died before it answered, is a duplicate of itself.
 */

const handedChannel = 'log-handed';
const answeredChannel = 'log-answered';
const pieceSize = 500;
/** The safety net behind the wake-ups. */
const pollMs = 250;
/** Answers that nobody came for: whoever waited has gone. */
const keptMs = 3_600_000;
const roundsPerTidy = 1_000;

/** An outcome, or the code of a fault behind which the submitter may ask again. */
type Told = Outcome | { readonly kind: 'failed'; readonly code: ErrorCode };

const encodeCandidate = ({ subject, keys, ...rest }: Candidate): string =>
  JSON.stringify({
    ...rest,
    subject: subject.kind === 'public' ? { kind: 'public', joinCode: subject.joinCode } : subject,
    keys: keys.map(({ kid, spki }) => ({ kid, spki: toBase64(spki) })),
  });

type StoredCandidate = Omit<Candidate, 'subject' | 'keys'> & {
  readonly subject:
    | Exclude<Candidate['subject'], { kind: 'public' }>
    | { readonly kind: 'public'; readonly joinCode: string | null };
  readonly keys: readonly { readonly kid: string; readonly spki: string }[];
};

/** What stands in our own queue was written by `encodeCandidate`, so its form is known. */
const decodeCandidate = (text: string): Candidate => {
  const { subject, keys, ...rest }: StoredCandidate = JSON.parse(text);
  const used = keys.map(({ kid, spki }) => ({ kid, spki: orNothing(fromBase64(spki)) }));
  if (subject.kind !== 'public') return { ...rest, jws: rest.jws, subject, keys: used };
  const read = readPublicText(rest.artifact.text);
  if (!read.ok)
    throw new AppError('invariant-broken', { detail: `a public entry that was handed over ${read.reason}` });
  return { ...rest, subject: { kind: 'public', artifact: read.value, joinCode: subject.joinCode }, keys: used };
};

interface SharedTools {
  readonly origin: Origin;
  readonly queue: HandoverStore;
  readonly wakeups: Wakeups;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface HandoverTools extends SharedTools {
  /** Ids that grow. */
  readonly newId: () => string;
  /** Somebody who waits for longer is told to ask again. */
  readonly patienceMs: number;
}

interface Waiter {
  readonly resolve: (outcome: Outcome) => void;
  readonly reject: (error: unknown) => void;
  readonly until: number;
}

const piecesOf = <Item>(items: readonly Item[]): readonly (readonly Item[])[] =>
  Array.from({ length: Math.ceil(items.length / pieceSize) }, (_, piece) =>
    items.slice(piece * pieceSize, (piece + 1) * pieceSize),
  );

/** A pause that ends with the next wake-up, or with the signal. */
const createPause = (wakeups: Wakeups, clock: Clock, channel: string) => {
  let awake = Promise.withResolvers<void>();
  const forget = wakeups.listen(channel, () => awake.resolve());
  return {
    /** Before the look: what comes during it is looked at next. */
    arm: (): void => {
      awake = Promise.withResolvers();
    },
    pause: async (signal: AbortSignal): Promise<void> => {
      const slept = new AbortController();
      await Promise.race([awake.promise, clock.sleep(pollMs, AbortSignal.any([signal, slept.signal]))]);
      slept.abort();
    },
    forget,
  };
};

/** The submitting side. A class because it lives: it waits for answers as long as somebody waits for it. */
export class Handover {
  readonly #tools: HandoverTools;
  readonly #closing = new AbortController();
  readonly #waiters = new Map<string, Waiter>();
  readonly #pause: ReturnType<typeof createPause>;
  #outgoing: Handed[] = [];
  #isSending = false;
  #isCollecting = false;
  #collecting: Promise<void> = Promise.resolve();

  constructor(tools: HandoverTools) {
    this.#tools = tools;
    this.#pause = createPause(tools.wakeups, tools.clock, answeredChannel);
  }

  /** Resolves once the candidate's fate is durable. @throws AppError `busy` when no answer came in time. */
  submit(candidate: Candidate): Promise<Outcome> {
    const { newId, clock, patienceMs } = this.#tools;
    if (this.#closing.signal.aborted) return Promise.reject(new AppError('busy', { retryAfterSeconds: 1 }));
    const id = newId();
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject, until: clock.now() + patienceMs });
      this.#outgoing.push({ id, candidate: encodeCandidate(candidate) });
      if (!this.#isSending) void this.#send();
    });
  }

  /** Whoever waits still is told to ask again. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#pause.forget();
    await this.#collecting;
    for (const { reject } of this.#waiters.values()) reject(new AppError('busy', { retryAfterSeconds: 1 }));
    this.#waiters.clear();
  }

  /** What came while one piece was written goes with the next. */
  async #send(): Promise<void> {
    const { queue, origin, wakeups } = this.#tools;
    this.#isSending = true;
    while (this.#outgoing.length > 0) {
      const piece = this.#outgoing.splice(0, pieceSize);
      try {
        await queue.put(origin, piece);
        wakeups.notify(handedChannel);
        if (!this.#isCollecting) this.#collecting = this.#collect();
      } catch (cause) {
        const error = cause instanceof AppError ? cause : new AppError('internal-error', { cause });
        for (const { id } of piece) this.#take(id)?.reject(error);
      }
    }
    this.#isSending = false;
  }

  #take(id: string): Waiter | undefined {
    const waiter = this.#waiters.get(id);
    this.#waiters.delete(id);
    return waiter;
  }

  async #collect(): Promise<void> {
    const { clock, log, origin } = this.#tools;
    this.#isCollecting = true;
    while (this.#waiters.size > 0 && !this.#closing.signal.aborted) {
      this.#pause.arm();
      await this.#look().catch((err: unknown) => log.error({ origin, err }, 'answers of the writer were not read'));
      for (const [id, { reject, until }] of this.#waiters)
        if (until <= clock.now()) {
          this.#waiters.delete(id);
          reject(new AppError('busy', { detail: 'nobody writes the log now', retryAfterSeconds: 1 }));
        }
      if (this.#waiters.size > 0) await this.#pause.pause(this.#closing.signal);
    }
    this.#isCollecting = false; // in the same turn as the last look at who waits: nobody waits for ever
  }

  async #look(): Promise<void> {
    const { queue, origin } = this.#tools;
    for (const ids of piecesOf([...this.#waiters.keys()])) {
      const answers = await queue.answers(origin, ids);
      if (answers.length === 0) continue;
      for (const { id, outcome } of answers) {
        const told: Told = JSON.parse(outcome);
        const waiter = this.#take(id);
        if (told.kind === 'failed') waiter?.reject(new AppError(told.code, { retryAfterSeconds: 1 }));
        else waiter?.resolve(told);
      }
      await queue.forget(
        origin,
        answers.map(({ id }) => id),
        0,
      );
    }
  }
}

export interface IntakeTools extends SharedTools {
  readonly submit: (candidate: Candidate) => Promise<Outcome>;
  readonly fence: Fence;
  readonly onFenced: () => void;
}

/** The writer's side: takes what others handed over, as if it had arrived here, and answers it. */
export const startIntake = (tools: IntakeTools): AsyncDisposable => {
  const { origin, queue, wakeups, clock, log, submit, fence, onFenced } = tools;
  const stopped = new AbortController();
  const { arm, pause, forget } = createPause(wakeups, clock, handedChannel);

  /** Undefined: it waits on, for this writer or the next one. */
  const judge = async ({ candidate }: Handed): Promise<Told | undefined> => {
    try {
      return await submit(decodeCandidate(candidate));
    } catch (cause) {
      const error = cause instanceof AppError ? cause : new AppError('internal-error', { cause });
      if (['busy', 'log-moved', 'log-stopped'].some((code) => isAppError(error, code as ErrorCode))) return undefined;
      return { kind: 'failed', code: error.code };
    }
  };
  const round = async (): Promise<number> => {
    const handed = await queue.waiting(origin, pieceSize);
    const told = await Promise.all(handed.map(judge));
    const answers = handed.flatMap(({ id }, place) => {
      const outcome = told[place];
      return outcome === undefined ? [] : [{ id, outcome: JSON.stringify(outcome) }];
    });
    if (answers.length === 0) return 0;
    if ((await queue.answer(origin, answers, { at: clock.now(), fence })) === 'fenced') onFenced();
    else wakeups.notify(answeredChannel);
    return answers.length;
  };
  const loop = async (): Promise<void> => {
    for (let count = 1; !stopped.signal.aborted; count += 1) {
      arm();
      try {
        const answered = await round();
        if (count % roundsPerTidy === 0) await queue.forget(origin, [], clock.now() - keptMs);
        if (answered > 0) continue;
      } catch (err) {
        log.error({ origin, err }, 'what other processes handed over was not taken');
      }
      await pause(stopped.signal);
    }
  };
  const looping = loop();
  return {
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      forget();
      await looping;
    },
  };
};
