import type { Did } from '../../contracts/ids.ts';
import { createPipe } from '../../kernel/http/server-sent-events.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Position, StoredEvent } from './ports.ts';

/** The open streams and what has been sent on each. One slow reader holds up only itself, and not for long. */

/** One recipient's connection. */
export interface Stream {
  readonly did: Did;
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Undefined until it was told where it stands; events that come before that wait. */
  readonly position: () => Position | undefined;
  /** Its first words, and how far it is with them. */
  readonly begin: (frames: readonly Uint8Array<ArrayBuffer>[], position: Position) => void;
  readonly send: (frame: Uint8Array<ArrayBuffer>) => void;
  /** Ends it in order. */
  readonly end: () => void;
}

export interface StreamLimits {
  /** Bytes that may wait for a reader, its first words apart. */
  readonly maxUnsentBytes: number;
  /** Streams of one DID; one more takes the place of its oldest, which may be a line that broke unseen. */
  readonly maxPerDid: number;
  readonly maxStreams: number;
}

export interface Streams {
  /** Undefined when there are too many. */
  readonly open: (did: Did) => Stream | undefined;
  /** Gives an event to those whom it concerns. */
  readonly deliver: (event: StoredEvent) => void;
  readonly all: () => readonly Stream[];
}

/** Events that came while a stream was being told where it stands. */
const maxHeld = 10_000;

export interface StreamsOptions {
  readonly limits: StreamLimits;
  readonly frameOf: (event: StoredEvent, n: number) => Uint8Array<ArrayBuffer>;
  readonly log: Logger;
}

const concerns = ({ audience }: StoredEvent, did: Did): boolean => audience === null || audience.includes(did);

const createStream = (did: Did, { limits, frameOf }: StreamsOptions, onGone: (why: string) => void) => {
  const pipe = createPipe(limits.maxUnsentBytes, onGone);
  const held: StoredEvent[] = [];
  let position: Position | undefined;
  /** Sends an event under the next number, unless the first words told of it already. */
  const take = (event: StoredEvent): void => {
    if (position === undefined) {
      if (held.push(event) > maxHeld) pipe.end();
      return;
    }
    if (event.seq <= position.seq) return;
    position = { seq: event.seq, n: position.n + 1 };
    pipe.send(frameOf(event, position.n));
  };
  const stream: Stream = {
    did,
    body: pipe.body,
    position: () => position,
    begin: (frames, where) => {
      pipe.allow(frames.reduce((total, frame) => total + frame.length, 0));
      for (const frame of frames) pipe.send(frame);
      position = where;
      for (const event of held.splice(0)) take(event);
    },
    send: pipe.send,
    end: pipe.end,
  };
  return { stream, take };
};

/** Keeps the open streams. */
export const createStreams = (options: StreamsOptions): Streams => {
  const { limits, log } = options;
  const open = new Map<Stream, (event: StoredEvent) => void>();
  const makeRoom = (did: Did): boolean => {
    const own = [...open.keys()].filter((stream) => stream.did === did);
    if (own.length >= limits.maxPerDid) own[0]?.end();
    return open.size < limits.maxStreams;
  };
  return {
    open: (did) => {
      if (!makeRoom(did)) return undefined;
      const { stream, take } = createStream(did, options, (why) => {
        open.delete(stream);
        log.info({ did, why }, 'a stream of events has ended');
      });
      open.set(stream, take);
      return stream;
    },
    deliver: (event) => {
      for (const [stream, take] of [...open]) if (concerns(event, stream.did)) take(event);
    },
    all: () => [...open.keys()],
  };
};
