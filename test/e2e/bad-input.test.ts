import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { messageScopes } from '../../connector/base.ts';
import type { Did } from '../../contracts/ids.ts';
import vectors from '../../contracts/ledger/vectors.json' with { type: 'json' };
import { createTokenService } from '../../kernel/auth.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeFiles } from '../../kernel/files.ts';
import { listen } from '../../kernel/http/server.ts';
import { openKeys, participantKeyNeeds, participantKeys } from '../../kernel/keys.ts';
import { systemRandom } from '../../kernel/random.ts';
import { type BrokerBench, brokerBench, type Operated, until } from '../support/broker-bench.ts';
import {
  acquire,
  type ConnectorBench,
  connectorBench,
  joinBroker,
  type OperatedConnector,
  operatorOf,
} from '../support/chain-world.ts';
import { canLimitFiles, canMakeDisks, limitFiles, smallDisk } from '../support/full-disk.ts';
import { freePort, joinBody, startHolder } from '../support/holder.ts';
import { type RunningProgram, run, start } from '../support/program.ts';
import { secretMarker, secretText } from '../support/secrets.ts';

/** What is wrong at every surface of the running services, and what each of them says to it. */

type Env = Readonly<Record<string, string>>;

const open: AsyncDisposable[] = [];
const keep = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  open.push(resource);
  return resource;
};
const hasDisks = canMakeDisks();
const running: RunningProgram[] = [];
const startKept = async (args: readonly string[], env: Env): Promise<RunningProgram> => {
  const started = await start({ args, env });
  running.push(started);
  return started;
};
afterEach(async () => {
  for (const one of running.splice(0)) await one.stop('SIGKILL');
  for (let last = open.pop(); last !== undefined; last = open.pop()) await last[Symbol.asyncDispose]();
});

describe('a bad body', () => {
  let brokerSide: BrokerBench;
  let holderSide: ConnectorBench;
  let memberSide: ConnectorBench;
  let broker: Operated;
  let holder: OperatedConnector;
  let member: OperatedConnector;
  let authorize: (audience: Did) => string;

  /** SI tokens of the member, made beside it: its connector sends no bad bodies by itself. */
  const authorizer = async ({ config, did }: ConnectorBench): Promise<typeof authorize> => {
    const keys = await openKeys({
      files: nodeFiles,
      path: join(config.STEKKER_DATA, 'keys/main.json'),
      passphrase: config.STEKKER_PASSPHRASE,
      random: systemRandom,
      needs: { ...participantKeyNeeds, seal: 'secret' },
    });
    const tokens = createTokenService({ keys: participantKeys(did, keys), clock: systemClock, random: systemRandom });
    return (audience) => tokens.tokenFor({ audience, scopes: messageScopes });
  };

  beforeAll(async () => {
    brokerSide = await brokerBench();
    broker = await brokerSide.start();
    const env = { STEKKER_BROKER_URL: brokerSide.origin };
    [holderSide, memberSide] = [await connectorBench(env), await connectorBench(env)];
    [holder, member] = await Promise.all([holderSide.start(), memberSide.start()]);
    await joinBroker(broker, holder);
    await joinBroker(broker, member);
    authorize = await authorizer(memberSide);
    const path = join(holderSide.folder, 'levels.json');
    writeFileSync(path, '{}');
    const policy = { template: 'open' };
    await holder.operate('POST', '/v1/publications', { title: 'Levels', upstream: { kind: 'file', path }, policy });
  });
  afterAll(async () => {
    for (const one of [member, holder, broker, memberSide, holderSide, brokerSide]) await one?.[Symbol.asyncDispose]();
  });

  /** All that was accepted so far, at both services. */
  const accepted = async () => ({
    offers: (await holder.operate('GET', '/v1/offers')).body,
    negotiations: (await holder.operate('GET', '/v1/negotiations')).body,
    credentials: (await holder.operate('GET', '/v1/credentials')).body,
    members: (await broker.operate('GET', '/v1/participants')).body,
    log: (await broker.operate('GET', '/v1/log')).body.size,
  });

  interface Surface {
    readonly name: string;
    readonly form: 'CatalogError' | 'ContractNegotiationError' | 'TransferError' | 'problem';
    readonly url: () => string;
    readonly headers: () => Record<string, string>;
  }
  const asMember = (audience: () => Did) => () => ({ authorization: authorize(audience()) });
  const atHolder = asMember(() => holderSide.did);
  const atBroker = asMember(() => brokerSide.did);
  const asOperator = (token: () => string) => () => ({ authorization: `Bearer ${token()}` });
  const dsp = (path: string) => () => `${holderSide.origin}/dsp/2025-1${path}`;
  const surfaces: readonly Surface[] = [
    { name: 'DSP catalog', form: 'CatalogError', url: dsp('/catalog/request'), headers: atHolder },
    { name: 'DSP negotiation', form: 'ContractNegotiationError', url: dsp('/negotiations/request'), headers: atHolder },
    { name: 'DSP transfer', form: 'TransferError', url: dsp('/transfers/request'), headers: atHolder },
    { name: 'DCP holder', form: 'problem', url: () => `${holderSide.origin}/dcp/credentials`, headers: atHolder },
    { name: 'DCP offer', form: 'problem', url: () => `${holderSide.origin}/dcp/offers`, headers: atHolder },
    { name: 'DCP issuer', form: 'problem', url: () => `${brokerSide.origin}/dcp/credentials`, headers: atBroker },
    { name: 'log entries', form: 'problem', url: () => `${brokerSide.origin}/log/entries`, headers: atBroker },
    { name: "an issuer's notice", form: 'problem', url: () => `${brokerSide.origin}/events`, headers: atBroker },
    {
      name: 'management of a connector',
      form: 'problem',
      url: () => `http://127.0.0.1:${holder.managementPort}/v1/publications`,
      headers: asOperator(() => holderSide.config.STEKKER_MANAGEMENT_TOKEN),
    },
    {
      name: 'management of a broker',
      form: 'problem',
      url: () => `http://127.0.0.1:${broker.managementPort}/v1/invitations`,
      headers: asOperator(() => brokerSide.config.STEKKER_MANAGEMENT_TOKEN),
    },
  ];
  const context = '"@context":["https://w3id.org/dspace/2025/1/context.jsonld"]';
  const faults: readonly (readonly [name: string, body: string, code: RegExp, status: number])[] = [
    ['no JSON', '{"a":', /^body-not-json$/, 400],
    ['too large', `{"a":"${'x'.repeat(2 << 20)}"}`, /^body-too-large$/, 413],
    ['too deep', `{"a":${'['.repeat(70)}${']'.repeat(70)}}`, /^body-too-deep$/, 400],
    ['a key twice', '{"a":1,"a":2,"b":{"c":1,"c":2}}', /^body-duplicate-key$/, 400],
    ['an unknown type', `{${context},"@type":"PoemMessage","type":"poem","kind":"poem"}`, /^body-invalid$/, 400],
  ];

  const send = async ({ url, headers }: Surface, body: string, type = 'application/json') => {
    const answer = await fetch(url(), { method: 'POST', body, headers: { ...headers(), 'content-type': type } });
    return { answer, body: (await answer.json()) as Record<string, unknown> };
  };
  /** The code of a typed error, in the form of its surface. */
  const codeOf = ({ form }: Surface, answer: Response, body: Record<string, unknown>): string => {
    const mediaType = answer.headers.get('content-type') ?? '';
    if (form === 'problem') {
      expect(mediaType).toBe('application/problem+json');
      expect(body).toMatchObject({ status: answer.status, title: expect.any(String) });
      return String(body.type).replace('urn:stekker:1:error:', '');
    }
    expect(mediaType).toContain('application/json');
    expect(body).toMatchObject({ '@type': form, reason: expect.any(Array) });
    if (form !== 'CatalogError')
      expect([typeof body.providerPid, typeof body.consumerPid]).toEqual(['string', 'string']);
    return String(body.code);
  };

  test.each(surfaces.map((surface) => [surface.name, surface] as const))(
    'at %s is refused with a code of its own in the form of the surface, and changes nothing',
    async (_name, surface) => {
      const before = await accepted();
      for (const [name, body, code, status] of faults) {
        const sent = await send(surface, body);
        const expected = surface.form === 'problem' ? status : 400;
        const said = JSON.stringify(sent.body);
        expect(codeOf(surface, sent.answer, sent.body), `${name}: ${said}`).toMatch(code);
        expect(sent.answer.status, `${name}: ${said}`).toBe(expected);
        expect(said).not.toContain(secretMarker);
      }
      const other = await send(surface, '{}', 'text/plain');
      expect(codeOf(surface, other.answer, other.body)).toBe('media-type-unsupported');
      expect(await accepted()).toEqual(before);
    },
  );

  test.each(surfaces.map((surface) => [surface.name, surface] as const))(
    'at %s has all its faults named at once',
    async (_name, surface) => {
      const { body } = await send(surface, '{"a":1,"a":2,"b":{"c":1,"c":2}}');
      const said = JSON.stringify(surface.form === 'problem' ? body.errors : body.reason);
      for (const path of ['/a', '/b/c']) expect(said).toContain(`${path}`);
    },
  );

  test('at the token endpoint is refused in the form of OAuth', async () => {
    const url = `${holderSide.origin}/ext/1/tokens`;
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    const post = async (body: string, headers: Record<string, string> = form) => {
      const answer = await fetch(url, { method: 'POST', body, headers });
      expect(answer.headers.get('cache-control')).toBe('no-store');
      return { status: answer.status, body: (await answer.json()) as Record<string, string> };
    };
    const json = await post('{"grant_type":"x"}', { 'content-type': 'application/json' });
    expect(json).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
    const large = await post(`grant_type=urn:stekker:1:transfer&run=${'x'.repeat(20_000)}`);
    expect([large.status, typeof large.body.error, typeof large.body.error_description]).toEqual([
      413,
      'string',
      'string',
    ]);
    const other = await post('grant_type=client_credentials');
    expect(other).toMatchObject({ status: 400, body: { error: 'unsupported_grant_type' } });
    const many = await post('grant_type=urn:stekker:1:transfer&grant=a&grant=b&client_id=nobody&purpose=none');
    expect(many).toMatchObject({ status: 400, body: { error: 'invalid_request' } });
    for (const name of ['grant stands there twice', 'client_id is no', 'purpose is no IRI'])
      expect(many.body.error_description).toContain(name);
    const unproven = await post('grant_type=urn:stekker:1:transfer&grant=a&client_id=urn:a@1&purpose=urn:p');
    expect(unproven).toMatchObject({ status: 400, body: { error: 'invalid_dpop_proof' } });
  });

  test('a private upstream, an unknown term and a fraction are named together, and nothing is published', async () => {
    const before = await accepted();
    const constraint = [{ leftOperand: 'urn:unheard', operator: 'eq', rightOperand: 'x' }];
    const { status, body } = await holder.operate('POST', '/v1/publications', {
      title: 'Levels',
      upstream: { kind: 'http', url: 'https://192.168.1.7/levels' },
      policy: { rules: { permission: [{ action: 'use', constraint }] } },
      price: { currency: 'EUR', scale: '2', lines: [{ unit: 'requests', quantity: '1', value: '0.5' }] },
    });
    expect(status).toBe(400);
    const paths = (body.errors as { path: string; message: string }[]).map(({ path }) => path);
    expect(paths.toSorted()).toEqual([
      '/policy/rules/permission/0/constraint/0/leftOperand',
      '/price/lines/0/value',
      '/upstream/url',
    ]);
    expect(JSON.stringify(body)).toContain('urn:unheard');
    expect(await accepted()).toEqual(before);
  });

  test('the command line says the same in sentences, and ends with exit code 1, or 2 for what it never sent', async () => {
    const env = {
      STEKKER_MANAGEMENT_TOKEN: holderSide.config.STEKKER_MANAGEMENT_TOKEN,
      STEKKER_MANAGEMENT_PORT: String(holder.managementPort),
    };
    const publish = (...args: string[]) => run({ args: ['publish', ...args], env });
    const [upstream, price] = await Promise.all([
      publish('https://192.168.1.7/levels', '--policy', 'open'),
      publish('https://source.example/x', '--policy', 'open', '--price', '0.5.5 EUR per request'),
    ]);
    expect([upstream.code, upstream.out]).toEqual([1, '']);
    expect(upstream.err).toContain('(body-invalid)');
    expect(upstream.err).toContain('/upstream/url: it names an address instead of a host');
    expect([price.code, price.out]).toEqual([2, '']);
    expect(price.err).toContain('write it as: 0.25 EUR per request');
  });
});

describe('a receipt with a flipped byte', () => {
  test('ends with exit code 1 and names the step, or says that it is no receipt; it is never valid', async () => {
    const bench = keep(await connectorBench());
    const at = (name: string) => join(bench.folder, name);
    writeFileSync(at('trust.json'), vectors.trust.jcs);
    const whole = Buffer.from(vectors.receipt.jcs);
    writeFileSync(at('whole.json'), whole);
    const places = Array.from({ length: 40 }, (_, place) => Math.floor((place * whole.length) / 40) + 7);
    const names = places.map((place) => {
      const flipped = Buffer.from(whole);
      flipped[place] = (flipped[place] ?? 0) ^ 1;
      writeFileSync(at(`flipped-${place}.json`), flipped);
      return at(`flipped-${place}.json`);
    });
    const verify = (...files: string[]) =>
      run({ args: ['verify', ...files, '--trust', at('trust.json'), '--json'], env: {} });
    expect((await verify(at('whole.json'))).code).toBe(0);
    const { out, code } = await verify(...names);
    const { files } = JSON.parse(out) as { files: { code: number; verdict?: string }[] };
    expect(files).toHaveLength(40);
    expect(files.filter((file) => file.code === 0)).toEqual([]);
    expect(code).toBeGreaterThan(0);

    writeFileSync(at('record.json'), vectors.receipt.jcs.replace('"bytes":"4"', '"bytes":"5"'));
    const record = await run({ args: ['verify', at('record.json'), '--trust', at('trust.json')], env: {} });
    expect(record.code).toBe(1);
    expect(record.out).toMatch(/^.*1 record.*$/m);
    expect(record.out).toContain('FAILED');
  });
});

describe('what stands in the way of a start', () => {
  const benches = {
    broker: async () => keep(await brokerBench()),
    connector: async () => keep(await connectorBench()),
  };

  describe.each(['broker', 'connector'] as const)('of a %s', (program) => {
    const tryStart = (env: Env, ...more: string[]) => run({ args: [program, ...more], env });
    const expectSaid = (
      { code, out, err }: Awaited<ReturnType<typeof tryStart>>,
      its: { readonly exit: number; readonly code: string; readonly says: readonly string[] },
    ): void => {
      expect(code, err).toBe(its.exit);
      for (const part of [`(${its.code})`, ...its.says]) expect(err).toContain(part);
      expect(err).not.toMatch(/^ {4}at /m);
      expect(`${out}${err}`).not.toContain(secretMarker);
    };

    test('wrong settings are named all at once, each with what is wrong and an example', async () => {
      const { env } = await benches[program]();
      const wrong = {
        ...env,
        STEKKER_PUBLIC_URL: 'connector.example/',
        STEKKER_PUBLIC_PORT: '80a',
        STEKKER_MODE: 'test',
        STEKKER_PASSPHRASE: 'short',
        STEKKER_COLOUR: secretText('colour'),
      };
      const says = [
        '  STEKKER_PUBLIC_URL: is no origin such as https://connector.example',
        '  STEKKER_PUBLIC_PORT: is no whole number; example: STEKKER_PUBLIC_PORT=80',
        '  STEKKER_MODE: is neither production nor development; example: STEKKER_MODE=production',
        '  STEKKER_PASSPHRASE: is shorter than 12 characters; example: STEKKER_PASSPHRASE=(a secret)',
        '  STEKKER_COLOUR: is no setting of this program',
      ];
      const [text, json] = await Promise.all([tryStart(wrong), tryStart(wrong, '--json')]);
      expectSaid(text, { exit: 2, code: 'config-invalid', says });
      expect(text.err).not.toContain('short;');
      const { error } = JSON.parse(json.err) as { error: { code: string; faults: unknown[] } };
      expect([json.code, error.code, error.faults.length]).toEqual([2, 'config-invalid', 5]);
    });

    test('files and addresses that are not there are settings that are wrong', async () => {
      const bench = await benches[program]();
      const here = (name: string) => join(import.meta.dirname, name);
      const tls = { STEKKER_TLS_CERT: here('none.pem'), STEKKER_TLS_KEY: here('none.pem') };
      const { STEKKER_PASSPHRASE: _passphrase, ...open } = bench.env;
      const [certificate, secret, address, folder] = await Promise.all([
        tryStart({ ...bench.env, ...tls }),
        tryStart({ ...open, STEKKER_PASSPHRASE_FILE: here('none') }),
        tryStart({ ...(await benches[program]()).env, STEKKER_PUBLIC_HOST: '203.0.113.9' }),
        tryStart({ ...bench.env, STEKKER_DATA: here('bad-input.test.ts') }),
      ]);
      expectSaid(certificate, { exit: 2, code: 'config-invalid', says: ['STEKKER_TLS_CERT', 'none.pem'] });
      expectSaid(secret, { exit: 2, code: 'config-invalid', says: ['STEKKER_PASSPHRASE'] });
      expectSaid(address, { exit: 2, code: 'config-invalid', says: ['203.0.113.9'] });
      expectSaid(folder, { exit: 2, code: 'config-invalid', says: ['cannot be made'] });
    });

    test('a wrong passphrase, a taken port, a newer folder and a second process are each said by name; nothing is lost', async () => {
      const { env, config } = await benches[program]();
      const first = await startKept([program], env);
      const document = await (await fetch(`${env.STEKKER_PUBLIC_URL}/.well-known/did.json`)).text();
      const second = await tryStart({ ...env, STEKKER_PUBLIC_PORT: '0' });
      expectSaid(second, { exit: 1, code: 'data-in-use', says: [env.STEKKER_DATA ?? '', 'Stop the other process'] });
      expect((await fetch(`${env.STEKKER_PUBLIC_URL}/health`)).status).toBe(200);
      expect((await first.stop()).code).toBe(0);

      const passphrase = await tryStart({ ...env, STEKKER_PASSPHRASE: secretText('another-passphrase') });
      expectSaid(passphrase, { exit: 1, code: 'passphrase-wrong', says: ['Give the passphrase'] });

      const port = config.STEKKER_PUBLIC_PORT;
      const taken = await listen(() => undefined, { host: '127.0.0.1', port });
      const refused = await tryStart(env);
      await taken[Symbol.asyncDispose]();
      expectSaid(refused, { exit: 1, code: 'port-in-use', says: [`port ${port} of 127.0.0.1 is taken`] });

      const mark = join(config.STEKKER_DATA, 'stekker.json');
      writeFileSync(mark, JSON.stringify({ format: 2, program }));
      const newer = await tryStart(env);
      expectSaid(newer, { exit: 1, code: 'data-newer', says: ['Start the newer version again'] });
      writeFileSync(mark, JSON.stringify({ format: 1, program }));

      await startKept([program], env);
      expect(await (await fetch(`${env.STEKKER_PUBLIC_URL}/.well-known/did.json`)).text()).toBe(document);
    });

    test('a folder that must stay out of backups, inside the data folder', async () => {
      const { env } = await benches[program]();
      const key = program === 'broker' ? 'STEKKER_INTENT_FOLDER' : 'STEKKER_JOURNAL_FOLDER';
      const inside = await tryStart({ ...env, [key]: join(env.STEKKER_DATA ?? '', 'inside') });
      expectSaid(inside, { exit: 2, code: 'config-invalid', says: [key, 'inside STEKKER_DATA'] });
    });

    test.skipIf(!hasDisks)('a full disk', async () => {
      using disk = smallDisk(1);
      const { env } = await benches[program]();
      disk.fill();
      const full = await tryStart({ ...env, STEKKER_DATA: join(disk.folder, 'data') });
      expectSaid(full, { exit: 1, code: 'disk-full', says: ['Free space on the disk'] });
    });
  });
});

describe('a full disk', () => {
  const purpose = 'urn:stekker:1:purpose:crisis';
  const application = 'urn:stekker:1:app:evacuatie@1.0.0';
  const text = JSON.stringify({ levels: [1, 2, 3] });

  test.skipIf(!canLimitFiles())(
    'stops a connector from serving, with 503 and no data; with room again, and after a restart, everything is there',
    async () => {
      const brokerSide = keep(await brokerBench());
      const broker = keep(await brokerSide.start());
      const env = { STEKKER_BROKER_URL: brokerSide.origin };
      const holderSide = keep(await connectorBench(env));
      const memberSide = keep(await connectorBench(env));
      const member = keep(await memberSide.start());
      const first = await startKept(['connector'], holderSide.env);
      const operate = operatorOf(first.ports.managementPort ?? 0);
      await joinBroker(broker, { did: holderSide.did, operate });
      await joinBroker(broker, member);
      const path = join(holderSide.folder, 'levels.json');
      writeFileSync(path, text);
      const published = await operate('POST', '/v1/publications', {
        title: 'Levels',
        upstream: { kind: 'file', path },
        policy: { template: 'purpose', parameters: { purpose } },
      });
      const dataset = String((published.body.asset as { id: string }).id);
      const { dataUrl, agreementId } = await acquire(member, { provider: holderSide.did, dataset });
      const { key } = (await member.operate('POST', '/v1/applications', { application })).body;
      const get = async () => {
        const headers = { authorization: `Bearer ${String(key)}`, 'stekker-purpose': purpose };
        const answer = await fetch(dataUrl, { headers });
        return { status: answer.status, text: await answer.text() };
      };
      const health = async () => (await fetch(`${holderSide.origin}/health`)).status;
      const accessesAt = async (call: typeof operate) => {
        const { body } = await call('GET', `/v1/usage?agreement=${encodeURIComponent(agreementId)}`);
        return (body.items as { accesses: number }[]).map(({ accesses }) => accesses);
      };
      /** What an access was is written down when its last byte left, a moment after that byte arrived. */
      const untilAccesses = (call: typeof operate, count: number) =>
        until(async () => ((await accessesAt(call))[0] === count ? true : undefined));
      expect(await get()).toEqual({ status: 200, text });
      expect(await health()).toBe(200);

      limitFiles(first.pid, 16);
      const refused = await get();
      expect(refused.status).toBe(503);
      expect(refused.text).not.toContain('levels');
      expect(refused.text).toContain('journal-unavailable');
      expect(await health()).toBe(503);
      limitFiles(first.pid, 'unlimited');
      await until(async () => ((await health()) === 200 ? true : undefined));
      expect(await get()).toEqual({ status: 200, text });
      await untilAccesses(operate, 2);

      expect((await first.stop()).code).toBe(0);
      const second = await startKept(['connector'], holderSide.env);
      const again = operatorOf(second.ports.managementPort ?? 0);
      await untilAccesses(again, 2);
      expect(await get()).toEqual({ status: 200, text });
      await untilAccesses(again, 3);
      expect(`${first.said()}${second.said()}`).not.toContain(secretMarker);
    },
  );

  test.skipIf(!hasDisks)('of its journal lets a connector start, and serve nothing until there is room', async () => {
    using disk = smallDisk(8);
    const bench = keep(await connectorBench({ STEKKER_JOURNAL_FOLDER: join(disk.folder, 'journal') }));
    await startKept(['connector'], bench.env);
    const health = async () => (await fetch(`${bench.origin}/health`)).status;
    expect(await health()).toBe(503);
    disk.grow(200);
    await until(async () => ((await health()) === 200 ? true : undefined));
  });

  test.skipIf(!hasDisks)(
    'stops the intake of a broker, which says so and loses nothing; with room again the same entry is taken',
    async () => {
      using disk = smallDisk(24);
      const folders = { STEKKER_DATA: join(disk.folder, 'data'), STEKKER_INTENT_FOLDER: join(disk.folder, 'intent') };
      const bench = keep(await brokerBench(folders));
      const env = { ...bench.env, STEKKER_MANAGEMENT_PORT: String(await freePort()) };
      const first = await startKept(['broker'], env);
      const operate = operatorOf(first.ports.managementPort ?? 0);
      const [alice, bob] = [keep(await startHolder(51)), keep(await startHolder(52))];
      const invite = async (did: Did) =>
        String((await operate('POST', '/v1/invitations', { did, name: 'A member', roles: ['holder'] })).body.joinCode);
      const codes = { alice: await invite(alice.did), bob: await invite(bob.did) };
      const register = async (who: typeof alice, code: string) => {
        const answer = await who.post(bench.did, `${bench.origin}/log/entries`, joinBody(who, code));
        return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
      };
      expect((await register(alice, codes.alice)).status).toBe(201);

      disk.fill();
      const refused = await register(bob, codes.bob);
      expect(refused).toMatchObject({ status: 507, body: { type: 'urn:stekker:1:error:disk-full' } });
      disk.free();
      const taken = await until(async () => {
        const answer = await register(bob, codes.bob);
        return answer.status < 300 ? answer : undefined;
      });
      expect(taken.status).toBe(201);
      expect((await first.stop()).code).toBe(0);

      const second = await startKept(['broker'], env);
      const again = operatorOf(second.ports.managementPort ?? 0);
      expect((await again('GET', '/v1/log')).body).toMatchObject({ size: 4 });
      expect((await again('GET', '/v1/participants?state=joined')).body.items).toHaveLength(2);
      expect((await again('POST', '/v1/log/audit', { repair: false })).body).toMatchObject({ damaged: [] });
      expect(`${first.said()}${second.said()}`).not.toContain(secretMarker);
    },
  );
});
