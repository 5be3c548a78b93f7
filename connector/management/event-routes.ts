import { z } from '@hono/zod-openapi';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { formatTime } from '../../contracts/time.ts';
import type { Clock } from '../../kernel/clock.ts';
import { createPipe, eventStreamHeaders, frameEvent, stillHere } from '../../kernel/http/server-sent-events.ts';
import type { Api } from './api.ts';
import type { FeedEvent, ProcessFeed } from './feed.ts';

/** The event stream (dsp §12.6): changes of processes as they happen, as server-sent events. */

export interface EventRoutesOptions {
  readonly feed: ProcessFeed;
  readonly clock: Clock;
  /** Ends the streams when the service stops. */
  readonly signal: AbortSignal;
}

const maxStreams = 32;
/** Bytes that wait for a slow reader; then it is dropped and resumes by its last id. */
const maxUnsentBytes = 262_144;
const keepAliveMs = 15_000;

const frameOf = ({ id, notice }: FeedEvent) => {
  const { protocol, pid, role, peer, state, at } = notice;
  return frameEvent(id, JSON.stringify({ protocol, id: pid, role, peer, state, at: formatTime(at) }), 'process');
};

interface Opening {
  readonly participant: ParticipantId;
  /** The last id the reader has seen, or empty. */
  readonly after: string;
  readonly closed: () => void;
}

/** A stream that begins with what the reader missed, then `ready`; `gap` instead tells it to read the lists again. */
const openStream = ({ feed, clock, signal }: EventRoutesOptions, { participant, after, closed }: Opening) => {
  const ended = new AbortController();
  const pipe = createPipe(maxUnsentBytes, () => {
    ended.abort();
    unsubscribe();
    signal.removeEventListener('abort', pipe.end);
    closed();
  });
  const unsubscribe = feed.subscribe(participant, (event) => pipe.send(frameOf(event)));
  signal.addEventListener('abort', pipe.end, { once: true });
  const { events, isComplete } = after === '' ? { events: [], isComplete: true } : feed.since(participant, after);
  const missed = isComplete ? events.map(frameOf) : [];
  pipe.allow(missed.reduce((total, frame) => total + frame.length, 0));
  for (const frame of missed) pipe.send(frame);
  pipe.send(frameEvent(feed.place(), '{}', isComplete ? 'ready' : 'gap'));
  const keepAlive = async (): Promise<void> => {
    while (!ended.signal.aborted) {
      await clock.sleep(keepAliveMs, ended.signal);
      pipe.send(stillHere);
    }
  };
  void keepAlive();
  return pipe.body;
};

export const addEventRoutes = ({ endpoint }: Api, options: EventRoutesOptions): void => {
  let open = 0;
  endpoint(
    {
      method: 'get',
      path: '/v1/events',
      id: 'watch',
      tag: 'events',
      summary: 'Changes of processes as server-sent events; resumes behind the id in `Last-Event-ID`.',
      status: 200,
      answer: z.string(),
      mediaType: 'text/event-stream',
    },
    async ({ participant, request }) => {
      if (open >= maxStreams || options.signal.aborted)
        throw new AppError('too-many-requests', {
          detail: `at most ${maxStreams} streams are open`,
          retryAfterSeconds: 5,
        });
      open += 1;
      const after = (request.headers.get('last-event-id') ?? '').slice(0, 200);
      const closed = () => {
        open -= 1;
      };
      const stream = openStream(options, { participant, after, closed });
      return new Response(stream, { headers: eventStreamHeaders });
    },
  );
};
