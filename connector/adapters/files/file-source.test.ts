import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { Source, SourceRequest } from '../../data-plane/ports.ts';
import { createFileSource } from './file-source.ts';

const base = mkdtempSync(join(tmpdir(), 'stekker-files-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
const root = join(base, 'root');
mkdirSync(join(root, 'sub/.hidden'), { recursive: true });
mkdirSync(join(base, 'root-beside'));
writeFileSync(join(base, 'secret.txt'), 'MARKER');
writeFileSync(join(base, 'root-beside/x.txt'), 'MARKER');
writeFileSync(join(root, 'a.geojson'), '{"features":[]}');
writeFileSync(join(root, 'sub/naam met spaties.csv'), 'a,b\n1,2\n');
writeFileSync(join(root, '.env'), 'MARKER');
writeFileSync(join(root, 'sub/.hidden/x.txt'), 'MARKER');
writeFileSync(join(root, 'empty.txt'), '');
symlinkSync(join(base, 'secret.txt'), join(root, 'link.txt'));
symlinkSync(base, join(root, 'up'));
symlinkSync(join(base, 'root-beside'), join(root, 'beside'));
symlinkSync(join(root, 'a.geojson'), join(root, 'same.geojson'));
symlinkSync(join(root, '.env'), join(root, 'env.txt'));
symlinkSync(join(root, 'loop'), join(root, 'loop'));
execFileSync('/usr/bin/mkfifo', [join(root, 'pipe')]);

interface Got {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly failed: boolean;
}

const ask = (source: Source, changes: Partial<SourceRequest> = {}): Promise<Got> =>
  new Promise((resolve) => {
    const chunks: Uint8Array[] = [];
    let head = { status: 0, headers: {} as Record<string, string> };
    const done = (failed: boolean) => resolve({ ...head, body: Buffer.concat(chunks).toString(), failed });
    source.ask(
      { method: 'GET', rest: '', query: '', headers: [], ...changes },
      {
        head: (status, list) => {
          const pairs = list.flatMap((name, index) => (index % 2 === 0 ? [[name, list[index + 1] ?? '']] : []));
          head = { status, headers: Object.fromEntries(pairs) };
        },
        data: (chunk) => void chunks.push(chunk),
        end: () => done(false),
        fail: () => done(true),
      },
    );
  });

const folder = createFileSource({ kind: 'folder', path: root });

describe('a folder', () => {
  test('serves what is in it, with its type and validators', async () => {
    const got = await ask(folder, { rest: '/a.geojson' });
    expect(got).toMatchObject({ status: 200, body: '{"features":[]}', failed: false });
    expect(got.headers).toMatchObject({
      'content-type': 'application/geo+json',
      'content-length': '15',
      'accept-ranges': 'bytes',
      etag: expect.stringMatching(/^"[a-z0-9-]+"$/),
      'last-modified': expect.stringContaining('GMT'),
    });
    expect((await ask(folder, { rest: '/sub/naam%20met%20spaties.csv' })).body).toBe('a,b\n1,2\n');
    expect((await ask(folder, { rest: '/same.geojson' })).body).toBe('{"features":[]}');
    expect(await ask(folder, { rest: '/empty.txt' })).toMatchObject({ status: 200, body: '' });
  });

  test.each([
    '',
    '/',
    '/sub',
    '/sub/',
    '/none.txt',
    '/../secret.txt',
    '/%2e%2e/secret.txt',
    '/..%2fsecret.txt',
    '/sub/%2e%2e/a.geojson',
    '/sub//x',
    '/.env',
    '/%2eenv',
    '/env.txt',
    '/sub/.hidden/x.txt',
    '/link.txt',
    '/up/secret.txt',
    '/beside/x.txt',
    '/loop',
    '/pipe',
    '/a.geojson/x',
    '/a%00.geojson',
    '/%ff',
    '/%',
    '/sub\\x',
    `/${'x'.repeat(5_000)}`,
    `/${'x/'.repeat(40)}x`,
    base,
  ])('has nothing at %j', async (rest) => {
    const got = await ask(folder, { rest });
    expect(got).toMatchObject({ status: 404, failed: false });
    expect(got.body).not.toContain('MARKER');
  });

  test('has no queries', async () => {
    expect((await ask(folder, { rest: '/a.geojson', query: '?x' })).status).toBe(404);
  });
});

describe('a file', () => {
  const path = join(base, 'digits.bin');
  writeFileSync(path, '0123456789');
  const file = createFileSource({ kind: 'file', path });
  const range = (value: string, ...more: string[]) => ask(file, { headers: ['range', value, ...more] });

  test('is served at its address and nowhere below', async () => {
    expect((await ask(file)).body).toBe('0123456789');
    expect((await ask(file, { rest: '/' })).body).toBe('0123456789');
    expect((await ask(file, { rest: '/x' })).status).toBe(404);
  });

  test.each([
    ['bytes=0-3', '0123', 'bytes 0-3/10'],
    ['bytes=7-', '789', 'bytes 7-9/10'],
    ['bytes=-2', '89', 'bytes 8-9/10'],
    ['bytes=-99', '0123456789', 'bytes 0-9/10'],
    ['bytes=5-99', '56789', 'bytes 5-9/10'],
  ])('%s gives %s', async (value, body, contentRange) => {
    const got = await range(value);
    expect(got).toMatchObject({ status: 206, body });
    expect(got.headers).toMatchObject({ 'content-range': contentRange, 'content-length': String(body.length) });
  });

  test.each(['bytes=10-', 'bytes=-0', 'bytes=99-100'])('%s is outside', async (value) => {
    const got = await range(value);
    expect(got).toMatchObject({ status: 416, body: '' });
    expect(got.headers['content-range']).toBe('bytes */10');
  });

  test.each(['bytes=3-1', 'bytes=0-1,4-5', 'items=0-1', 'bytes=-', 'bytes=a-b'])('%s gives the whole', async (value) =>
    expect(await range(value)).toMatchObject({ status: 200, body: '0123456789' }),
  );

  test('conditions hold by their validators', async () => {
    const { etag = '', 'last-modified': modified = '' } = (await ask(file)).headers;
    const status = async (...headers: string[]) => (await ask(file, { headers })).status;
    expect(await status('if-none-match', etag)).toBe(304);
    expect(await status('if-none-match', `"x", W/${etag}`)).toBe(304);
    expect(await status('if-none-match', '*')).toBe(304);
    expect(await status('if-none-match', '"x"', 'if-modified-since', modified)).toBe(200);
    expect(await status('if-modified-since', modified)).toBe(304);
    expect(await status('if-modified-since', 'Mon, 01 Jan 2001 00:00:00 GMT')).toBe(200);
    expect(await status('if-modified-since', 'yesterday')).toBe(200);
    expect(await status('if-match', etag)).toBe(200);
    expect(await status('if-match', '"x"')).toBe(412);
    expect(await status('if-match', `W/${etag}`)).toBe(412);
    expect(await status('if-unmodified-since', 'Mon, 01 Jan 2001 00:00:00 GMT')).toBe(412);
    expect(await status('if-unmodified-since', modified)).toBe(200);
    expect(await status('range', 'bytes=0-1', 'if-range', etag)).toBe(206);
    expect(await status('range', 'bytes=0-1', 'if-range', '"x"')).toBe(200);
    expect(await status('range', 'bytes=0-1', 'if-range', modified)).toBe(200);
  });

  test('that was replaced is another version', async () => {
    const before = (await ask(file)).headers.etag ?? '';
    const { atime, mtime } = statSync(path);
    utimesSync(path, atime, new Date(mtime.getTime() + 5_000));
    expect((await ask(file)).headers.etag).not.toBe(before);
  });

  test('HEAD says what GET would, without the bytes', async () => {
    const got = await ask(file, { method: 'HEAD' });
    expect(got).toMatchObject({ status: 200, body: '' });
    expect(got.headers['content-length']).toBe('10');
    expect(await ask(file, { method: 'HEAD', rest: '/x' })).toMatchObject({ status: 404, body: '' });
  });

  test('that is gone is not there; one that became shorter is a failure', async () => {
    expect((await ask(createFileSource({ kind: 'file', path: join(base, 'gone') }))).status).toBe(404);
    const long = join(base, 'long.bin');
    writeFileSync(long, Buffer.alloc(1_000_000));
    const failed = await new Promise<boolean>((resolve) => {
      const flow = createFileSource({ kind: 'file', path: long }).ask(
        { method: 'GET', rest: '', query: '', headers: [] },
        {
          head: () => {
            flow.pause();
            truncateSync(long, 10);
            flow.resume();
          },
          data: () => undefined,
          end: () => resolve(false),
          fail: () => resolve(true),
        },
      );
    });
    expect(failed).toBe(true);
  });

  test('gives nothing while it is paused, and nothing after it was aborted', async () => {
    const long = join(base, 'longer.bin');
    writeFileSync(long, Buffer.alloc(2_000_000));
    let chunks = 0;
    const flow = createFileSource({ kind: 'file', path: long }).ask(
      { method: 'GET', rest: '', query: '', headers: [] },
      {
        head: () => undefined,
        data: () => {
          chunks += 1;
          flow.pause();
        },
        end: () => expect.unreachable(),
        fail: () => expect.unreachable(),
      },
    );
    const pause = () => new Promise((resolve) => setTimeout(resolve, 50));
    await pause();
    expect(chunks).toBe(1);
    flow.resume();
    await pause();
    expect(chunks).toBe(2);
    flow.abort();
    await pause();
    expect(chunks).toBe(2);
  });
});
