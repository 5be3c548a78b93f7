import { z } from '@hono/zod-openapi';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { formatTime } from '../../contracts/time.ts';
import type { Clock } from '../../kernel/clock.ts';
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
/** Events that wait for a slow reader; then it is cut off and resumes by its last id. */
const maxWaiting = 1_000;
const keepAliveMs = 15_000;

const encoder = new TextEncoder();

const write = (event: string, id: string, data: object): Uint8Array =>
  encoder.encode(`id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`);

const writeEvent = ({ id, notice }: FeedEvent): Uint8Array => {
  const { protocol, pid, role, peer, state, at } = notice;
  return write('process', id, { protocol, id: pid, role, peer, state, at: formatTime(at) });
};

interface Opening {
  readonly participant: ParticipantId;
  /** The last id the reader has seen, or empty. */
  readonly after: string;
  readonly closed: () => void;
}

/** A stream that begins with what the reader missed, then `ready`; `gap` instead tells it to read the lists again. */
const openStream = ({ feed, clock, signal }: EventRoutesOptions, opening: Opening): ReadableStream<Uint8Array> => {
  const ended = new AbortController();
  let stop: () => void = () => undefined;
  const close = (controller?: ReadableStreamDefaultController<Uint8Array>): void => {
    if (ended.signal.aborted) return;
    ended.abort();
    stop();
    signal.removeEventListener('abort', onStop);
    opening.closed();
    controller?.close();
  };
  let onStop: () => void = () => undefined;
  const keepAlive = async (push: (bytes: Uint8Array) => void): Promise<void> => {
    while (!ended.signal.aborted) {
      await clock.sleep(keepAliveMs, ended.signal);
      if (!ended.signal.aborted) push(encoder.encode(': still here\n\n'));
    }
  };
  return new ReadableStream<Uint8Array>(
    {
      start: (controller) => {
        const push = (bytes: Uint8Array): void => {
          if (ended.signal.aborted) return;
          controller.enqueue(bytes);
          if ((controller.desiredSize ?? 0) <= 0) close(controller);
        };
        onStop = () => close(controller);
        signal.addEventListener('abort', onStop, { once: true });
        stop = feed.subscribe(opening.participant, (event) => push(writeEvent(event)));
        const { events, isComplete } =
          opening.after === '' ? { events: [], isComplete: true } : feed.since(opening.participant, opening.after);
        if (isComplete) for (const event of events) push(writeEvent(event));
        push(write(isComplete ? 'ready' : 'gap', feed.place(), {}));
        void keepAlive(push);
      },
      cancel: () => close(),
    },
    new CountQueuingStrategy({ highWaterMark: maxWaiting }),
  );
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
      return new Response(stream, { headers: { 'content-type': 'text/event-stream' } });
    },
  );
};
