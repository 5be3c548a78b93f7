import { z } from '@hono/zod-openapi';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import { secretText } from '../../test/support/secrets.ts';
import { silentLogger } from '../log.ts';
import { createOperatorApi, operation, pageOf, pageQuery, toPage } from './operations.ts';

const token = secretText('token-of-an-operator');
const rows = ['a', 'b', 'c'];
const api = createOperatorApi({
  title: 'Probe',
  token,
  hosts: [],
  log: silentLogger,
  operations: [
    operation({
      method: 'get',
      path: '/v1/things',
      summary: 'List things.',
      tag: 'things',
      query: pageQuery,
      status: 200,
      answer: pageOf(z.object({ name: z.string() })),
      handle: async ({ query: { after, limit } }) =>
        toPage(rows.filter((row) => row > after).slice(0, limit + 1), {
          limit,
          keyOf: (row) => row,
          show: (name) => ({ name }),
        }),
    }),
    operation({
      method: 'post',
      path: '/v1/things/{name}',
      summary: 'Make a thing.',
      tag: 'things',
      params: z.object({ name: z.string().regex(/^[a-z]$/, 'is no name') }),
      body: z.strictObject({ size: z.number(), colour: z.string() }),
      status: 201,
      answer: z.object({ name: z.string(), size: z.number() }),
      handle: async ({ params, body }) => ({ name: params.name, size: body.size }),
    }),
    operation({
      method: 'delete',
      path: '/v1/things/{name}',
      summary: 'Fail.',
      tag: 'things',
      params: z.object({ name: z.string() }),
      status: 200,
      answer: z.object({}),
      handle: async ({ params }) => {
        if (params.name === 'a') throw new AppError('version-conflict', { detail: 'taken' });
        throw new Error('MARKER: what is inside');
      },
    }),
  ],
});

const call = async (method: string, path: string, body?: string, headers: Record<string, string> = {}) => {
  const answer = await api.request(`http://localhost${path}`, {
    method,
    headers: { host: 'localhost', authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body }),
  });
  return { status: answer.status, headers: answer.headers, body: JSON.parse(await answer.text()) };
};

describe("an operator's API", () => {
  test('parses, answers, and pages', async () => {
    expect(await call('POST', '/v1/things/a', '{"size":1,"colour":"red"}')).toMatchObject({
      status: 201,
      body: { name: 'a', size: 1 },
    });
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
    expect(paths.toSorted()).toEqual(['', '/colour', '/size', 'path:/name', 'query:']);
  });

  test.each([
    ['{"size":1,', 400, 'body-not-json'],
    ['{"size":1,"size":2,"colour":"red"}', 400, 'body-duplicate-key'],
    [`${'['.repeat(40)}${']'.repeat(40)}`, 400, 'body-too-deep'],
    [`"${'x'.repeat(300_000)}"`, 413, 'body-too-large'],
  ])('refuses a body that is none: %.20s', async (sent, status, code) => {
    expect(await call('POST', '/v1/things/a', sent)).toMatchObject({
      status,
      body: { type: `urn:stekker:1:error:${code}` },
    });
  });

  test('asks everybody for the token and its own name, whatever the path', async () => {
    for (const path of ['/v1/things', '/openapi.json', '/nothing']) {
      expect((await call('GET', path, undefined, { authorization: 'Bearer wrong' })).status).toBe(401);
      expect((await call('GET', path, undefined, { host: 'evil.example' })).status).toBe(403);
    }
    expect((await call('GET', '/nothing')).status).toBe(404);
    expect((await call('GET', '/nothing', undefined, { authorization: '' })).headers.get('cache-control')).toBe(
      'no-store',
    );
  });

  test('shows a fault of the table, and nothing of the inside of any other', async () => {
    expect(await call('DELETE', '/v1/things/a')).toMatchObject({ status: 409, body: { detail: 'taken' } });
    const broken = await call('DELETE', '/v1/things/b');
    expect(broken.status).toBe(500);
    expect(JSON.stringify(broken.body)).not.toContain('MARKER');
  });

  test('describes each operation', async () => {
    const { body } = await call('GET', '/openapi.json');
    expect(body.openapi).toBe('3.1.0');
    expect(Object.keys(body.paths)).toEqual(['/v1/things', '/v1/things/{name}']);
    expect(Object.keys(body.paths['/v1/things/{name}']).toSorted()).toEqual(['delete', 'post']);
    expect(body.paths['/v1/things'].get.parameters.map(({ name }: { name: string }) => name)).toEqual([
      'after',
      'limit',
    ]);
    expect(body.paths['/v1/things/{name}'].post.security).toEqual([{ operator: [] }]);
    expect(body.components.securitySchemes.operator).toEqual({ type: 'http', scheme: 'bearer' });
  });
});
