import { createHash, randomBytes, randomFillSync } from 'node:crypto';

/** The one source of randomness. */
export interface Random {
  readonly bytes: (length: number) => Uint8Array;
}

/** Drawn at once for many small askers: an id takes ten bytes, and asking the system costs the same for thousands. */
const drawnBytes = 4_096;
const smallBytes = 64;
const drawn = new Uint8Array(drawnBytes);
let given = drawnBytes;

/** Random bytes of the operating system; each byte is given out once, and stays nowhere else. */
export const systemRandom: Random = {
  bytes: (length) => {
    if (length > smallBytes) return randomBytes(length);
    if (given + length > drawnBytes) {
      randomFillSync(drawn);
      given = 0;
    }
    const bytes = drawn.slice(given, given + length);
    drawn.fill(0, given, given + length);
    given += length;
    return bytes;
  },
};

/** The same bytes for the same seed: for simulations, generators and tests. */
export const seededRandom = (seed: string): Random => {
  let counter = 0;
  return {
    bytes: (length) => {
      const out = new Uint8Array(length);
      for (let offset = 0; offset < length; offset += 32) {
        const block = createHash('sha256').update(`${seed}/${counter}`).digest();
        counter += 1;
        out.set(block.subarray(0, Math.min(32, length - offset)), offset);
      }
      return out;
    },
  };
};

/** A UUIDv7 (RFC 9562 §5.7) at the instant `now`, lower case. */
export const uuidV7 = (now: number, random: Random): string => {
  const bytes = new Uint8Array(16);
  bytes.set(random.bytes(10), 6);
  let time = now;
  for (let index = 5; index >= 0; index -= 1) {
    bytes[index] = time % 256;
    time = Math.floor(time / 256);
  }
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x70;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Buffer.from(bytes).toString('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
};

const counterLimit = 4096;

/**
 * UUIDv7 ids of one process that only grow: within a millisecond the 12 bits behind the time count (RFC 9562 §6.2), and
 * a clock that jumps back does not take them back.
 */
export const createIds = (clock: { readonly now: () => number }, random: Random): (() => string) => {
  let time = 0;
  let counter = 0;
  return () => {
    const now = clock.now();
    counter = now > time ? 0 : counter + 1;
    time = Math.max(now, time);
    if (counter === counterLimit) {
      counter = 0;
      time += 1;
    }
    const id = uuidV7(time, random);
    return `${id.slice(0, 15)}${counter.toString(16).padStart(3, '0')}${id.slice(18)}`;
  };
};
