import type { ReplaySet } from '../../data-plane/replay.pure.ts';

/**
 * The proofs that were used, for all threads of a process (wire §5 "Replay"): spans of 120 s in shared memory. A key is claimed
 * in one step, so that a thread that is killed leaves nothing half done: of the 16 bytes the first eight stand in the table.
 * Two that begin alike count as one, once in 2^43 claims of a full table; what is refused is asked for again under a new id.
 *
 * One thread, the main one, makes the spans ready ahead of time; nobody else ever empties one.
 */

const spanMs = 120_000;
/** The span of now, those beside it, which clocks may reach, and one that is made ready. */
const spans = 4;
const buckets = 4_096;
/** Of each span: its number, and how many keys stand in it; then how many by the agreements of each bucket. */
const headWords = 2;

/** What threads share; made by `createReplayMemory`. */
export interface ReplayMemory {
  readonly keys: SharedArrayBuffer;
  readonly heads: SharedArrayBuffer;
  /** Keys of each span. */
  readonly capacity: number;
}

/** For `capacity` keys in each span, a power of two. Nothing is ready yet. */
export const createReplayMemory = (capacity = 2_097_152): ReplayMemory => {
  const memory = {
    keys: new SharedArrayBuffer(spans * 2 * capacity * 8), // half empty, so that a look takes one or two steps
    heads: new SharedArrayBuffer(spans * (headWords + buckets) * 4),
    capacity,
  };
  const heads = new Int32Array(memory.heads);
  for (let span = 0; span < spans; span += 1) Atomics.store(heads, span * (headWords + buckets), -1);
  return memory;
};

const headOf = (number: number): number => (number % spans) * (headWords + buckets);

/** Makes the spans ready that a key of now may fall into, and the one behind them. Called every few seconds, by one thread. */
export const readySpans = ({ keys, heads, capacity }: ReplayMemory, now: number): void => {
  const head = new Int32Array(heads);
  const current = Math.floor(now / spanMs);
  for (let number = Math.max(0, current - 1); number < current - 1 + spans; number += 1) {
    const at = headOf(number);
    const before = Atomics.load(head, at);
    if (before === number || before > number) continue; // a clock that went back: what was used then is forgotten
    Atomics.store(head, at, -1);
    const slots = 2 * capacity;
    if (Atomics.load(head, at + 1) > 0) new BigInt64Array(keys, (number % spans) * slots * 8, slots).fill(0n);
    head.fill(0, at + 1, at + headWords + buckets);
    Atomics.store(head, at, number);
  }
};

/** There is no room, or the span is not ready: repeats cannot be ruled out. */
const unknown = { retryAfterSeconds: 60 } as const;

/** The set over shared memory: one for each thread. At most an eighth of a span is for the agreements of one bucket. */
export const createSharedReplay = ({ keys, heads, capacity }: ReplayMemory): ReplaySet => {
  const head = new Int32Array(heads);
  const table = new BigInt64Array(keys);
  const slots = 2 * capacity;
  const share = capacity / 8;
  const bucketOf = (agreement: string): number => {
    let hash = 0;
    for (let index = 0; index < agreement.length; index += 1)
      hash = (Math.imul(hash, 31) + agreement.charCodeAt(index)) | 0;
    return headWords + (hash & (buckets - 1));
  };
  /** Zero marks a free slot, so a key of zeros takes a one. */
  const insert = (start: number, key: Buffer): boolean => {
    const first = key.readBigInt64BE(0);
    const value = first === 0n ? 1n : first;
    let slot = key.readUInt32BE(8) & (slots - 1);
    for (;;) {
      const before = Atomics.compareExchange(table, start + slot, 0n, value);
      if (before === 0n) return true;
      if (before === value) return false;
      slot = (slot + 1) & (slots - 1);
    }
  };
  return {
    claim: (key, at, agreement) => {
      const number = Math.floor(at / spanMs);
      const place = headOf(number);
      if (Atomics.load(head, place) !== number) return unknown;
      const bucket = place + bucketOf(agreement);
      if (Atomics.load(head, bucket) >= share || Atomics.load(head, place + 1) >= capacity) return unknown;
      if (!insert((number % spans) * slots, Buffer.from(key.buffer, key.byteOffset, key.length))) return 'seen';
      Atomics.add(head, bucket, 1);
      Atomics.add(head, place + 1, 1);
      return Atomics.load(head, place) === number ? 'fresh' : unknown;
    },
  };
};
