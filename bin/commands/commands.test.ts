import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hono } from 'hono';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { UsageLine } from '../../connector/management/ports.ts';
import type { Did } from '../../contracts/ids.ts';
import { type RunningServer, serveRoutes } from '../../kernel/http/server.ts';
import { startService } from '../../kernel/lifecycle.ts';
import { type Connector, managementToken, startConnector } from '../../test/support/connectors.ts';
import { eventually, ordinary } from '../../test/support/dsp-pair.ts';
import { secretText } from '../../test/support/secrets.ts';
import { runService } from '../service.ts';
import { main } from '../stekker.ts';

let provider: Connector;
let consumer: Connector;
let folder = '';
const at = (name: string) => join(folder, name);

const line = (key: string, more: Partial<UsageLine> = {}): UsageLine => ({
  key,
  role: 'provider',
  agreementId: `urn:agreement:${key}`,
  agreementDigest: 'd',
  peer: 'did:web:runtime.example' as Did,
  dataset: 'urn:rain',
  application: 'urn:app@1',
  purpose: 'urn:crisis',
  accesses: 3,
  bytes: 12,
  units: { requests: '3' },
  currency: 'EUR',
  scale: '2',
  amount: '75',
  ...more,
});

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'stekker-commands-'));
  mkdirSync(at('levels'));
  writeFileSync(at('rain.geojson'), '{"type":"FeatureCollection","features":[]}');
  writeFileSync(at('key.txt'), 'geheim-marker-2\n');
  writeFileSync(at('rules.json'), '{"permission":[{"action":"use"}]}');
  provider = await startConnector();
  consumer = await startConnector({
    usage: [
      line('a'),
      line('b', { scale: '3', amount: '1', purpose: '=cmd()', dataset: 'urn:a,b' }),
      line('c', { role: 'consumer', currency: '', scale: '0', amount: '0', application: 'urn:\u001b[2J@1' }),
    ],
  });
});
afterAll(async () => {
  await consumer[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** Runs one command line against a service, as its operator would. */
const run = async (side: { readonly api: string }, args: readonly string[], env: Record<string, string> = {}) => {
  const out: string[] = [];
  const err: string[] = [];
  const bytes: Uint8Array[] = [];
  const code = await main(args, {
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    write: async (chunk) => void bytes.push(chunk),
    env: { STEKKER_MANAGEMENT_URL: side.api, STEKKER_MANAGEMENT_TOKEN: managementToken, ...env },
    signal: new AbortController().signal,
  });
  return { code, out: out.join('\n'), err: err.join('\n'), bytes: Buffer.concat(bytes) };
};

const json = (text: string) => JSON.parse(text);

describe('stekker publish', () => {
  test('a file in one line, with its media type and price', async () => {
    const { code, out } = await run(provider, [
      'publish',
      at('rain.geojson'),
      '--policy',
      'open',
      '--price',
      '0.01 EUR per item',
    ]);
    expect(code).toBe(0);
    expect(out).toContain('published rain.geojson');
    expect(out).toContain('price   0.01 EUR per item');
    expect(out).toContain('stekker withdraw urn:uuid:');
  });

  test('a folder, with a template and a title', async () => {
    const args = [
      'publish',
      at('levels'),
      '--title',
      'Levels',
      '--policy',
      'purpose',
      '--set',
      'purpose=urn:crisis',
      '--json',
    ];
    const { code, out } = await run(provider, args);
    expect(code).toBe(0);
    expect(json(out)).toMatchObject({
      asset: { title: 'Levels', upstream: { kind: 'folder', path: at('levels') } },
      price: null,
    });
    expect((await run(provider, args)).out).toBe(out);
  });

  test('an address whose secret comes from a file and is shown nowhere', async () => {
    const args = [
      'publish',
      'https://source.example/api/',
      '--rules',
      at('rules.json'),
      '--header',
      'x-key',
      '--header-file',
      at('key.txt'),
      '--json',
    ];
    const { code, out } = await run(provider, args);
    expect(code).toBe(0);
    expect(json(out)).toMatchObject({
      asset: { title: 'api', upstream: { kind: 'http', credential: { name: 'x-key' } } },
    });
    expect(out).not.toContain('geheim-marker-2');
  });

  test('lists the templates with an example of each parameter', async () => {
    const { out } = await run(provider, ['publish', '--templates']);
    expect(out).toContain('--set purpose=urn:stekker:1:purpose:crisis');
  });

  test('all faults of what was asked for come at once, exit code 1', async () => {
    const args = [
      'publish',
      'https://10.0.0.7/',
      '--policy',
      'purpose',
      '--set',
      'colour=red',
      '--price',
      '1 EUR per item',
    ];
    const { code, err } = await run(provider, args);
    expect(code).toBe(1);
    for (const part of [
      '(body-invalid)',
      '/upstream/url',
      '/policy/parameters/purpose: is needed',
      '/policy/parameters/colour',
      '/price/lines/0/unit',
    ])
      expect(err).toContain(part);
  });

  test.each([
    [['publish'], 'a SOURCE is needed'],
    [['publish', 'a', 'b', '--policy', 'open'], 'a SOURCE is taken, and nothing more'],
    [['publish', '/no/such/file', '--policy', 'open'], '--kind file or --kind folder'],
    [['publish', '.'], '--templates'],
    [['publish', '.', '--policy', 'open', '--price', 'cheap'], '0.25 EUR per request'],
    [['publish', '.', '--policy', 'open', '--set', 'x'], 'NAME=VALUE'],
    [['publish', 'https://a.example', '--policy', 'open', '--header', 'x'], '--header and --header-file go together'],
    [['publish', '.', '--policy', 'open', '--silence', 'never'], '--silence is strict'],
  ])('%j is exit code 2, and says what is missing', async (args, why) => {
    const { code, err } = await run(provider, args);
    expect(code).toBe(2);
    expect(err).toContain(why);
  });
});

describe('stekker fetch', () => {
  let key = '';
  beforeAll(async () => {
    await run(provider, ['publish', at('rain.geojson'), '--id', 'urn:voorbeeld:rain', '--policy', 'open']);
    await run(consumer, ['application', 'add', 'urn:stekker:1:app:flood@1.0.0', '--key-file', at('app.key')]);
    key = readFileSync(at('app.key'), 'utf8').trim();
  });
  const args = (...more: string[]) => ['fetch', 'urn:voorbeeld:rain', ...more, '--provider', provider.did];

  test('negotiates, fetches through the gateway, and writes the bytes to standard output', async () => {
    const { code, bytes, err, out } = await run(
      consumer,
      args('sub/x?limit=1', '--purpose', 'urn:crisis', '--run', 'r1'),
      { STEKKER_APPLICATION_KEY: key },
    );
    expect(code).toBe(0);
    expect(json(bytes.toString())).toHaveProperty('receipt');
    expect(out).toBe('');
    expect(err).toContain('request 0190b0b2-7c00-7000-8000-000000000001');
    const {
      path,
      application,
      purpose,
      run: its,
    } = consumer.fetched.at(-1) ?? { path: '', application: '', purpose: '', run: '' };
    expect(path.endsWith('/sub/x')).toBe(true);
    expect([application, purpose, its]).toEqual(['urn:stekker:1:app:flood@1.0.0', 'urn:crisis', 'r1']);
  });

  test('to a file with a summary, under the same agreement', async () => {
    const env = { STEKKER_APPLICATION_KEY_FILE: at('app.key') };
    const { code, out } = await run(consumer, args('--out', at('got.json'), '--json'), env);
    expect(code).toBe(0);
    const summary = json(out);
    expect(summary).toMatchObject({
      status: 200,
      reused: true,
      provider: provider.did,
      dataset: 'urn:voorbeeld:rain',
      bytes: statSync(at('got.json')).size,
    });
    expect(summary.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(readdirSync(folder).filter((name) => name.endsWith('.part'))).toEqual([]);
  });

  test('a refusal is exit code 1, with the reason and what to do next', async () => {
    const { code, err } = await run(consumer, args('--purpose', 'urn:wrong', '--key-file', at('app.key')));
    expect(code).toBe(1);
    expect(err).toContain('For the purpose the rule is another. (policy-denied)');
    expect(err).toContain('--purpose');
  });

  test('a refused negotiation shows what the provider said', async () => {
    await using strict = await startConnector({
      decide: (row) =>
        row.process.role === 'provider'
          ? { do: 'terminate', code: 'policy-denied', reason: ['Not for\u001b[31m you.'] }
          : ordinary(row),
    });
    await run(strict, ['publish', at('levels'), '--id', 'urn:voorbeeld:strict', '--policy', 'open']);
    const { code, err } = await run(consumer, [
      'fetch',
      'urn:voorbeeld:strict',
      '--provider',
      strict.did,
      '--key-file',
      at('app.key'),
    ]);
    expect(code).toBe(1);
    expect(err).toContain('(peer-refused)');
    expect(err).toContain('Not for·[31m you.');
    expect(err).toContain('stekker offers');
  });

  test.each([
    [[], 'a DATASET'],
    [['urn:x', 'a', 'b'], 'a DATASET'],
    [['urn:x', '--json'], '--json needs --out'],
    [['urn:x', '--timeout', 'soon'], '--timeout is a whole number'],
  ])('%j is exit code 2', async (more, why) => {
    const { code, err } = await run(consumer, ['fetch', ...more], { STEKKER_APPLICATION_KEY: 'k' });
    expect([code, err]).toEqual([2, expect.stringContaining(why)]);
  });

  test('without a key it says how to make one; a path cannot lead out of the dataset', async () => {
    expect(await run(consumer, args())).toMatchObject({
      code: 2,
      err: expect.stringContaining('stekker application add'),
    });
    expect(await run(consumer, args('../../else'), { STEKKER_APPLICATION_KEY: key })).toMatchObject({ code: 2 });
  });

  test('the key file is readable by its owner alone, and a key that was taken away opens nothing', async () => {
    expect(statSync(at('app.key')).mode & 0o777).toBe(0o600);
    await run(consumer, ['application', 'add', 'urn:stekker:1:app:gone@1', '--key-file', at('gone.key')]);
    expect((await run(consumer, ['application', 'list'])).out).toContain('urn:stekker:1:app:gone@1');
    expect((await run(consumer, ['application', 'remove', 'urn:stekker:1:app:gone@1'])).code).toBe(0);
    expect((await run(consumer, ['application', 'remove', 'urn:stekker:1:app:gone@1'])).code).toBe(1);
    expect((await run(consumer, args('--key-file', at('gone.key')))).code).toBe(1);
    expect((await run(consumer, ['application', 'dance'])).code).toBe(2);
  });

  test('amend has another agreement take the place of one, which serves until then', async () => {
    const env = { STEKKER_APPLICATION_KEY: key };
    const before = json((await run(consumer, args('--out', at('x'), '--json'), env)).out);
    const { code, out, err } = await run(consumer, ['amend', before.agreementId, '--json']);
    expect([code, err]).toEqual([0, '']);
    expect(json(out)).toMatchObject({ amends: before.agreementId, role: 'consumer' });
    await eventually(
      () => consumer.call('GET', `/v1/agreements/${encodeURIComponent(before.agreementId)}`),
      ({ body }) => (body as { readonly status: string }).status === 'superseded',
    );
    const after = json((await run(consumer, args('--out', at('x'), '--json'), env)).out);
    expect(after.agreementId).not.toBe(before.agreementId);
    expect((await run(consumer, ['amend', before.agreementId])).err).toContain('agreement-ended');
    expect((await run(consumer, ['amend', 'urn:none'])).code).toBe(1);
  });

  test('end stops an agreement, and the next fetch negotiates a new one', async () => {
    const env = { STEKKER_APPLICATION_KEY: key };
    const before = json((await run(consumer, args('--out', at('x'), '--json'), env)).out);
    expect((await run(consumer, ['end', before.agreementId, '--reason', 'done'])).out).toContain(
      `ended: ${before.agreementId}`,
    );
    const after = json((await run(consumer, args('--out', at('x'), '--json'), env)).out);
    expect(after.agreementId).not.toBe(before.agreementId);
    expect((await run(consumer, ['end', 'urn:none'])).code).toBe(1);
  });
});

describe('stekker offers', () => {
  test('shows what fits, and why not the rest, in two languages, and nothing that acts on the terminal', async () => {
    const rule = {
      action: 'use',
      constraint: [{ leftOperand: 'odrl:purpose', operator: 'eq', rightOperand: 'urn:stekker:1:purpose:crisis' }],
    };
    const plan = {
      v: 1 as const,
      type: 'price-plan' as const,
      currency: 'EUR',
      scale: '2',
      lines: [{ unit: 'requests', quantity: '10', value: '5' }],
      notice: '',
      free: false,
    };
    const entries = [
      {
        provider: { did: 'did:web:p.example' as Did, name: 'Provider' },
        harvestedAt: '2026-11-26T00:00:00.000Z',
        dataset: {
          id: 'urn:rain',
          title: 'Regen\u001b[2J',
          description: '',
          keywords: [],
          formats: [],
          unreadable: [{ id: 'u', why: 'odd' }],
          offers: [
            { id: 'a', rules: { permission: [rule] }, assurance: 'cosigned' as const, price: 'd', plan },
            {
              id: 'b',
              rules: { permission: [{ action: 'use' }] },
              assurance: 'cosigned' as const,
              price: '',
              plan: null,
            },
          ],
        },
      },
    ];
    await using buyer = await startConnector({ entries: () => entries });
    const { code, out } = await run(buyer, ['offers', 'regen', '--purpose', 'urn:other']);
    expect(code).toBe(0);
    expect(out.split('\n')).toEqual([
      'Regen·[2J – Provider (did:web:p.example)',
      '  urn:rain',
      '  yes: free · cosigned · b',
      '  no: 0.05 EUR per 10 requests · cosigned · a',
      expect.stringMatching(/^ {4}- For the purpose the rule is/),
      '  – u: odd',
    ]);
    const dutch = await run(buyer, ['offers', 'regen', '--purpose', 'urn:other', '--lang', 'nl']);
    expect(dutch.out).toContain('nee: ');
    expect(dutch.out).toContain('Voor het doel geldt');
    expect(json((await run(buyer, ['offers', '--json'])).out)[0].offers).toHaveLength(2);
    expect((await run(buyer, ['offers', 'sneeuw'])).out).toBe('Nothing was found.');
    expect((await run(buyer, ['offers', '--purpose', 'crisis'])).err).toContain('/query/purpose');
  });

  test('reads the catalog of one provider', async () => {
    await run(provider, [
      'publish',
      at('levels'),
      '--id',
      'urn:voorbeeld:levels',
      '--policy',
      'open',
      '--price',
      '1 EUR per request',
    ]);
    const { out } = await run(consumer, ['offers', '--provider', provider.did, '--limit', '100']);
    expect(out).toContain('urn:voorbeeld:levels');
    expect(out).toContain('1 EUR per request');
  });

  test('a withdrawn offer is gone', async () => {
    const { out } = await run(provider, [
      'publish',
      at('levels'),
      '--id',
      'urn:voorbeeld:gone',
      '--policy',
      'open',
      '--json',
    ]);
    expect((await run(provider, ['withdraw', json(out).offer.id])).code).toBe(0);
    expect((await run(consumer, ['offers', '--provider', provider.did, '--limit', '100'])).out).not.toContain(
      'urn:voorbeeld:gone',
    );
  });
});

describe('stekker usage', () => {
  test('a table with what is to be received and paid', async () => {
    const { code, out } = await run(consumer, ['usage']);
    expect(code).toBe(0);
    const lines = out.split('\n');
    expect(lines[0]).toMatch(/^role {4}who +what +application +purpose +times +bytes +amount$/);
    expect(lines[1]).toMatch(/^sold {4}did:web:runtime\.example +urn:rain .* 0\.75 EUR$/);
    expect(lines[3]).toContain('·[2J');
    expect(lines.at(-1)).toBe('to receive: 0.751 EUR');
  });

  test('as CSV that no spreadsheet takes for formulas', async () => {
    const lines = (await run(consumer, ['usage', '--csv'])).out.split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[0]).toBe('role,peer,dataset,agreement,application,purpose,accesses,bytes,units,amount,currency');
    expect(lines[2]).toBe(
      `provider,did:web:runtime.example,"urn:a,b",urn:agreement:b,urn:app@1,'=cmd(),3,12,requests=3,0.001,EUR`,
    );
  });

  test('as JSON, and of one agreement', async () => {
    const { lines, totals } = json((await run(consumer, ['usage', '--json'])).out);
    expect(lines).toHaveLength(3);
    expect(totals).toEqual([{ role: 'provider', currency: 'EUR', scale: '3', amount: '751' }]);
    expect(json((await run(consumer, ['usage', '--json', '--agreement', 'urn:agreement:a'])).out).lines).toHaveLength(
      1,
    );
    expect((await run(provider, ['usage'])).out).toBe('Nothing was used yet.');
  });
});

describe('stekker receipt', () => {
  const request = '1190b0b2-7c00-7000-8000-000000000001';

  test('writes the file byte for byte, with parts withheld', async () => {
    const { code, out } = await run(consumer, ['receipt', request, '--out', at('receipt.json'), '--withhold', 'sums']);
    expect(code).toBe(0);
    expect(out).toContain('stekker verify');
    expect(readFileSync(at('receipt.json'), 'utf8')).toBe(`{"request":"${request}","sums":null,"type":"receipt"}`);
    expect((await run(consumer, ['receipt', request])).out).toContain('"sums":{}');
  });

  test('of an agreement, a file for each statement', async () => {
    const { out } = await run(consumer, ['receipt', '--agreement', 'urn:a', '--out', at('receipts'), '--json']);
    expect(json(out).files).toEqual([at('receipts/receipts-0001.json')]);
    expect(readFileSync(at('receipts/receipts-0001.json'), 'utf8')).toBe('{"agreement":"urn:a","type":"receipts"}');
    expect((await run(consumer, ['receipt', '--agreement', 'urn:a'])).code).toBe(2);
  });

  test('that is not there yet is exit code 1, and says why and what next', async () => {
    const early = await run(consumer, ['receipt', `0${request.slice(1)}`]);
    expect(early.code).toBe(1);
    expect(early.err).toContain('the statement is not signed yet (not-yet)');
    expect(early.err).toContain('Ask again later');
    expect((await run(consumer, ['receipt', request, '--withhold', 'all'])).code).toBe(2);
    expect((await run(consumer, ['receipt'])).code).toBe(2);
  });
});

describe('stekker join', () => {
  test('joins with the code of an invitation', async () => {
    expect(await run(consumer, ['join', 'the-code'])).toMatchObject({
      code: 0,
      out: expect.stringContaining('joined did:web:broker.example'),
    });
    expect(json((await run(consumer, ['join', 'the-code', '--json'])).out)).toMatchObject({ member: true });
    expect(await run(consumer, ['join', 'other'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('does not know this code'),
    });
    expect((await run(consumer, ['join'])).code).toBe(2);
  });
});

describe('commands of a broker and an accreditor', () => {
  const asked: { readonly path: string; readonly body: unknown }[] = [];
  const issued = ['membership', 'accreditation', 'revoked'].map((name) => ({
    id: `urn:uuid:${name}`,
    type: name === 'accreditation' ? 'ApplicationAccreditationCredential' : 'MembershipCredential',
    holder: 'did:web:runtime.example',
    standing: name === 'revoked' ? 'revoked' : 'active',
  }));
  let server: RunningServer;
  const hub = () => ({ api: `http://localhost:${server.port}` });

  beforeAll(async () => {
    const app = new Hono();
    app.post('/v1/*', async (c) => {
      const path = c.req.path;
      const body: unknown = await c.req.json();
      asked.push({ path, body });
      if (path === '/v1/invitations')
        return c.json({ did: 'did:web:new.example', joinCode: 'the-code', expiresAt: '2026-12-01T00:00:00.000Z' }, 201);
      if (path === '/v1/accreditations')
        return c.json(
          { id: 'urn:uuid:a', holder: 'did:web:runtime.example', validUntil: '2027-11-26T00:00:00.000Z' },
          201,
        );
      const id = decodeURIComponent(path.split('/')[3] ?? '');
      const standing = path.endsWith('suspension')
        ? 'suspended'
        : path.endsWith('reinstatement')
          ? 'active'
          : 'revoked';
      return c.json({ ...issued.find((one) => one.id === id), standing });
    });
    app.get('/v1/credentials', (c) => c.json({ items: issued, next: null }));
    server = await serveRoutes(app, { host: 'localhost', port: 0 });
  });
  afterAll(() => server[Symbol.asyncDispose]());

  test('invite prints the code alone on standard output', async () => {
    const { code, out, err } = await run(hub(), [
      'invite',
      'did:web:new.example',
      '--name',
      'New',
      '--role',
      'provider',
      '--role',
      'consumer',
    ]);
    expect([code, out]).toEqual([0, 'the-code']);
    expect(err).toContain('stekker join CODE');
    expect(asked.at(-1)?.body).toEqual({ did: 'did:web:new.example', name: 'New', roles: ['provider', 'consumer'] });
    expect((await run(hub(), ['invite', 'did:web:new.example'])).code).toBe(2);
  });

  test('accredit sends the decision whole', async () => {
    const args = [
      'accredit',
      'urn:app@1.0.0',
      '--holder',
      'did:web:runtime.example',
      '--digest',
      'sha256:x',
      '--purpose',
      'urn:a',
      '--purpose',
      'urn:b',
      '--criteria',
      'urn:c@2026',
      '--days',
      '30',
    ];
    expect((await run(hub(), args)).out).toContain('accredited until 2027-11-26');
    expect(asked.at(-1)?.body).toEqual({
      holder: 'did:web:runtime.example',
      application: { id: 'urn:app', version: '1.0.0', digest: 'sha256:x' },
      purposes: ['urn:a', 'urn:b'],
      criteria: { id: 'urn:c', version: '2026' },
      validDays: 30,
    });
    for (const wrong of [
      ['accredit', 'urn:app'],
      args.filter((arg) => arg !== '--purpose' && !/^urn:[ab]$/.test(arg)),
      [...args, '--days', '9999'],
    ])
      expect((await run(hub(), wrong)).code).toBe(2);
  });

  test('revoke by id, or what a holder has of a type; suspend and reinstate likewise', async () => {
    expect((await run(hub(), ['revoke', 'urn:uuid:membership', '--reason', 'r'])).out).toContain(
      'revoked: urn:uuid:membership',
    );
    expect(asked.at(-1)).toEqual({ path: '/v1/credentials/urn%3Auuid%3Amembership/revocation', body: { reason: 'r' } });
    const holder = ['--holder', 'did:web:runtime.example', '--type'];
    expect((await run(hub(), ['revoke', ...holder, 'membership'])).out.split('\n')).toHaveLength(1);
    expect((await run(hub(), ['revoke', ...holder, 'accreditation', '--suspend'])).out).toContain(
      'suspended: urn:uuid:accreditation',
    );
    expect(json((await run(hub(), ['revoke', ...holder, 'accreditation', '--reinstate', '--json'])).out)).toMatchObject(
      [{ standing: 'active' }],
    );
    expect((await run(hub(), ['revoke', '--list'])).out).toContain('urn:uuid:revoked');
    for (const wrong of [
      ['revoke'],
      ['revoke', 'a', '--holder', 'did:x:y'],
      ['revoke', ...holder, 'all'],
      ['revoke', 'a', '--suspend', '--reinstate'],
    ])
      expect((await run(hub(), wrong)).code).toBe(2);
  });
});

describe('every command', () => {
  test('says what to check when the token is wrong, and what to start when nothing is there', async () => {
    const wrong = await run(consumer, ['usage'], { STEKKER_MANAGEMENT_TOKEN: secretText('another-token') });
    expect(wrong).toMatchObject({ code: 1, err: expect.stringContaining('STEKKER_MANAGEMENT_TOKEN') });
    expect(await run({ api: 'http://127.0.0.1:1' }, ['usage'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('stekker connector'),
    });
    const none = await run(consumer, ['usage'], { STEKKER_MANAGEMENT_TOKEN: '' });
    expect(none.code).toBe(2);
    const file = await run(consumer, ['usage'], {
      STEKKER_MANAGEMENT_TOKEN: undefined as never,
      STEKKER_MANAGEMENT_TOKEN_FILE: at('nowhere'),
    });
    expect(file).toMatchObject({ code: 2, err: expect.stringContaining('cannot be read') });
  });

  test('tells another service from its own', async () => {
    const app = new Hono();
    app.get('*', (c) => c.text('hello'));
    await using server = await serveRoutes(app, { host: 'localhost', port: 0 });
    const { code, err } = await run({ api: `http://localhost:${server.port}` }, ['usage']);
    expect([code, err]).toEqual([1, expect.stringContaining('is not the service')]);
  });

  test('has help with an example of its own', async () => {
    const { loadCommands } = await import('../stekker.ts');
    const commands = await loadCommands();
    expect(commands.length).toBeGreaterThan(15);
    for (const { name, examples } of commands) {
      expect(examples.length, name).toBeGreaterThan(0);
      for (const example of examples) expect(example).toMatch(new RegExp(`\\bstekker ${name}\\b`));
      const { code, out } = await run(consumer, [name, '--help']);
      expect([code, out]).toEqual([0, expect.stringContaining('Examples')]);
    }
  });

  /** A service of one part, run as the programs are. */
  const runPart = (stop: AbortController) => {
    const lines: string[] = [];
    const at = { stopped: false, fail: (_fault: unknown): void => undefined };
    const start = (_config: unknown, options: Parameters<typeof startService>[0]) =>
      startService(options, async (own, fail) => {
        at.fail = fail;
        own({
          [Symbol.asyncDispose]: async () => {
            at.stopped = true;
          },
        });
        return { did: 'did:web:x.example', publicPort: 8080, managementPort: 8082 };
      });
    const out = (text: string) => void lines.push(text);
    const terminal = { out, err: () => undefined, env: {}, signal: stop.signal };
    const running = runService('connector', { STEKKER_LOG_LEVEL: 'silent' as const }, async () => start, terminal);
    const ready = async () => {
      while (lines.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      return lines[0] ?? '';
    };
    return { at, running, ready };
  };

  test('a service says in one line when it is ready and where, and stops when it is told to', async () => {
    const stop = new AbortController();
    const { at, running, ready } = runPart(stop);
    expect(json(await ready())).toEqual({ ready: 'connector', publicPort: 8080, managementPort: 8082 });
    expect(at.stopped).toBe(false);
    stop.abort();
    expect(await running).toBe(0);
    expect(at.stopped).toBe(true);
  });

  test('a service of which a part fails for good stops by itself with exit code 1', async () => {
    const { at, running, ready } = runPart(new AbortController());
    await ready();
    at.fail(new Error('the disk is gone'));
    expect(await running).toBe(1);
    expect(at.stopped).toBe(true);
  });

  test('starting a service with a wrong setting names it, exit code 2', async () => {
    const { code, err } = await run(consumer, ['connector'], { STEKKER_MANAGEMENT_PORT: 'many' });
    expect(code).toBe(2);
    expect(err).toContain('STEKKER_MANAGEMENT_PORT: is no whole number; example: STEKKER_MANAGEMENT_PORT=8082');
    expect(err).toContain('STEKKER_PASSPHRASE: is missing');
    expect((await run(consumer, ['broker'])).code).toBe(2);
  });
});
