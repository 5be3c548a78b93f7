/**
 * The proofs that were used (wire §5 "Replay"): two generations of 120 s in flat tables. A request id carries its own time
 * (UUIDv7), so the generation follows from the id: one look-up, and the same id never counts in two of them. A `Set` of this
 * size stalls for milliseconds when it grows (hot-path).
 */

export const generationMs = 120_000;
const wordsPerKey = 4;

/** There is no room, or the clock went back: repeats cannot be ruled out. */
const unknown = { retryAfterSeconds: 60 } as const;

/** A replay store (kernel/replay.ts) that answers at once. */
export interface ReplaySet {
  /** Claims a key of 16 bytes under the time of its request id, ms. */
  readonly claim: (key: Uint8Array, at: number, agreement: string) => 'fresh' | 'seen' | typeof unknown;
}

interface Generation {
  /** Which span of 120 s it holds; -1 when it was never used. */
  number: number;
  readonly words: Uint32Array;
  size: number;
  readonly byAgreement: Map<string, number>;
}

const makeGeneration = (slots: number): Generation => ({
  number: -1,
  words: new Uint32Array(slots * wordsPerKey),
  size: 0,
  byAgreement: new Map(),
});

const empty = (generation: Generation, number: number): void => {
  if (generation.size > 0) generation.words.fill(0);
  generation.number = number;
  generation.size = 0;
  generation.byAgreement.clear();
};

const wordAt = (bytes: Uint8Array, at: number): number =>
  (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0;

const isFree = (words: Uint32Array, slot: number): boolean =>
  words[slot] === 0 && words[slot + 1] === 0 && words[slot + 2] === 0 && words[slot + 3] === 0;

/** Puts a key into its slot; false when it is there already. Zeros mark a free slot, so a key of zeros takes a one. */
const insert = (words: Uint32Array, key: Uint8Array): boolean => {
  const a = wordAt(key, 0);
  const b = wordAt(key, 4);
  const c = wordAt(key, 8);
  const d = wordAt(key, 12);
  const last = (a | b | c | d) === 0 ? 1 : d;
  const mask = words.length - 1;
  let slot = (a * wordsPerKey) & mask;
  for (; !isFree(words, slot); slot = (slot + wordsPerKey) & mask) {
    if (words[slot] === a && words[slot + 1] === b && words[slot + 2] === c && words[slot + 3] === last) return false;
  }
  words[slot] = a;
  words[slot + 1] = b;
  words[slot + 2] = c;
  words[slot + 3] = last;
  return true;
};

/**
 * A set for `capacity` keys (a power of two) in each generation, at most an eighth of them for one agreement. Nothing is
 * ever pushed out: what does not fit is refused.
 */
export const createReplaySet = (capacity = 2_097_152): ReplaySet => {
  const slots = capacity * 2; // half empty, so that a look takes one or two steps
  const generations = [makeGeneration(slots), makeGeneration(slots)] as const;
  const share = capacity / 8;
  return {
    claim: (key, at, agreement) => {
      const number = Math.floor(at / generationMs);
      const generation = number % 2 === 0 ? generations[0] : generations[1];
      if (generation.number > number) return unknown; // the clock went back: what was used then is forgotten
      if (generation.number < number) empty(generation, number);
      const used = generation.byAgreement.get(agreement) ?? 0;
      if (used >= share || generation.size >= capacity) return unknown;
      if (!insert(generation.words, key)) return 'seen';
      generation.size += 1;
      generation.byAgreement.set(agreement, used + 1);
      return 'fresh';
    },
  };
};
