import { describe, expect, test } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import { jwsText } from '../../contracts/ledger/jws.ts';
import { inclusionFromTiles } from '../../contracts/ledger/tile-proofs.ts';
import { decodeBundle } from '../../contracts/ledger/tiles.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { silentLogger } from '../../kernel/log.ts';
import { joinAll, logBench, published } from '../../test/support/log-bench.ts';
import { agreementBody, provider, statementBody, stranger } from '../../test/support/log-parties.ts';
import { createLedgerRoutes, logPathOf } from './routes.ts';

/** A caller is who the header says: what proves it is another part. */
const authenticate = async (request: Request): Promise<string> => {
  const caller = request.headers.get('authorization');
  if (caller === null) throw new AppError('unauthenticated');
  return caller;
};

const served = async () => {
  const bench = logBench();
  const ledger = await bench.start();
  await joinAll(ledger);
  const app = createLedgerRoutes({ ledger, authenticate, log: silentLogger });
  const post = (path: string, body: unknown, caller: string = provider.did, headers: Record<string, string> = {}) =>
    app.request(path, {
      method: 'POST',
      body: typeof body === 'string' ? body : JSON.stringify(body),
      headers: { 'content-type': 'application/json', authorization: caller, ...headers },
    });
  const get = (path: string, caller?: string) =>
    app.request(path, { headers: caller === undefined ? {} : { authorization: caller } });
  return { bench, ledger, post, get, app };
};

describe('routes of the log', () => {
  test('a new entry is 201 with the promise, the same again 200 with the registered artifact', async () => {
    const { ledger, post, get } = await served();
    const agreement = agreementBody();
    const created = await post('/log/entries', agreement.body);
    expect(created.status).toBe(201);
    const promise = (await created.json()) as object;
    expect(Object.keys(promise)).toEqual(['payload', 'signatures']);
    const again = await post('/log/entries', agreement.body);
    expect(again.status).toBe(200);
    expect(await again.json()).toEqual({ promise, artifact: JSON.parse(jwsText(agreement.body.artifact)) });
    const one = statementBody({ agreement });
    await post('/log/entries', one.body);
    const newest = await get(`/ext/1/statements/${agreement.digest}/newest`, provider.did);
    expect(await newest.json()).toEqual({ artifact: one.body.artifact, sums: one.body.sums });
    expect((await get(`/ext/1/statements/${agreement.digest}/newest`, stranger.did)).status).toBe(404);
    expect((await get(`/ext/1/statements/${agreement.digest}/newest`)).status).toBe(401);
    await ledger.close();
  });

  test.each([
    ['without a proof of who asks', { authorization: '' }, '{}', 'unauthenticated', 401],
    ['no JSON', {}, '{"a":', 'body-not-json', 400],
    ['a key twice', {}, '{"kind":"agreement","kind":"agreement"}', 'body-duplicate-key', 400],
    ['too large', {}, JSON.stringify({ a: 'x'.repeat(300_000) }), 'body-too-large', 413],
    ['too deep', {}, `${'['.repeat(40)}${']'.repeat(40)}`, 'body-too-deep', 400],
    ['an unknown kind', {}, '{"kind":"poem"}', 'body-invalid', 400],
    ['another media type', { 'content-type': 'text/plain' }, '{}', 'media-type-unsupported', 415],
  ])('a bad body is refused with its own code: %s', async (_name, headers, body, code, status) => {
    const { ledger, app } = await served();
    const sent = { 'content-type': 'application/json', authorization: provider.did, ...headers };
    const given = Object.fromEntries(Object.entries(sent).filter(([, value]) => value !== ''));
    const response = await app.request('/log/entries', { method: 'POST', body, headers: given });
    expect(response.status).toBe(status);
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(await response.json()).toMatchObject({ type: `urn:stekker:1:error:${code}` });
    await ledger.close();
  });

  test('checkpoint, tiles, bundles and public artifacts are static files that anybody can verify', async () => {
    const { bench, ledger, get } = await served();
    const note = await published(bench, 3);
    const base = logPathOf(ledger.origin);
    const checkpoint = await get(`${base}/checkpoint`);
    expect(await checkpoint.text()).toBe(note);
    expect(checkpoint.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(checkpoint.headers.get('cache-control')).toBe('public, max-age=1');
    const tile = await get(`${base}/tile/0/000.p/3`);
    expect(tile.headers.get('content-type')).toBe('application/octet-stream');
    expect(tile.headers.get('cache-control')).toContain('immutable');
    const bundle = decodeBundle(new Uint8Array(await (await get(`${base}/tile/entries/000.p/3`)).arrayBuffer()));
    expect(bundle.ok && bundle.value.length).toBe(3);
    const fetchFile = async (path: string) => {
      const response = await get(`${base}/${path}`);
      return response.ok ? new Uint8Array(await response.arrayBuffer()) : undefined;
    };
    const path = await inclusionFromTiles(nodeCrypto, { index: 1, size: 3 }, fetchFile);
    expect(path.ok && path.value.length).toBe(2);
    const row = await bench.store.byIndex(ledger.origin, 0);
    const genesis = await get(`${base}/artifact/${row?.digest}`);
    expect(await genesis.json()).toMatchObject({ type: 'genesis' });
    expect(await (await get(`${base}/proof/1`)).json()).toMatchObject({ index: '1', checkpoint: note });
    await ledger.close();
  });

  test.each([
    'tile/0/000.p/256',
    'tile/0/000.p/0',
    'tile/0/%2e%2e/checkpoint',
    'tile/../../secret',
    'tile/0/..%2f..%2f..%2fintent',
    'tile/0/1',
    'tile/0/999',
    'artifact/zz',
    'artifact/0000000000000000000000000000000000000000000000000000000000000000',
    'proof/-1',
    'proof/99',
    'proof/01',
  ])('nothing else is served: %s', async (path) => {
    const { ledger, get } = await served();
    expect((await get(`${logPathOf(ledger.origin)}/${path}`)).status).toBe(404);
    await ledger.close();
  });

  test('a sealed artifact is never served, whatever its digest', async () => {
    const { bench, ledger, get, post } = await served();
    await post('/log/entries', agreementBody().body);
    const row = await bench.store.byIndex(ledger.origin, 3);
    expect(row?.digest).toMatch(/^[0-9a-f]{64}$/);
    expect((await get(`${logPathOf(ledger.origin)}/artifact/${row?.digest}`)).status).toBe(404);
    await ledger.close();
  });

  test('double signing is reported and read by parties', async () => {
    const { ledger, get, post } = await served();
    const agreement = agreementBody();
    const one = statementBody({ agreement });
    const other = statementBody({ agreement, sums: { totals: { requests: '9' } } });
    const report = { type: 'equivocation-proof', a: one.body.artifact, b: other.body.artifact };
    const answer = await post('/log/equivocations', report, stranger.did);
    expect([answer.status, ((await answer.json()) as { against: string[] }).against.length]).toEqual([201, 2]);
    const read = await get(`/log/equivocations/${agreement.digest}`, provider.did);
    expect(((await read.json()) as { proofs: unknown }).proofs).toEqual([report, report]);
    expect((await post('/log/equivocations', { type: 'other' })).status).toBe(422);
    await ledger.close();
  });
});
