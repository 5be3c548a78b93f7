import type { BrokerEvent, BrokerMessage } from '../../contracts/events.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { formatTime } from '../../contracts/time.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { DidResolver } from '../../kernel/did.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Random } from '../../kernel/random.ts';
import { createBook } from './book.ts';
import { createEvidenceCheck } from './evidence.ts';
import { type Follower, startFollower } from './follower.ts';
import { createKeeper } from './keeper.ts';
import type { StatusNews } from './mirror.ts';
import type { Notice, OpenEventStream, StandingChanged, StatusStore } from './ports.ts';
import { type Elapsed, elapse, judgeSilence, msOf, silenceAfterMs, snapshotAfterMs } from './rules.ts';

/**
 * What is known of standing (wire §7): asked by the data plane on every request, by the token endpoint and by negotiation. Each
 * answer is local and immediate; the broker's stream keeps it true, and how long its silence may last the offer says.
 */

export interface StatusOptions {
  readonly participant: ParticipantId;
  readonly broker: Did;
  /** Accreditors whose word counts here. */
  readonly accreditors: readonly Did[];
  /** Who issued a credential, where that is known here; without it every word of a recognised issuer counts. */
  readonly issuerOf?: (subject: string) => Did | undefined;
  readonly store: StatusStore;
  readonly open: OpenEventStream;
  readonly resolver: DidResolver;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

export type StandingAnswer =
  | { readonly state: 'good'; readonly statusAge: number | null }
  | { readonly state: 'revoked' | 'unknown' };

/** How the line to the broker is, for the operator. */
export interface StatusView {
  readonly isSilent: boolean;
  /** Seconds since the broker's last word; null without a broker. */
  readonly silentSeconds: number | null;
  /** The number of the last event; null before the first snapshot. */
  readonly n: number | null;
  /** Words whose issuer could not be reached yet. */
  readonly held: number;
}

export interface Status extends AsyncDisposable {
  readonly check: (subjects: readonly string[], silence: 'strict' | number) => StandingAnswer;
  /** Calls back at once after every change, and about every 250 ms during silence. */
  readonly onChange: (listener: () => void) => void;
  /** Calls back for each thing that changed: caches drop what rests on it. */
  readonly onStanding: (listener: (change: StandingChanged) => void) => void;
  /** Tells all that is known, then each change, and every 250 ms how long the broker is silent; until what is returned is called. */
  readonly mirror: (tell: (news: StatusNews) => void) => () => void;
  /** Revoked, or suspended whatever its notice date: no new agreement, no token for a new transfer. */
  readonly isSuspended: (subject: string) => boolean;
  /** Tries to reach the broker now: after joining. */
  readonly wake: () => void;
  readonly view: () => StatusView;
}

const tickMs = 250;
const ticksPerRetry = 20;
const ticksPerSave = 240;
/** A connection without a word for this long is given up for another. */
const deadAfterMs = 5_000;
/** Of a long snapshot so many words are verified before requests get their turn. */
const eventsPerTurn = 100;

const turnOfOthers = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const revoked: StandingAnswer = { state: 'revoked' };
const unknown: StandingAnswer = { state: 'unknown' };

/** Listeners that cannot stop each other. */
export const createListeners = <Value>(log: Logger) => {
  const listeners = new Set<(value: Value) => void>();
  return {
    add: (listener: (value: Value) => void): void => void listeners.add(listener),
    remove: (listener: (value: Value) => void): void => void listeners.delete(listener),
    tell: (value: Value): void => {
      for (const listener of listeners) {
        try {
          listener(value);
        } catch (error) {
          log.error({ error }, 'somebody who hears of standing failed');
        }
      }
    },
  };
};

/** Measures how long the broker has been silent, on a clock that may be set. */
const createSilence = (clock: Clock, heardAt: number | undefined) => {
  let time: Elapsed = { seen: clock.now(), total: 0 };
  // Whoever starts anew has heard nothing since; a row of starts must not make a grace longer than it is.
  let heard = -Math.max(0, time.seen - (heardAt ?? time.seen));
  let least = Number.POSITIVE_INFINITY;
  let latest = time.seen;
  const total = (): number => {
    time = elapse(time, clock.now());
    latest = Math.max(latest, time.seen);
    return time.total;
  };
  return {
    /** The latest moment that was seen: a notice date that has passed stays passed. */
    latest: (): number => {
      total();
      return latest;
    },
    ms: (): number => total() - heard,
    open: (): void => {
      least = Number.POSITIVE_INFINITY;
    },
    /** A word that lags behind the quickest of its connection is as old as it lags: somebody may hold the line back. */
    hear: (wordAt: number): void => {
      least = Math.min(least, total() - wordAt);
      heard = Math.max(heard, wordAt + least);
    },
  };
};

interface Parts {
  readonly book: ReturnType<typeof createBook>;
  readonly keeper: ReturnType<typeof createKeeper>;
  readonly silence: ReturnType<typeof createSilence>;
  readonly changes: ReturnType<typeof createListeners<void>>;
  readonly standings: ReturnType<typeof createListeners<StandingChanged>>;
  readonly news: ReturnType<typeof createListeners<StatusNews>>;
  readonly checkEvidence: ReturnType<typeof createEvidenceCheck>;
}

/** Takes what an event says: at once in memory, then into the rows. */
const createTaking = ({ log }: StatusOptions, its: Parts) => {
  const { book, keeper, changes, standings, news, checkEvidence } = its;
  const believe = (notice: Notice): void => {
    if (!book.isNews(notice)) return;
    book.put(notice);
    keeper.put(notice);
    news.tell({ kind: 'put', notice });
    standings.tell({ type: notice.type, subject: notice.subject });
    changes.tell();
  };
  const takeOne = async (event: Omit<BrokerEvent, 'n'>): Promise<void> => {
    const proof = await checkEvidence(event, false);
    if (proof === undefined) {
      standings.tell({ type: event.type, subject: event.subject });
      changes.tell();
    } else if (proof.do !== 'drop') {
      if (proof.do === 'hold') log.warn({ subject: event.subject, issuer: proof.notice.issuer }, 'a word is held');
      believe(proof.notice);
    } else {
      const fields = { subject: event.subject, type: event.type, why: proof.why };
      if (proof.isForged) log.error(fields, 'the broker passed on a word that its issuer did not say');
      else log.info(fields, 'an event does not concern us');
    }
  };
  /** Asks again for the words that could not be verified. */
  const retryHeld = async (): Promise<void> => {
    for (const held of book.held()) {
      const { type, subject, effectiveAt, at, evidence } = held;
      const event = {
        v: 1,
        type,
        subject,
        at: formatTime(at),
        effectiveAt: formatTime(effectiveAt),
        evidence,
      } as const;
      const proof = await checkEvidence(event, true);
      if (proof?.do === 'hold') continue;
      book.remove(held);
      keeper.remove(held);
      news.tell({ kind: 'remove', notice: held });
      if (proof?.do === 'believe') believe(proof.notice);
      else if (proof?.do === 'drop' && proof.isForged)
        log.error({ subject, issuer: held.issuer }, 'a word that was held was not its issuer’s');
      changes.tell();
    }
  };
  return { takeOne, retryHeld };
};

/** Between the words of the broker: tells of silence and of notice dates, gives up dead lines, keeps the rows up to date. */
const startTicks = (
  { clock, log }: StatusOptions,
  its: Parts & {
    readonly follower: Follower;
    readonly retryHeld: () => Promise<void>;
    readonly pulse: () => StatusNews;
  },
  signal: AbortSignal,
): Promise<void> => {
  const { book, keeper, silence, changes, follower } = its;
  let wasSilent = false;
  let last = clock.now();
  let isRetrying = false;
  const retry = (): void => {
    if (isRetrying || book.held().length === 0) return;
    isRetrying = true;
    its
      .retryHeld()
      .catch((error: unknown) => log.warn({ error }, 'held words could not be asked for'))
      .finally(() => {
        isRetrying = false;
      });
  };
  const tick = (count: number): void => {
    const now = clock.now();
    const silentMs = silence.ms();
    const isSilent = silentMs > silenceAfterMs;
    its.news.tell(its.pulse());
    if (isSilent !== wasSilent) {
      if (isSilent) log.warn({ silentSeconds: Math.floor(silentMs / 1_000) }, 'the broker is silent');
      else log.info({}, 'the broker speaks again');
    }
    if (isSilent || wasSilent || book.hasFallenDue(last, silence.latest())) changes.tell();
    wasSilent = isSilent;
    last = silence.latest();
    const waiting = follower.waitingSince();
    if (waiting !== undefined && Math.abs(now - waiting) > deadAfterMs) follower.restart();
    if (count % ticksPerRetry === 0) retry();
    if (count % ticksPerSave === 0) keeper.touch();
    keeper.flush();
  };
  const loop = async (): Promise<void> => {
    for (let count = 1; !signal.aborted; count += 1) {
      await clock.sleep(tickMs, signal);
      if (!signal.aborted) tick(count);
    }
  };
  return loop();
};

/** Starts following the broker. */
export const startStatus = async (options: StatusOptions): Promise<Status> => {
  const { participant, broker, store, clock, log } = options;
  const issuerOf = options.issuerOf ?? (() => undefined);
  const name = { participant, broker };
  const known = await store.load(name);
  const followed = known?.followed ?? { n: null, wordAt: 0, heardAt: clock.now() };
  const knownBook = createBook(known?.notices ?? [], issuerOf);
  const parts: Parts = {
    book: knownBook,
    keeper: createKeeper({ store, name, log, followed }),
    silence: createSilence(clock, followed.heardAt),
    changes: createListeners<void>(log),
    standings: createListeners<StandingChanged>(log),
    news: createListeners<StatusNews>(log),
    checkEvidence: createEvidenceCheck({ ...options, issuerOf, isNews: knownBook.isNews }),
  };
  const { book, keeper, silence, changes, standings } = parts;
  const { takeOne, retryHeld } = createTaking(options, parts);
  const stopped = new AbortController();

  /** Undone by a day of silence: then nothing counts before a snapshot. */
  const isWhole = (): boolean => keeper.followed().n !== null && silence.ms() <= snapshotAfterMs;
  const hear = (message: BrokerMessage): void => {
    silence.hear(msOf(message.at));
    keeper.hear(msOf(message.at), clock.now());
  };
  const follower = startFollower({
    ...options,
    followed: keeper.followed,
    resumeFrom: () => {
      if (!isWhole()) keeper.advance(null);
      return keeper.followed().n;
    },
    onOpen: silence.open,
    onWord: hear,
    onEvents: async (events, n) => {
      for (const [index, event] of events.entries()) {
        await takeOne(event);
        if (index % eventsPerTurn === eventsPerTurn - 1) await turnOfOthers();
      }
      keeper.advance(n);
      keeper.flush();
    },
  });
  const pulse = (): StatusNews => ({ kind: 'pulse', silentMs: silence.ms(), isWhole: isWhole() });
  const ticking = startTicks(options, { ...parts, follower, retryHeld, pulse }, stopped.signal);

  return {
    check: (subjects, allowed) => {
      const now = silence.latest();
      for (const subject of subjects) if (book.isOut(subject, now)) return revoked;
      return isWhole() ? judgeSilence(silence.ms(), allowed) : unknown;
    },
    onChange: (listener) => changes.add(listener),
    onStanding: (listener) => standings.add(listener),
    mirror: (tell) => {
      for (const notice of book.all()) tell({ kind: 'put', notice });
      tell(pulse());
      parts.news.add(tell);
      return () => parts.news.remove(tell);
    },
    isSuspended: book.isSuspended,
    wake: follower.restart,
    view: () => {
      const silentMs = silence.ms();
      return {
        isSilent: silentMs > silenceAfterMs,
        silentSeconds: Math.floor(silentMs / 1_000),
        n: keeper.followed().n,
        held: book.held().length,
      };
    },
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await follower[Symbol.asyncDispose]();
      await ticking;
      await keeper.close();
    },
  };
};

/** Without a broker nobody revokes, and nobody is missed. */
export const statusWithoutBroker: Status = {
  check: () => ({ state: 'good', statusAge: null }),
  onChange: () => undefined,
  onStanding: () => undefined,
  mirror: (tell) => {
    tell({ kind: 'pulse', silentMs: null, isWhole: true });
    return () => undefined;
  },
  isSuspended: () => false,
  wake: () => undefined,
  view: () => ({ isSilent: false, silentSeconds: null, n: null, held: 0 }),
  [Symbol.asyncDispose]: async () => undefined,
};
