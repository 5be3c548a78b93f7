import { setImmediate as immediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import { silentLogger } from '../../kernel/log.ts';
import type { StoredEvent } from './ports.ts';
import { createStreams, type Stream } from './streams.ts';

const anna = 'did:web:anna.example' as Did;
const bert = 'did:web:bert.example' as Did;
const event = (seq: number, audience: readonly Did[] | null = null): StoredEvent => ({
  seq,
  type: 'keys',
  subject: `s${seq}`,
  at: 0,
  effectiveAt: 0,
  evidence: null,
  audience,
});
const bytes = (text: string) => new TextEncoder().encode(text);

const make = (limits = {}) =>
  createStreams({
    limits: { maxUnsentBytes: 100, maxPerDid: 2, maxStreams: 3, ...limits },
    frameOf: (one, n) => bytes(`${n}:${one.subject} `),
    log: silentLogger,
  });
const open = (streams: ReturnType<typeof make>, did: Did): Stream => {
  const stream = streams.open(did);
  if (stream === undefined) throw new Error('no room');
  return stream;
};
const readAll = async (stream: Stream): Promise<string> => {
  let text = '';
  for await (const piece of stream.body) text += new TextDecoder().decode(piece);
  return text;
};

describe('streams', () => {
  test('number events for each recipient without gaps, and hold those that come before the first words', async () => {
    const streams = make();
    const one = open(streams, anna);
    const other = open(streams, bert);
    other.begin([], { seq: 6, n: 6 });
    streams.deliver(event(6));
    streams.deliver(event(7, [anna]));
    one.begin([bytes('first ')], { seq: 6, n: 3 });
    streams.deliver(event(8));
    streams.deliver(event(9, [bert]));
    expect(one.position()).toEqual({ seq: 8, n: 5 });
    for (const stream of streams.all()) stream.end();
    expect(await readAll(one)).toBe('first 4:s7 5:s8 ');
    expect(await readAll(other)).toBe('7:s8 8:s9 ');
    expect(streams.all()).toEqual([]);
  });

  test('a slow reader is dropped, and the others go on', async () => {
    const streams = make();
    const slow = open(streams, anna);
    const quick = open(streams, bert);
    slow.begin([bytes('x'.repeat(500))], { seq: 0, n: 0 });
    quick.begin([], { seq: 0, n: 0 });
    const reading = readAll(quick);
    for (let seq = 1; seq <= 60; seq += 1) {
      streams.deliver(event(seq));
      await immediate(); // the quick one reads
    }
    expect(streams.all()).toEqual([quick]);
    await expect(readAll(slow)).rejects.toThrow('too slow');
    quick.end();
    expect(await reading).toContain('60:s60');
  });

  test('a recipient’s next stream takes the place of its oldest; too many are refused', async () => {
    const streams = make();
    const first = open(streams, anna);
    const second = open(streams, anna);
    const third = open(streams, anna);
    expect(streams.all()).toEqual([second, third]);
    expect(await readAll(first)).toBe('');
    open(streams, bert);
    expect(streams.open('did:web:carl.example' as Did)).toBeUndefined();
  });

  test('a reader that leaves is forgotten', async () => {
    const streams = make();
    const stream = open(streams, anna);
    stream.begin([], { seq: 0, n: 0 });
    await stream.body.cancel();
    streams.deliver(event(1));
    stream.end();
    expect(streams.all()).toEqual([]);
  });

  test('a recipient whose first words never come does not pile up events', async () => {
    const streams = make();
    const stream = open(streams, anna);
    for (let seq = 1; seq <= 10_001; seq += 1) streams.deliver(event(seq));
    expect(streams.all()).toEqual([]);
    expect(await readAll(stream)).toBe('');
  });
});
