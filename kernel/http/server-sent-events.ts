/** Server-sent events, as both services write them. */

export interface Pipe {
  readonly body: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** The first words may be longer than what may wait later, by this many bytes. */
  readonly allow: (bytes: number) => void;
  readonly send: (frame: Uint8Array<ArrayBuffer>) => void;
  /** Ends it in order: what waits is still read. */
  readonly end: () => void;
}

const encoder = new TextEncoder();

/** One event. No proxy may hold it back, so its answer goes with `eventStreamHeaders`. */
export const frameEvent = (id: string, data: string, event?: string): Uint8Array<ArrayBuffer> =>
  encoder.encode(`id: ${id}\n${event === undefined ? '' : `event: ${event}\n`}data: ${data}\n\n`);

/** Keeps a quiet line open; a reader takes no notice of it. */
export const stillHere: Uint8Array<ArrayBuffer> = encoder.encode(': still here\n\n');

export const eventStreamHeaders: Readonly<Record<string, string>> = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-store',
  'x-accel-buffering': 'no',
};

/**
 * What leads to one reader, with a bound on the bytes that wait for it: a reader that is slower is dropped, and resumes by
 * the last id it has seen. `onGone` is called once, whoever ends it.
 */
export const createPipe = (maxUnsentBytes: number, onGone: (why: string) => void): Pipe => {
  let controller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>> | undefined;
  /** What was sent in this turn of the loop: it goes out in one piece. */
  let gathered: Uint8Array<ArrayBuffer>[] = [];
  let gatheredBytes = 0;
  let isOpen = true;
  let allowance = maxUnsentBytes;
  const leave = (why: string): boolean => {
    const was = isOpen;
    isOpen = false;
    if (was) onGone(why);
    return was;
  };
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      start: (its) => {
        controller = its;
      },
      cancel: () => void leave('the reader left'),
    },
    new ByteLengthQueuingStrategy({ highWaterMark: 0 }),
  );
  const unsent = (): number => gatheredBytes - (controller?.desiredSize ?? 0);
  const flush = (): void => {
    const frames = gathered;
    gathered = [];
    gatheredBytes = 0;
    const [only] = frames;
    if (isOpen && only !== undefined) controller?.enqueue(frames.length === 1 ? only : Buffer.concat(frames));
  };
  return {
    body,
    allow: (bytes) => {
      allowance = maxUnsentBytes + bytes;
    },
    send: (frame) => {
      if (!isOpen) return;
      if (unsent() > allowance) {
        if (leave('too slow')) controller?.error(new Error('the reader is too slow'));
        return;
      }
      if (gathered.length === 0) setImmediate(flush);
      gathered.push(frame);
      gatheredBytes += frame.length;
    },
    end: () => {
      flush();
      if (leave('ended')) controller?.close();
    },
  };
};
