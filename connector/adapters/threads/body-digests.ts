import { createHash, hash } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import type { BodyDigest, BodyDigests } from '../../data-plane/ports.ts';
import type { HashNews } from './hash-worker.ts';
import { createRingMemory, createRingWriter, type RingWriter } from './ring.ts';

/** Digests of bodies: short ones here, at the end; long ones in a thread of their own while they stream (hot-path §8). */

const ringBytes = 8_388_608;
/** A body is hashed here up to this length. */
const inlineBytes = 65_536;
/** Pieces in the ring are no longer than this, so that no stream takes it whole. */
const frameBytes = 262_144;

const digestOf = (chunks: readonly Uint8Array[]): string => {
  const [only] = chunks;
  if (chunks.length === 1 && only !== undefined) return hash('sha256', only, 'base64url');
  const sha = createHash('sha256');
  for (const chunk of chunks) sha.update(chunk);
  return sha.digest('base64url');
};

/** What one body still has to bring into the ring. */
interface Stream {
  readonly id: number;
  readonly queue: Uint8Array[];
  readonly onDrain: () => void;
  done: ((digest: string) => void) | null;
  isFinished: boolean;
}

interface Thread {
  readonly open: (onDrain: () => void) => Stream;
  /** Brings as much of the queue into the ring as fits; true when all of it did. */
  readonly flush: (stream: Stream) => boolean;
  readonly stop: () => Promise<number>;
}

const pushAll = (ring: RingWriter, { id, queue }: Stream): boolean => {
  for (let chunk = queue[0]; chunk !== undefined; chunk = queue[0]) {
    const piece = chunk.length > frameBytes ? chunk.subarray(0, frameBytes) : chunk;
    if (!ring.push(id, piece)) return false;
    if (piece === chunk) queue.shift();
    else queue[0] = chunk.subarray(frameBytes);
  }
  return true;
};

const startThread = (): Thread => {
  const memory = createRingMemory(ringBytes);
  const ring = createRingWriter(memory);
  const file = import.meta.url.endsWith('.ts') ? './hash-worker.ts' : './hash-worker.js';
  const worker = new Worker(new URL(file, import.meta.url), { workerData: memory });
  worker.unref();
  const streams = new Map<number, Stream>();
  const waiting = new Set<Stream>();
  let last = 0;

  const tryOnce = (stream: Stream): boolean => {
    if (!pushAll(ring, stream)) return false;
    if (stream.done === null || stream.isFinished) return true;
    stream.isFinished = ring.finish(stream.id);
    return stream.isFinished;
  };
  const flush = (stream: Stream): boolean => {
    if (waiting.has(stream)) return false;
    if (tryOnce(stream)) return true;
    ring.want();
    if (tryOnce(stream)) return true; // room came between the look and the word
    waiting.add(stream);
    return false;
  };
  const onRoom = (): void => {
    const all = [...waiting];
    waiting.clear();
    for (const stream of all) if (flush(stream) && stream.done === null) stream.onDrain();
  };
  worker.on('message', (news: HashNews) => {
    if (news === 'room') return onRoom();
    const stream = streams.get(news.stream);
    streams.delete(news.stream);
    stream?.done?.(news.digest);
  });
  return {
    open: (onDrain) => {
      last = (last + 1) % 0xffff_ffff;
      const stream: Stream = { id: last, queue: [], onDrain, done: null, isFinished: false };
      streams.set(last, stream);
      return stream;
    },
    flush,
    stop: () => worker.terminate(),
  };
};

/** The thread is started with the first long body. */
export const createBodyDigests = (): BodyDigests & AsyncDisposable => {
  let thread: Thread | undefined;
  const begin = (onDrain: () => void): BodyDigest => {
    let short: Uint8Array[] = [];
    let bytes = 0;
    let long: Stream | undefined;
    const update = (chunk: Uint8Array): boolean => {
      if (long === undefined) {
        short.push(chunk);
        bytes += chunk.length;
        if (bytes <= inlineBytes) return true;
        thread ??= startThread();
        long = thread.open(onDrain);
        long.queue.push(...short);
        short = [];
      } else long.queue.push(chunk);
      return thread?.flush(long) ?? true;
    };
    return {
      update,
      finish: (done) => {
        if (long === undefined) return done(digestOf(short));
        long.done = done;
        thread?.flush(long);
      },
    };
  };
  return { begin, [Symbol.asyncDispose]: async () => void (await thread?.stop()) };
};
