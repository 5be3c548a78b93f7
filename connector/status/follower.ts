import { AppError } from '../../contracts/errors.ts';
import { type BrokerEvent, type BrokerMessage, readBrokerMessage } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import { parseJsonText } from '../../contracts/json.ts';
import { isAssertionOf } from '../../kernel/assertions.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { DidResolver, DocumentKey } from '../../kernel/did.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Random } from '../../kernel/random.ts';
import type { EventConnection, Followed, OpenEventStream } from './ports.ts';
import { nextStep, pauseBefore } from './rules.ts';

/** Stays connected to the broker, verifies each message, and hands on what it says (wire §7). */

export interface FollowerOptions {
  readonly broker: Did;
  readonly open: OpenEventStream;
  readonly resolver: DidResolver;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly followed: () => Followed;
  /** Where to go on from; null asks for a snapshot. */
  readonly resumeFrom: () => number | null;
  /** A connection is begun. */
  readonly onOpen: () => void;
  /** The broker spoke at this moment. */
  readonly onWord: (message: BrokerMessage) => void;
  readonly onEvents: (events: readonly Omit<BrokerEvent, 'n'>[], n: number) => Promise<void>;
}

export interface Follower extends AsyncDisposable {
  /** Gives up the connection that stands, if any, and tries again at once. */
  readonly restart: () => void;
  /** Milliseconds by our clock since when a connection stands without a word; undefined without one. */
  readonly waitingSince: () => number | undefined;
}

/** The largest message: a snapshot of 100,000 notices. */
const messageLimits = { maxBytes: 128 << 20, maxDepth: 8 };
/** The broker's key counts this long after its document was last seen (credentials §5). */
const rememberedMs = 600_000;
const maxResumes = 2;

/** A resolver that remembers the broker's key over a short outage of its document: the stream itself is the broker's. */
const remembering = ({ resolver, broker, clock }: FollowerOptions): DidResolver => {
  const known = new Map<string, { readonly key: DocumentKey; readonly at: number }>();
  return {
    ...resolver,
    key: async (did, kid, relationship) => {
      const found = await resolver.key(did, kid, relationship);
      const name = `${relationship} ${kid}`;
      if (found !== undefined) {
        if (did === broker) known.set(name, { key: found, at: clock.now() });
        return found;
      }
      const last = known.get(name);
      if (last === undefined || (await resolver.resolve(did)) !== undefined) known.delete(name);
      const isRecent = last !== undefined && Math.abs(clock.now() - last.at) < rememberedMs;
      return isRecent && known.has(name) ? last.key : undefined;
    },
  };
};

/** A message with the broker's own signature, and only that; undefined for anything else. */
const createReader = (options: FollowerOptions): ((data: string) => Promise<BrokerMessage | undefined>) => {
  const { broker, log } = options;
  const resolver = remembering(options);
  const read = (data: string) => {
    try {
      return readBrokerMessage(parseJsonText(data, messageLimits));
    } catch (error) {
      if (error instanceof AppError) return { ok: false, reason: error.message } as const;
      throw error;
    }
  };
  return async (data) => {
    const message = read(data);
    const isSigned =
      message.ok &&
      message.value.signatures.length === 1 &&
      (await isAssertionOf(resolver, message.value.jws, { index: 0, did: broker, typ: 'stekker-event+jws' }));
    if (message.ok && isSigned) return message.value.value;
    log.warn(
      { why: message.ok ? 'not signed by the broker' : message.reason.slice(0, 200) },
      'a message of the stream of events counts for nothing',
    );
    return undefined;
  };
};

/** Starts following. */
export const startFollower = (options: FollowerOptions): Follower => {
  const { open, clock, random, log, followed, onOpen, onWord, onEvents } = options;
  const stopped = new AbortController();
  const read = createReader(options);
  let connection: EventConnection | undefined;
  let paused = new AbortController();
  let waitingSince: number | undefined;
  let failures = 0;
  let resumes = 0;

  /** False when the connection must be given up for another one. */
  const take = async (data: string): Promise<boolean> => {
    const message = await read(data);
    if (message === undefined) return true;
    const step = nextStep(followed(), message, clock.now());
    switch (step.do) {
      case 'hear':
        resumes = 0;
        break;
      case 'take':
        await onEvents(step.events, step.n);
        break;
      case 'ignore':
        return true;
      case 'resume':
        resumes += 1;
        log.warn({ n: followed().n, told: message.n }, 'events are missing: asking again');
        return false;
    }
    failures = 0;
    if (message.type === 'heartbeat' || message.type === 'snapshot') {
      waitingSince = clock.now();
      onWord(message);
    }
    return true;
  };

  const listen = async (): Promise<void> => {
    waitingSince = clock.now();
    onOpen();
    connection = open(resumes >= maxResumes ? null : options.resumeFrom());
    try {
      for await (const data of connection.messages) if (!(await take(data))) return;
    } finally {
      connection.close();
    }
  };

  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      try {
        await listen();
      } catch (error) {
        log.info({ error, failures }, 'the stream of events is interrupted');
      }
      waitingSince = undefined;
      if (stopped.signal.aborted) return;
      paused = new AbortController();
      const pause = pauseBefore(failures, (random.bytes(1)[0] ?? 0) / 256);
      failures += 1;
      await clock.sleep(pause, AbortSignal.any([stopped.signal, paused.signal]));
    }
  };
  const looping = loop();

  return {
    restart: () => {
      failures = 0;
      connection?.close();
      paused.abort();
    },
    waitingSince: () => waitingSince,
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      connection?.close();
      await looping;
    },
  };
};
