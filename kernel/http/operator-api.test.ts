import { z } from '@hono/zod-openapi';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import { silentLogger } from '../log.ts';
import { createOperatorApi, finishOperatorApi } from './operator-api.ts';
import { pageOf, pageQuery, pageThrough } from './paging.ts';

const token = 'token-of-24-characters-0';
const rows = ['a', 'b', 'c'];
const api = createOperatorApi({ given: { owner: 'us' }, token, hosts: [], log: silentLogger });
api.endpoint(
  {
    method: 'get',
    path: '/v1/things',
    id: 'listThings',
    tag: 'things',
    summary: 'List things.',
    query: pageQuery,
    status: 200,
    answer: pageOf(z.object({ name: z.string() })),
  },
  ({ query }) =>
    pageThrough(
      query,
      async ({ after, limit }) => rows.filter((row) => row > after).slice(0, limit),
      (row) => row,
      (name) => ({ name }),
    ),
);
api.endpoint(
  {
    method: 'post',
    path: '/v1/things/{name}',
    id: 'makeThing',
    tag: 'things',
    summary: 'Make a thing.',
    params: z.object({ name: z.string().regex(/^[a-z]$/, 'is no name') }),
    body: z.strictObject({ size: z.number(), colour: z.string() }),
    status: 201,
    answer: z.object({ name: z.string(), size: z.number(), owner: z.string() }),
  },
  async ({ params, body, owner }) => {
    const row = { name: params.name, size: body.size, owner, secret: 'MARKER: what a row knows besides' };
    return row;
  },
);
api.endpoint(
  {
    method: 'delete',
    path: '/v1/things/{name}',
    id: 'fail',
    tag: 'things',
    summary: 'Fail.',
    params: z.object({ name: z.string() }),
    status: 204,
  },
  async ({ params }) => {
    if (params.name === 'a') throw new AppError('version-conflict', { detail: 'taken' });
    if (params.name === 'b') throw new Error('MARKER: what is inside');
    return undefined;
  },
);
finishOperatorApi(api, 'Probe');

const call = async (method: string, path: string, body?: string, headers: Record<string, string> = {}) => {
  const answer = await api.app.request(`http://localhost${path}`, {
    method,
    headers: { host: 'localhost', authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body }),
  });
  const text = await answer.text();
  return { status: answer.status, headers: answer.headers, body: text === '' ? undefined : JSON.parse(text) };
};

describe("an operator's API", () => {
  test('parses, answers with what is documented and nothing besides, and pages', async () => {
    const made = await call('POST', '/v1/things/a', '{"size":1,"colour":"red"}');
    expect([made.status, made.body]).toEqual([201, { name: 'a', size: 1, owner: 'us' }]);
    expect(await call('DELETE', '/v1/things/c')).toMatchObject({ status: 204, body: undefined });
    expect((await call('GET', '/v1/things?limit=2')).body).toEqual({
      items: [{ name: 'a' }, { name: 'b' }],
      next: 'b',
    });
    expect((await call('GET', '/v1/things?limit=2&after=b')).body).toEqual({ items: [{ name: 'c' }], next: null });
  });

  test('names all faults of path, query and body at once', async () => {
    const { status, headers, body } = await call('POST', '/v1/things/A?x=1', '{"size":"1","extra":0}');
    expect([status, headers.get('content-type')]).toEqual([400, 'application/problem+json']);
    const paths = body.errors.map(({ path }: { path: string }) => path);
    expect(paths.toSorted()).toEqual(['', '/colour', '/path/name', '/query', '/size']);
    expect(await call('GET', '/v1/things?limit=1&limit=2')).toMatchObject({
      status: 400,
      body: { type: 'urn:stekker:1:error:request-invalid', errors: [{ path: '/query/limit' }] },
    });
  });

  test.each([
    ['{"size":1,', 400, 'body-not-json'],
    ['{"size":1,"size":2,"colour":"red"}', 400, 'body-duplicate-key'],
    [`${'['.repeat(40)}${']'.repeat(40)}`, 400, 'body-too-deep'],
    [`"${'x'.repeat(1_100_000)}"`, 413, 'body-too-large'],
  ])('refuses a body that is none: %.20s', async (sent, status, code) => {
    expect(await call('POST', '/v1/things/a', sent)).toMatchObject({
      status,
      body: { type: `urn:stekker:1:error:${code}` },
    });
  });

  test('asks for the token below /v1 and for its own name everywhere', async () => {
    for (const path of ['/v1/things', '/v1/nothing']) {
      expect((await call('GET', path, undefined, { authorization: 'Bearer wrong' })).status).toBe(401);
      expect((await call('GET', path, undefined, { authorization: '' })).headers.get('cache-control')).toBe('no-store');
    }
    for (const path of ['/v1/things', '/openapi.json', '/nothing'])
      expect((await call('GET', path, undefined, { host: 'evil.example' })).status).toBe(403);
    expect((await call('GET', '/nothing')).status).toBe(404);
    const other = await call('POST', '/v1/things', '{}');
    expect([other.status, other.headers.get('allow')]).toEqual([405, 'GET']);
  });

  test('shows a fault of the table, and nothing of the inside of any other', async () => {
    expect(await call('DELETE', '/v1/things/a')).toMatchObject({ status: 409, body: { detail: 'taken' } });
    const broken = await call('DELETE', '/v1/things/b');
    expect(broken.status).toBe(500);
    expect(JSON.stringify(broken.body)).not.toContain('MARKER');
  });

  test('describes each endpoint, and shows the description to everybody', async () => {
    const { status, body } = await call('GET', '/openapi.json', undefined, { authorization: '' });
    expect([status, body.openapi]).toEqual([200, '3.1.0']);
    expect(Object.keys(body.paths)).toEqual(['/v1/things', '/v1/things/{name}']);
    expect(Object.keys(body.paths['/v1/things/{name}']).toSorted()).toEqual(['delete', 'post']);
    const { parameters, operationId } = body.paths['/v1/things'].get;
    expect(parameters.map(({ name }: { name: string }) => name)).toEqual(['after', 'limit']);
    expect(operationId).toBe('listThings');
    expect(body.paths['/v1/things/{name}'].post.security).toEqual([{ bearer: [] }]);
    expect(body.components.securitySchemes.bearer).toEqual({ type: 'http', scheme: 'bearer' });
  });
});
