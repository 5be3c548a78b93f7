import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import { readBytes, readJson } from './body.ts';
import { problemResponse } from './problem.ts';

const post = (body: string | ReadableStream<Uint8Array>, type = 'application/json') =>
  new Request('http://localhost/', {
    method: 'POST',
    body,
    headers: type === '' ? {} : { 'content-type': type },
    ...({ duplex: 'half' } as object),
  });
const schema = z.strictObject({ a: z.string(), b: z.number() });
const limits = { maxBytes: 64, maxDepth: 4 };
const codeOf = (request: Request) =>
  readJson(request, schema, limits).then(
    () => 'read',
    (error: AppError) => error.code,
  );

describe('bodies', () => {
  test('are read when they are JSON of the form asked for', async () => {
    expect(await readJson(post('{"a":"x","b":1}'), schema, limits)).toEqual({ a: 'x', b: 1 });
    expect(await codeOf(post('{"a":"x","b":1}', 'application/ld+json; charset=utf-8'))).toBe('read');
  });

  test.each([
    ['no JSON', post('{"a":'), 'body-not-json'],
    ['another media type', post('a=x', 'text/plain'), 'media-type-unsupported'],
    ['a type that only begins like JSON', post('{}', 'application/jsonx'), 'media-type-unsupported'],
    ['too large', post(`{"a":"${'x'.repeat(80)}","b":1}`), 'body-too-large'],
    ['too deep', post('{"a":[[[[[1]]]]],"b":1}'), 'body-too-deep'],
    ['a key twice', post('{"a":"x","a":"y","b":1}'), 'body-duplicate-key'],
    ['another form', post('{"a":1,"c":2}'), 'body-invalid'],
  ])('are refused: %s', async (_name, request, code) => {
    expect(await codeOf(request)).toBe(code);
  });

  test('all faults are named at once', async () => {
    await expect(readJson(post('{"a":1,"c":2}'), schema, limits)).rejects.toMatchObject({
      faults: [{ path: '/a' }, { path: '/b' }, { path: '' }],
    });
  });

  test('a length that is stated is believed as far as it says too much, and no further', async () => {
    const stating = (length: string, body: string) => {
      const request = post(body);
      request.headers.set('content-length', length);
      return readBytes(request, 64).then(
        (bytes) => Buffer.from(bytes).toString(),
        (error: AppError) => error.code,
      );
    };
    expect(await stating('7', '{"a":1}')).toBe('{"a":1}');
    expect(await stating('65', '{"a":1}')).toBe('body-too-large');
    expect(await stating('7', 'x'.repeat(65))).toBe('body-too-large');
  });

  test('a stream without a length is cut off at the limit', async () => {
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        sent += 1;
        controller.enqueue(new Uint8Array(32));
      },
    });
    await expect(readBytes(post(endless), 64)).rejects.toMatchObject({ code: 'body-too-large' });
    expect(sent).toBeLessThan(10);
  });
});

describe('problems', () => {
  test('carry code, detail, faults and when to come again', async () => {
    const error = new AppError('busy', { detail: 'the queue is full', retryAfterSeconds: 2 });
    const response = problemResponse(error);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '2']);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(await response.json()).toEqual({
      type: 'urn:stekker:1:error:busy',
      title: 'The queue is full; ask again later.',
      status: 503,
      detail: 'the queue is full',
    });
    const faults = [{ path: '/a', message: 'is missing' }];
    expect(await problemResponse(new AppError('body-invalid', { faults })).json()).toMatchObject({ errors: faults });
  });

  test('say nothing of the inside of a 500', async () => {
    for (const thrown of [new Error('MARKER'), 'MARKER', new AppError('invariant-broken', { detail: 'MARKER' })])
      expect(await problemResponse(thrown).text()).not.toContain('MARKER');
  });
});
