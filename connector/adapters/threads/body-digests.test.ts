import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../../kernel/random.ts';
import { createBodyDigests } from './body-digests.ts';
import { createRingMemory, createRingReader, createRingWriter } from './ring.ts';

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('base64url');
const join = (pieces: readonly Uint8Array[] | null): string => Buffer.concat([...(pieces ?? [])]).toString();

describe('ring', () => {
  test('gives what was put in, in order, also across its end', () => {
    const memory = createRingMemory(64);
    const writer = createRingWriter(memory);
    const reader = createRingReader(memory);
    for (let round = 0; round < 50; round += 1) {
      const text = 'abcdefghijklmnopqrstuvwxyz'.slice(0, round % 27);
      expect(writer.push(round, Buffer.from(text))).toBe(true);
      const { stream, pieces } = reader.next();
      expect([stream, join(pieces)]).toEqual([round, text]);
      reader.taken();
    }
  });

  test('takes nothing that does not fit, and says when there is room again', () => {
    const memory = createRingMemory(64);
    const writer = createRingWriter(memory);
    const reader = createRingReader(memory);
    expect(writer.push(1, new Uint8Array(40))).toBe(true);
    expect(writer.push(2, new Uint8Array(40))).toBe(false);
    writer.want();
    expect(writer.finish(1)).toBe(true);
    expect(reader.next().stream).toBe(1);
    expect(reader.taken()).toBe(true);
    expect(reader.next().pieces).toBeNull();
    expect(reader.taken()).toBe(false);
    expect(writer.push(2, new Uint8Array(40))).toBe(true);
  });
});

describe('digests of bodies', () => {
  const digestOf = async (digests: ReturnType<typeof createBodyDigests>, chunks: readonly Uint8Array[]) => {
    let drained = Promise.withResolvers<void>();
    const digest = digests.begin(() => drained.resolve());
    for (const chunk of chunks) {
      if (digest.update(chunk)) continue;
      await drained.promise;
      drained = Promise.withResolvers();
    }
    return new Promise<string>((resolve) => digest.finish(resolve));
  };

  test('of short and long ones, however they are cut, side by side', async () => {
    await using digests = createBodyDigests();
    const random = seededRandom('digests');
    const sizes = [0, 1, 65_536, 65_537, 1_000_000, 30_000_000];
    const cuts = [1_000_003, 16_384, 300_000];
    const bodies = sizes.map((size) => {
      const bytes = Buffer.alloc(size, random.bytes(97));
      const cut = cuts[size % 3] ?? 1;
      return Array.from({ length: Math.ceil(size / cut) }, (_, index) =>
        bytes.subarray(index * cut, (index + 1) * cut),
      );
    });
    const found = await Promise.all(bodies.map((chunks) => digestOf(digests, chunks)));
    expect(found).toEqual(bodies.map((chunks) => sha(Buffer.concat(chunks))));
  });

  test('a producer that is faster is told to wait, and nothing is lost', async () => {
    await using digests = createBodyDigests();
    const chunk = Buffer.alloc(1_048_576, 'x');
    let waits = 0;
    let drains = 0;
    const digest = digests.begin(() => {
      drains += 1;
    });
    for (let count = 0; count < 40; count += 1) if (!digest.update(chunk)) waits += 1;
    expect(waits).toBeGreaterThan(0);
    const found = await new Promise<string>((resolve) => digest.finish(resolve));
    expect(found).toBe(sha(Buffer.alloc(40 * 1_048_576, 'x')));
    expect(drains).toBe(0); // it had ended before there was room again
  });
});
