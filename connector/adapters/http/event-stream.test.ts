import fc from 'fast-check';
import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { startHubParty } from '../../../test/support/hub-parties.ts';
import { createEventParser, createEventStream } from './event-stream.ts';

describe('server-sent events', () => {
  test('are read however the pieces are cut', () => {
    const text = 'id: 1\ndata: {"a":1}\n\n: beat\n\ndata:x\ndata: y\r\n\r\nevent: z\n\ndata: last\n\ndata: unfinished';
    const cuts = fc.array(fc.nat({ max: text.length }), { maxLength: 20 });
    fc.assert(
      fc.property(cuts, (places) => {
        const parse = createEventParser();
        const ends = [...places.toSorted((a, b) => a - b), text.length];
        const found = ends.flatMap((end, index) => parse(text.slice(index === 0 ? 0 : ends[index - 1], end)));
        expect(found).toEqual(['{"a":1}', 'x\ny', 'last']);
      }),
    );
  });

  test('a message without an end is not collected without end', () => {
    const parse = createEventParser(100);
    expect(() => parse(`data: ${'x'.repeat(101)}`)).toThrow('longer than 100');
    const lines = createEventParser(100);
    expect(() => lines('data: 0123456789\n'.repeat(10))).toThrow('longer than 100');
  });
});

describe('the stream of a broker', () => {
  test.each([
    [401, 'text/event-stream', 'unauthenticated'],
    [403, 'text/event-stream', 'forbidden'],
    [503, 'text/event-stream', 'busy'],
    [500, 'text/event-stream', 'fetch-failed'],
    [200, 'text/html', 'fetch-failed'],
  ])('an answer %i of %s is no stream', async (status, type, code) => {
    await using broker = await startHubParty();
    await using connector = await startHubParty();
    const app = new Hono();
    app.get('/events', () => new Response('data: x\n\n', { status, headers: { 'content-type': type } }));
    broker.serve(app);
    const open = createEventStream({ ...connector, broker: broker.did, url: `${broker.origin}/events` });
    const read = async () => {
      for await (const _ of open(7).messages) return 'a message';
      return 'the end';
    };
    await expect(read()).rejects.toMatchObject({ code });
  });

  test('an address that may not be called is not called', async () => {
    await using connector = await startHubParty();
    const open = createEventStream({ ...connector, broker: connector.did, url: 'http://10.0.0.1/events' });
    const read = async () => {
      for await (const _ of open(null).messages) return;
    };
    await expect(read()).rejects.toMatchObject({ code: 'address-refused' });
  });
});
