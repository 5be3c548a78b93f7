import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import {
  type BrokerEvent,
  readStandingNotice,
  type StandingNotice,
  standingNoticeText,
} from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import { formatTime } from '../../contracts/time.ts';
import { isAssertionOf } from '../../kernel/assertions.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { DidResolver } from '../../kernel/did.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import type { Logger } from '../../kernel/log.ts';
import { createTurns } from '../../kernel/turns.ts';
import type { Wakeups } from '../../kernel/wakeups.ts';
import { createFrames, type Frame } from './frames.ts';
import type { EventStore, Issuers, LogPlace, Members, NewEvent, Position, StoredEvent } from './ports.ts';
import { judgeNotice, msOf, nextBeat } from './rules.ts';
import { createStreams, type Stream, type StreamLimits, type Streams } from './streams.ts';

/**
 * What the broker tells connectors (wire §7). An event is durable first, then every open stream is woken; whoever was not
 * there asks for what it missed. Of an issuer's word the broker is the carrier: it passes on the JWS as it came.
 */

/** What the broker says of itself, without an issuer's notice. */
export interface Announcement {
  readonly type: 'keys' | 'agreement-ended' | 'policy';
  /** A DID, an agreementDigest, or the name of a policy. */
  readonly subject: string;
  /** One event for each key: an index in the log, an event's digest. */
  readonly key: string;
  /** Whom it concerns: the parties of an agreement; null for every member. */
  readonly audience: readonly Did[] | null;
  /** Milliseconds; now when it is left out. */
  readonly effectiveAt?: number;
  /** The entry of the log that it comes from: it is announced once, however long ago that was. */
  readonly source?: LogPlace;
}

export interface EventsOptions {
  readonly store: EventStore;
  readonly keys: ParticipantKeys;
  readonly members: Members;
  readonly issuers: Issuers;
  readonly resolver: DidResolver;
  /** Word between the processes of one broker that there are new events. */
  readonly wakeups: Wakeups;
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits?: Partial<EventLimits>;
}

export interface EventLimits extends StreamLimits {
  /** Connections that a member may begin within a minute. */
  readonly maxOpensPerMinute: number;
  /** Notices that an issuer may hand in within a minute. */
  readonly maxNoticesPerMinute: number;
}

export interface Events extends AsyncDisposable {
  /** The broker's own word about a credential it issued. Durable when it resolves; a repeat changes nothing. */
  readonly publish: (notice: GeneralJws) => Promise<void>;
  readonly announce: (announcement: Announcement) => Promise<void>;
  /**
   * An issuer's word, handed in by itself.
   *
   * @returns whether it was new. @throws AppError `body-invalid`, `forbidden`, `too-many-requests`.
   */
  readonly accept: (body: unknown, caller: Did) => Promise<boolean>;
  /** A member's stream, from behind `lastEventId` or from a snapshot. @throws AppError `forbidden`, `busy`, `too-many-requests`. */
  readonly subscribe: (
    caller: Did,
    lastEventId: number | undefined,
  ) => Promise<ReadableStream<Uint8Array<ArrayBuffer>>>;
  /** For the operator: how many events there were, and how many streams are open. */
  readonly view: () => Promise<{ readonly events: number; readonly listeners: number }>;
}

const defaultLimits: EventLimits = {
  maxUnsentBytes: 1 << 20,
  maxPerDid: 4,
  maxStreams: 2_000,
  maxOpensPerMinute: 120,
  maxNoticesPerMinute: 300,
};
const beatMs = 1_000;
const eventsChannel = 'events';
/** Whoever is away for longer gets a snapshot. */
const keptMs = 24 * 3_600_000;
/** No credential lives longer than the notices of a snapshot reach back (credentials §7). */
const noticeLifetimeMs = 3 * 366 * 24 * 3_600_000;
/** Whoever missed more gets a snapshot: one signature instead of one for each. */
const maxMissed = 1_000;
const maxInForce = 100_000;
const pageSize = 500;
const maxTries = 3;
const beatsPerCheck = 30;
const beatsPerPrune = 3_600;
const minuteMs = 60_000;
const maxCounted = 10_000;

/** Counts what each caller does in the minute that runs. */
const createRate = (clock: Clock, limit: number, what: string) => {
  let minute = 0;
  const counts = new Map<Did, number>();
  return (caller: Did): void => {
    const current = Math.floor(clock.now() / minuteMs);
    if (current !== minute || counts.size >= maxCounted) counts.clear();
    minute = current;
    const count = (counts.get(caller) ?? 0) + 1;
    counts.set(caller, count);
    if (count > limit)
      throw new AppError('too-many-requests', { detail: `at most ${limit} ${what} a minute`, retryAfterSeconds: 60 });
  };
};

/** What an event says, whoever gets it. */
const contentOf = (event: Omit<StoredEvent, 'seq' | 'audience'>): Omit<BrokerEvent, 'n'> => ({
  v: 1,
  type: event.type,
  at: formatTime(event.at),
  subject: event.subject,
  effectiveAt: formatTime(event.effectiveAt),
  evidence: event.evidence,
});

const readNotice = (value: unknown): { readonly notice: StandingNotice; readonly jws: GeneralJws } => {
  const read = readStandingNotice(value);
  if (!read.ok) throw new AppError('body-invalid', { detail: `the notice ${read.reason}` });
  if (read.value.signatures.length !== 1) throw new AppError('body-invalid', { detail: 'one signature is needed' });
  return { notice: read.value.value, jws: read.value.jws };
};

const eventOf = (notice: StandingNotice, jws: GeneralJws, at: number): NewEvent => ({
  key: toBase64Url(nodeCrypto.sha256(utf8(standingNoticeText(notice)))),
  type: notice.type,
  subject: notice.subject,
  at,
  effectiveAt: msOf(notice.effectiveAt),
  evidence: jws,
  audience: null,
  notice: { issuer: notice.issuer as Did, at: msOf(notice.at) },
  source: null,
});

/** Brings events from the rows to the streams, in order, whoever appended them. */
const createCourier = async (store: EventStore, streams: Streams): Promise<() => Promise<void>> => {
  let sent = await store.read.head();
  return async () => {
    for (let isMore = true; isMore; ) {
      const events = await store.read.since(sent, pageSize);
      for (const event of events) {
        streams.deliver(event);
        sent = event.seq;
      }
      isMore = events.length === pageSize;
    }
  };
};

/** Puts a notice into the queue; false when it changes nothing. */
const enqueueNotice = async (
  { store, issuers, keys, clock }: EventsOptions,
  notice: StandingNotice,
  jws: GeneralJws,
): Promise<boolean> => {
  const owner = await issuers.issuerOf(notice.subject);
  for (let tries = 0; tries < maxTries; tries += 1) {
    const now = clock.now();
    const known = await store.notices(notice.subject);
    const verdict = judgeNotice(notice, { owner, registrar: keys.did, known, now });
    if (verdict.do === 'refuse') throw new AppError('forbidden', { detail: verdict.why });
    if (verdict.do === 'nothing') return false;
    const result = await store.append(eventOf(notice, jws, now), verdict.expected);
    if (result !== 'conflict') return result === 'appended';
  }
  throw new AppError('version-conflict', { detail: 'the subject changes too often' });
};

/** What a recipient is told first: what it missed, or all that is in force. */
const firstWords = async (
  { store, clock, log }: EventsOptions,
  { frame, beat }: { readonly frame: Frame; readonly beat: () => number },
  did: Did,
  lastEventId: number | undefined,
): Promise<{ frames: Uint8Array<ArrayBuffer>[]; position: Position }> => {
  const missed = lastEventId === undefined ? undefined : await store.read.missed(did, lastEventId, maxMissed);
  if (missed !== undefined && lastEventId !== undefined) {
    const frames = missed.events.map((event, index) => frame({ ...contentOf(event), n: lastEventId + index + 1 }));
    return { frames, position: missed.position };
  }
  const { position, events } = await store.read.inForce(did, clock.now() - noticeLifetimeMs);
  if (events.length > maxInForce) {
    log.error({ count: events.length }, 'there are more notices in force than a snapshot holds');
    throw new AppError('busy', { detail: 'the snapshot cannot be made' });
  }
  const snapshot = {
    v: 1,
    type: 'snapshot',
    n: position.n,
    at: formatTime(beat()),
    events: events.map(contentOf),
  } as const;
  return { frames: [frame(snapshot)], position };
};

/** Checks who may listen, and tells it where it stands. */
const createSubscribe = (
  options: EventsOptions,
  its: {
    readonly streams: Streams;
    readonly frame: Frame;
    readonly beat: () => number;
    readonly heartbeat: (stream: Stream, at: number) => void;
    readonly countOpen: (did: Did) => void;
    readonly stopped: AbortSignal;
  },
): Events['subscribe'] => {
  const { members, log } = options;
  return async (caller, lastEventId) => {
    its.countOpen(caller);
    // A stream that begins while this stops would hold up the server for nothing.
    if (its.stopped.aborted) throw new AppError('busy', { detail: 'the broker stops', retryAfterSeconds: 1 });
    if (!(await members.isMember(caller))) throw new AppError('forbidden', { detail: 'only members may listen' });
    const stream = its.streams.open(caller);
    if (stream === undefined)
      throw new AppError('busy', { detail: 'there are too many listeners', retryAfterSeconds: 5 });
    try {
      const { frames, position } = await firstWords(options, its, caller, lastEventId);
      stream.begin(frames, position);
      its.heartbeat(stream, its.beat());
    } catch (error) {
      stream.end();
      throw error;
    }
    log.info({ did: caller, lastEventId: lastEventId ?? null }, 'a member listens');
    return stream.body;
  };
};

/** Whoever is no member any more has heard so on its stream, and is left. */
const dropStrangers = async ({ members, log }: EventsOptions, streams: Streams): Promise<void> => {
  for (const stream of streams.all()) {
    if (await members.isMember(stream.did)) continue;
    log.info({ did: stream.did }, 'is no member any more');
    stream.end();
  }
};

/** The heart: every second a word on every stream; now and then what keeps the rest in order. */
const startHeart = (
  options: EventsOptions,
  its: {
    readonly streams: Streams;
    readonly beat: () => number;
    readonly heartbeat: (stream: Stream, at: number) => void;
    readonly catchUp: () => Promise<void>;
  },
  signal: AbortSignal,
): Promise<void> => {
  const { clock, store, log } = options;
  const upkeep = async (count: number): Promise<void> => {
    try {
      await its.catchUp();
      if (count % beatsPerCheck === 0) await dropStrangers(options, its.streams);
      if (count % beatsPerPrune === 1) await store.prune(clock.now() - keptMs);
    } catch (error) {
      log.error({ error }, 'the upkeep of the events failed');
    }
  };
  const loop = async (): Promise<void> => {
    let working: Promise<void> | undefined;
    for (let count = 1; !signal.aborted; count += 1) {
      await clock.sleep(beatMs, signal);
      if (signal.aborted) break;
      const at = its.beat();
      for (const stream of its.streams.all()) its.heartbeat(stream, at);
      // Not awaited before the next beat: a slow disk must not stop the heart.
      working ??= upkeep(count).finally(() => {
        working = undefined;
      });
    }
    await working;
  };
  return loop();
};

const announced = ({ keys, clock }: EventsOptions, announcement: Announcement): NewEvent => {
  const { type, subject, key, audience } = announcement;
  const at = clock.now();
  return {
    key: `${type} ${key}`,
    type,
    subject,
    at,
    effectiveAt: announcement.effectiveAt ?? at,
    evidence: null,
    audience,
    notice: type === 'agreement-ended' ? { issuer: keys.did, at } : null,
    source: announcement.source ?? null,
  };
};

const enqueueAnnouncement = async (options: EventsOptions, announcement: Announcement): Promise<boolean> => {
  const { store, keys } = options;
  const isLasting = announcement.type === 'agreement-ended';
  // Only our own word counts as said: nobody keeps an end from its parties by speaking of it first.
  const isSaid = isLasting && (await store.notices(announcement.subject)).some(({ issuer }) => issuer === keys.did);
  if (isSaid) return false;
  return (await store.append(announced(options, announcement), null)) === 'appended';
};

/** Starts the stream of events. */
export const startEvents = async (options: EventsOptions): Promise<Events> => {
  const { store, keys, issuers, resolver, wakeups, clock, log } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const frame = createFrames(keys);
  const streams = createStreams({ limits, log, frameOf: (event, n) => frame({ ...contentOf(event), n }) });
  const turns = createTurns();
  const carry = await createCourier(store, streams);
  const stopped = new AbortController();
  const countOpen = createRate(clock, limits.maxOpensPerMinute, 'connections');
  const countNotice = createRate(clock, limits.maxNoticesPerMinute, 'notices');

  let last = 0;
  const beat = (): number => {
    last = nextBeat(last, clock.now());
    return last;
  };
  const heartbeat = (stream: Stream, at: number): void => {
    const position = stream.position();
    if (position !== undefined) stream.send(frame({ v: 1, type: 'heartbeat', n: position.n, at: formatTime(at) }));
  };
  /** Appends, then wakes every stream; one at a time, so that all see the same order. */
  const queue = (append: () => Promise<boolean>): Promise<boolean> =>
    turns(async () => {
      const isNew = await append();
      if (!isNew) return false;
      wakeups.notify(eventsChannel);
      await carry();
      return true;
    });
  /** The safety net behind the wake-ups: what another process appended, or what failed on its way. */
  const catchUp = (): Promise<void> => turns(carry);
  const forget = wakeups.listen(eventsChannel, () => {
    catchUp().catch((error: unknown) => log.error({ error }, 'events were not told at once'));
  });
  const heart = startHeart(options, { streams, beat, heartbeat, catchUp }, stopped.signal);

  return {
    publish: async (jws) => {
      const { notice } = readNotice(jws);
      if (notice.issuer !== keys.did)
        throw new AppError('invariant-broken', { detail: 'the broker publishes only its own notices' });
      await queue(() => enqueueNotice(options, notice, jws));
    },
    announce: async (announcement) => void (await queue(() => enqueueAnnouncement(options, announcement))),
    accept: async (body, caller) => {
      const { notice, jws } = readNotice(body);
      countNotice(caller);
      if (notice.issuer !== caller) throw new AppError('forbidden', { detail: 'an issuer speaks for itself alone' });
      if (!(await issuers.isRecognised(caller)))
        throw new AppError('forbidden', { detail: 'the issuer is not recognised here' });
      const isSigned = await isAssertionOf(resolver, jws, { index: 0, did: caller, typ: 'stekker-event+jws' });
      if (!isSigned) throw new AppError('forbidden', { detail: 'the notice is not signed by a key of its issuer' });
      return queue(() => enqueueNotice(options, notice, jws));
    },
    subscribe: createSubscribe(options, { streams, frame, beat, heartbeat, countOpen, stopped: stopped.signal }),
    view: async () => ({ events: await store.read.head(), listeners: streams.all().length }),
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      forget();
      await heart;
      for (const stream of streams.all()) stream.end();
      await turns(async () => undefined);
    },
  };
};
