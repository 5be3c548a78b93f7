import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { fromBase64Url, orNothing, textOf } from '../../contracts/bytes.ts';
import { credentialStatus, issuerMetadata } from '../../contracts/dcp/messages.ts';
import { readBrokerInfo } from '../../contracts/events.ts';
import { entryParts, readEntry } from '../../contracts/ledger/entry.ts';
import { readPolicy, verifyNote } from '../../contracts/ledger/note.ts';
import { decodeBundle } from '../../contracts/ledger/tiles.ts';
import { credential, statusListCredential } from '../../contracts/vc/credential.ts';
import { minListEntries, readBit } from '../../contracts/vc/status-list.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createDidResolver } from '../../kernel/did.ts';
import { createGuardedClient } from '../../kernel/http/client.ts';
import { listen } from '../../kernel/http/server.ts';
import { readJwt, verifyJwt } from '../../kernel/jwt.ts';
import { type BrokerBench, brokerBench, type Operated, until } from '../support/broker-bench.ts';
import { freePort, type Holder, joinBody, requestBody, startHolder } from '../support/holder.ts';
import { secretText } from '../support/secrets.ts';

/** A real broker over HTTP on loopback, and participants that have only what it takes. */

const open: AsyncDisposable[] = [];
const keep = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  open.push(resource);
  return resource;
};
afterEach(async () => {
  for (let last = open.pop(); last !== undefined; last = open.pop()) await last[Symbol.asyncDispose]();
});

const getJson = async (url: string): Promise<unknown> => await (await fetch(url)).json();

interface World {
  readonly bench: BrokerBench;
  readonly broker: Operated;
  readonly membership: string;
}

const startWorld = async (): Promise<World> => {
  const bench = keep(await brokerBench());
  const broker = keep(await bench.start());
  const metadata = issuerMetadata.parse(await getJson(`${bench.origin}/dcp/metadata`));
  return { bench, broker, membership: metadata.credentialsSupported[0]?.id ?? '' };
};

const invite = async ({ broker }: World, { did }: Pick<Holder, 'did'>, roles = ['holder']): Promise<string> => {
  const { status, body } = await broker.operate('POST', '/v1/invitations', { did, name: 'Waterschap', roles });
  expect(status).toBe(201);
  return String(body.joinCode);
};

const enter = async ({ bench }: World, holder: Holder, code: string): Promise<number> =>
  (await holder.post(bench.did, `${bench.origin}/log/entries`, joinBody(holder, code))).status;

const joinedHolder = async (world: World, byte: number): Promise<Holder> => {
  const holder = keep(await startHolder(byte));
  expect(await enter(world, holder, await invite(world, holder))).toBe(201);
  return holder;
};

const ask = async (
  { bench, membership }: World,
  holder: Holder,
  holderPid: string,
  token?: string,
): Promise<string> => {
  const url = `${bench.origin}/dcp/credentials`;
  const answer = await holder.post(bench.did, url, requestBody(holderPid, [membership]), token);
  expect(answer.status).toBe(201);
  return answer.headers.get('location') ?? '';
};

const stateOf = async ({ bench }: World, holder: Holder, location: string): Promise<string> => {
  const answer = await holder.get(bench.did, location);
  return answer.status === 200 ? credentialStatus.parse(await answer.json()).status : String(answer.status);
};

const settled = (world: World, holder: Holder, location: string): Promise<string> =>
  until(async () => {
    const state = await stateOf(world, holder, location);
    return state === 'RECEIVED' ? undefined : state;
  });

const jwtsOf = (holder: Holder): string[] =>
  holder.received.flatMap(({ message }) =>
    (Array.isArray(message.credentials) ? message.credentials : []).map((one) => String(one.payload)),
  );

/** Reads a JWT and checks it under the assertion key of the document that the issuer serves. */
const verified = async ({ bench }: World, text: string) => {
  const client = keep(createGuardedClient({ allowLoopbackHttp: true }));
  const resolver = createDidResolver({ client, clock: systemClock, allowLoopbackHttp: true });
  const jwt = readJwt(text, 1 << 20);
  const key = await resolver.key(bench.did, jwt?.kid, 'assertionMethod');
  if (jwt === undefined || key === undefined) throw new Error('no JWT of the broker');
  expect([jwt.typ, verifyJwt(jwt, key.jwk)]).toEqual(['vc+jwt', true]);
  const { iss, sub, jti, iat, nbf, exp, ...claims } = jwt.claims;
  expect([iss, typeof sub, typeof jti, typeof iat, typeof nbf, typeof exp]).toEqual([
    bench.did,
    'string',
    'string',
    'number',
    'number',
    'number',
  ]);
  return claims;
};

/** Both status bits of a credential, from the lists as they are served. */
const bitsOf = async (world: World, jwt: string): Promise<Record<string, boolean | undefined>> => {
  const { credentialStatus: entries } = credential.parse(await verified(world, jwt));
  const bits: Record<string, boolean | undefined> = {};
  for (const { statusListCredential: url, statusListIndex, statusPurpose } of entries) {
    const answer = await fetch(url);
    const maxAge = Number(/max-age=(\d+)/.exec(answer.headers.get('cache-control') ?? '')?.[1]);
    const list = statusListCredential.parse(await verified(world, await answer.text()));
    const lifetimeMs = Date.parse(list.validUntil) - Date.now();
    expect(lifetimeMs).toBeGreaterThan(maxAge * 1_000);
    expect(lifetimeMs).toBeLessThanOrEqual(statusPurpose === 'revocation' ? 86_400_000 : 900_000);
    const encoded = list.credentialSubject.encodedList;
    const raw = gunzipSync(orNothing(fromBase64Url(encoded.slice(1))));
    expect([encoded[0], raw.length * 8 >= minListEntries, list.id]).toEqual(['u', true, url]);
    bits[statusPurpose] = readBit(raw, Number(statusListIndex));
  }
  return bits;
};

describe('a broker', () => {
  test('says who it is, and its own keys come first in its log', async () => {
    const { bench, broker } = await startWorld();
    const info = readBrokerInfo(await getJson(`${bench.origin}/.well-known/stekker-broker`));
    if (!info.ok) throw new Error(info.reason);
    const { log } = info.value;
    expect(info.value.did).toBe(bench.did);
    expect(log.origin).toMatch(/^localhost:\d+\/log\/\d{4}$/);
    expect(await getJson(`${bench.origin}/health`)).toEqual({ status: 'ready' });
    expect(await getJson(`${bench.origin}/.well-known/stekker`)).toMatchObject({ extensions: [{ id: 'statements' }] });

    const note = await until(async () => {
      const text = await (await fetch(`${log.url}/checkpoint`)).text();
      return Number(text.split('\n')[1]) >= 2 ? text : undefined;
    });
    const policy = readPolicy(nodeCrypto, log.policy);
    if (!policy.ok) throw new Error(policy.reason);
    expect(verifyNote(nodeCrypto, note, policy.value).ok).toBe(true);
    const bundle = decodeBundle(await (await fetch(`${log.url}/tile/entries/000.p/2`)).bytes());
    const second = readEntry(bundle.ok ? (textOf(bundle.value[1] ?? new Uint8Array(0)) ?? '') : '');
    if (!second.ok) throw new Error(second.reason);
    const digest = Buffer.from(entryParts(second.value).digest).toString('hex');
    const artifact = (await getJson(`${log.url}/artifact/${digest}`)) as { payload: string };
    const event = JSON.parse(Buffer.from(artifact.payload, 'base64url').toString());
    const document = await (await fetch(`${bench.origin}/.well-known/did.json`)).text();
    expect([event.did, event.seq, event.document]).toEqual([bench.did, '1', document]);
    expect((await broker.operate('GET', '/v1/log')).body).toMatchObject({ size: 2, isWorking: true });
    expect((await broker.operate('POST', '/v1/log/audit', { repair: false })).body).toMatchObject({ damaged: [] });
  });

  test('lets in whom it invited, with a code for that DID alone, and shows its members to everybody', async () => {
    const world = await startWorld();
    const { bench } = world;
    const alice = keep(await startHolder(51));
    const mallory = keep(await startHolder(61));
    const code = await invite(world, alice);
    expect(await enter(world, mallory, code)).toBe(403);
    expect(await enter(world, alice, 'a guess')).toBe(403);
    expect(await getJson(`${bench.origin}/participants`)).toEqual({ participants: [] });
    const body = joinBody(alice, code);
    const url = `${bench.origin}/log/entries`;
    expect((await alice.post(bench.did, url, body)).status).toBe(201);
    expect((await alice.post(bench.did, url, body)).status).toBe(200); // the answer was lost: the same again
    expect(await enter(world, mallory, code)).toBe(403);
    const members = await until(async () => {
      const shown = (await getJson(`${bench.origin}/participants`)) as { participants: unknown[] };
      return shown.participants.length > 0 ? shown : undefined;
    });
    expect(members).toEqual({ participants: [{ did: alice.did, name: 'Waterschap', roles: ['holder'] }] });
  });

  test('issues a membership to a member, and the delivery echoes the token of the request', async () => {
    const world = await startWorld();
    const alice = await joinedHolder(world, 51);
    const location = await ask(world, alice, 'request-1', secretText('token-of-alice'));
    expect(await settled(world, alice, location)).toBe('ISSUED');
    expect(alice.received).toEqual([
      {
        path: '/dcp/credentials',
        from: world.bench.did,
        token: secretText('token-of-alice'),
        message: expect.objectContaining({ type: 'CredentialMessage', status: 'ISSUED', holderPid: 'request-1' }),
      },
    ]);
    const [jwt = ''] = jwtsOf(alice);
    const issued = credential.parse(await verified(world, jwt));
    expect(issued.credentialSubject).toEqual({ id: alice.did, role: ['holder'], memberOf: world.bench.did });
    expect(await bitsOf(world, jwt)).toEqual({ revocation: false, suspension: false });
    const shown = await world.broker.operate('GET', `/v1/credentials/${encodeURIComponent(issued.id)}`);
    const { proof, ...same } = shown.body.dataIntegrity as Record<string, unknown>;
    expect([same, proof]).toEqual([issued, expect.objectContaining({ cryptosuite: 'eddsa-rdfc-2022' })]);
  });

  test('gives each of several requests with one holderPid exactly one delivery, and one credential', async () => {
    const world = await startWorld();
    const alice = await joinedHolder(world, 51);
    const locations = await Promise.all([1, 2, 3, 4].map(() => ask(world, alice, 'the same')));
    for (const location of locations) expect(await settled(world, alice, location)).toBe('ISSUED');
    const pids = alice.received.map(({ message }) => message.issuerPid);
    expect([pids.length, new Set(pids).size, new Set(locations).size]).toEqual([4, 4, 4]);
    expect(new Set(jwtsOf(alice)).size).toBe(1);
  });

  test('delivers again until the holder takes it', async () => {
    const world = await startWorld();
    const alice = await joinedHolder(world, 51);
    alice.answer = 503;
    const location = await ask(world, alice, 'request-1');
    await until(() => alice.received[1]);
    expect(await stateOf(world, alice, location)).toBe('RECEIVED');
    alice.answer = 200;
    expect(await settled(world, alice, location)).toBe('ISSUED');
    expect(new Set(jwtsOf(alice)).size).toBe(1);
  });

  test('refuses strangers, and shows nobody the request of another', async () => {
    const world = await startWorld();
    const alice = await joinedHolder(world, 51);
    const mallory = keep(await startHolder(61));
    const refused = await ask(world, mallory, 'please');
    expect(await settled(world, mallory, refused)).toBe('REJECTED');
    expect(mallory.received[0]?.message).toMatchObject({ status: 'REJECTED' });
    expect(jwtsOf(mallory)).toEqual([]);
    const location = await ask(world, alice, 'request-1');
    expect(await stateOf(world, mallory, location)).toBe('404');
    expect(await stateOf(world, alice, `${location}0`)).toBe('404');
    expect(await settled(world, alice, location)).toBe('ISSUED');
  });

  test('names each object that it does not issue, and hears nobody without a fresh token', async () => {
    const { bench, membership } = await startWorld();
    const alice = keep(await startHolder(51));
    const url = `${bench.origin}/dcp/credentials`;
    const unknown = await alice.post(bench.did, url, requestBody('p', [membership, 'urn:uuid:x', 'y']));
    expect([unknown.status, await unknown.json()]).toEqual([
      400,
      expect.objectContaining({
        errors: [
          expect.objectContaining({ path: '/credentials/1/id' }),
          expect.objectContaining({ path: '/credentials/2/id' }),
        ],
      }),
    ]);
    expect((await alice.post(bench.did, url, { type: 'CredentialRequestMessage' })).status).toBe(400);
    expect((await alice.post(alice.did, url, requestBody('p', [membership]))).status).toBe(401);
    expect((await fetch(url, { method: 'POST' })).status).toBe(401);
    const headers = {
      authorization: alice.tokens.tokenFor({ audience: bench.did }),
      'content-type': 'application/json',
    };
    const send = () =>
      fetch(url, { method: 'POST', headers, body: JSON.stringify(requestBody('p', [membership])) }).then(
        (answer) => answer.status,
      );
    expect((await Promise.all([send(), send(), send()])).toSorted()).toEqual([201, 401, 401]);
  });

  test('a revoked membership is in its list at once, and asking again brings nothing back', async () => {
    const world = await startWorld();
    const { broker } = world;
    const alice = await joinedHolder(world, 51);
    await settled(world, alice, await ask(world, alice, 'request-1'));
    const [jwt = ''] = jwtsOf(alice);
    const path = `/v1/credentials/${encodeURIComponent(credential.parse(await verified(world, jwt)).id)}`;

    expect((await broker.operate('POST', `${path}/suspension`, { reason: 'audit' })).body.standing).toBe('suspended');
    expect(await bitsOf(world, jwt)).toEqual({ revocation: false, suspension: true });
    expect(await settled(world, alice, await ask(world, alice, 'request-2'))).toBe('REJECTED');
    expect((await broker.operate('POST', `${path}/reinstatement`, { reason: 'passed' })).body.standing).toBe('active');
    expect(await bitsOf(world, jwt)).toEqual({ revocation: false, suspension: false });

    expect((await broker.operate('POST', `${path}/revocation`, { reason: 'fraud' })).body.standing).toBe('revoked');
    expect(await bitsOf(world, jwt)).toEqual({ revocation: true, suspension: false });
    const again = await broker.operate('POST', `${path}/reinstatement`, { reason: 'please' });
    expect([again.status, again.body.type]).toEqual([409, 'urn:stekker:1:error:standing-final']);
    expect((await broker.operate('POST', `${path}/revocation`, { reason: 'fraud' })).status).toBe(200);
    expect(await settled(world, alice, await ask(world, alice, 'request-3'))).toBe('REJECTED');
    expect(new Set(jwtsOf(alice)).size).toBe(1);

    await invite(world, alice, ['holder', 'runtime']); // the operator lets her in again, with another role
    expect(await settled(world, alice, await ask(world, alice, 'request-4'))).toBe('ISSUED');
    const fresh = credential.parse(await verified(world, jwtsOf(alice).at(-1) ?? ''));
    expect(fresh.credentialSubject).toMatchObject({ role: ['holder', 'runtime'] });
    expect(await bitsOf(world, jwtsOf(alice).at(-1) ?? '')).toEqual({ revocation: false, suspension: false });
  });

  test('other roles replace the credential that shows the old ones, and who leaves keeps none', async () => {
    const world = await startWorld();
    const { broker, bench } = world;
    const alice = await joinedHolder(world, 51);
    await settled(world, alice, await ask(world, alice, 'request-1'));
    await invite(world, alice, ['runtime']);
    await settled(world, alice, await ask(world, alice, 'request-2'));
    const [first = '', second = ''] = jwtsOf(alice);
    expect([(await bitsOf(world, first)).revocation, (await bitsOf(world, second)).revocation]).toEqual([true, false]);
    const left = await broker.operate('DELETE', `/v1/participants/${encodeURIComponent(alice.did)}`);
    expect([left.status, left.body.state]).toEqual([200, 'left']);
    expect((await bitsOf(world, second)).revocation).toBe(true);
    expect(await getJson(`${bench.origin}/participants`)).toEqual({ participants: [] });
    expect(await settled(world, alice, await ask(world, alice, 'request-3'))).toBe('REJECTED');
    expect((await broker.operate('DELETE', '/v1/participants/did:web:nobody.example')).status).toBe(404);
  });
});

describe("the operator's API of a broker", () => {
  test('asks for the token, names all faults at once, and describes every path', async () => {
    const { broker } = await startWorld();
    const base = `http://127.0.0.1:${broker.managementPort}`;
    for (const authorization of ['', 'Bearer wrong', 'Basic bWFuYWdlbWVudA=='])
      expect((await fetch(`${base}/v1/participants`, { headers: { authorization } })).status).toBe(401);
    const bad = await broker.operate('POST', '/v1/invitations', { did: 'did:key:z6Mk', name: '', roles: [], extra: 1 });
    expect(bad.status).toBe(400);
    const paths = (bad.body.errors as { path: string }[]).map(({ path }) => path);
    expect(paths.toSorted()).toEqual(['', '/did', '/name', '/roles']);
    expect((await broker.operate('GET', '/v1/participants?limit=0&order=up')).body.errors).toHaveLength(2);
    expect((await broker.operate('GET', '/v1/credentials/urn:uuid:00000000-0000-7000-8000-000000000000')).status).toBe(
      404,
    );
    expect((await broker.operate('GET', '/v1/nothing')).status).toBe(404);
    const document = (await broker.operate('GET', '/openapi.json')).body;
    expect(document.openapi).toBe('3.1.0');
    expect(Object.keys(document.paths as object).toSorted()).toEqual([
      '/v1/anchors',
      '/v1/credentials',
      '/v1/credentials/{id}',
      '/v1/credentials/{id}/reinstatement',
      '/v1/credentials/{id}/revocation',
      '/v1/credentials/{id}/suspension',
      '/v1/invitations',
      '/v1/log',
      '/v1/log/audit',
      '/v1/participants',
      '/v1/participants/{did}',
      '/v1/status',
      '/v1/store/harvest',
    ]);
  });
});

describe('starting a broker', () => {
  test('a restart keeps everything that was accepted', async () => {
    const world = await startWorld();
    const { bench, broker } = world;
    const alice = await joinedHolder(world, 51);
    alice.answer = 503;
    const waiting = await ask(world, alice, 'before the restart', 'a-token');
    await until(() => alice.received[0]);
    const before = await getJson(`${bench.origin}/.well-known/stekker-broker`);
    const document = await (await fetch(`${bench.origin}/.well-known/did.json`)).text();
    await broker[Symbol.asyncDispose]();
    alice.answer = 200;
    const again = keep(await bench.start());
    expect(await getJson(`${bench.origin}/.well-known/stekker-broker`)).toEqual(before);
    expect(await (await fetch(`${bench.origin}/.well-known/did.json`)).text()).toBe(document);
    expect((await again.operate('GET', '/v1/log')).body).toMatchObject({ size: 3 });
    expect(await settled(world, alice, waiting)).toBe('ISSUED');
    expect(alice.received.at(-1)?.token).toBe('a-token');
    expect(await getJson(`${bench.origin}/participants`)).toMatchObject({ participants: [{ did: alice.did }] });
  });

  test('in the next year the log keeps its name', async () => {
    const { bench, broker } = await startWorld();
    const before = (await broker.operate('GET', '/v1/log')).body.origin;
    await broker[Symbol.asyncDispose]();
    const year = 366 * 86_400_000;
    const clock = { now: () => systemClock.now() + year, sleep: systemClock.sleep };
    const again = keep(await bench.start({}, { clock }));
    expect((await again.operate('GET', '/v1/log')).body.origin).toBe(before);
  });

  test('a key event that nobody noted before the crash counts after it', async () => {
    const world = await startWorld();
    const alice = keep(await startHolder(51));
    const code = await invite(world, alice);
    await enter(world, alice, code);
    await world.broker[Symbol.asyncDispose]();
    const again = keep(await world.bench.start());
    const shown = await again.operate('GET', '/v1/participants?state=joined');
    expect(shown.body.items).toHaveLength(1);
  });

  test('what is wrong is said with its code, and nothing is left behind', async () => {
    const bench = keep(await brokerBench());
    await (await bench.start())[Symbol.asyncDispose]();
    await expect(bench.start({ STEKKER_PASSPHRASE: secretText('another-passphrase') })).rejects.toMatchObject({
      code: 'passphrase-wrong',
    });
    const other = `http://localhost:${await freePort()}`;
    await expect(bench.start({ STEKKER_PUBLIC_URL: other })).rejects.toMatchObject({ code: 'config-invalid' });
    await expect(bench.start({ STEKKER_INTENT_FOLDER: join(bench.config.STEKKER_DATA, 'x') })).rejects.toMatchObject({
      code: 'config-invalid',
    });
    await expect(bench.start({ STEKKER_ROLE: 'accreditor' })).rejects.toMatchObject({ code: 'config-invalid' });
    const taken = await listen(() => undefined, { host: '127.0.0.1', port: bench.config.STEKKER_PUBLIC_PORT });
    await expect(bench.start()).rejects.toMatchObject({ code: 'port-in-use' });
    await taken[Symbol.asyncDispose]();
    const mark = join(bench.config.STEKKER_DATA, 'stekker.json');
    writeFileSync(mark, '{"format":2,"program":"broker"}');
    await expect(bench.start()).rejects.toMatchObject({ code: 'data-newer' });
    writeFileSync(mark, '{"format":1,"program":"broker"}');
    keep(await bench.start());
  });

  test('a second process on the same folder is refused while the first goes on', async () => {
    const { bench } = await startWorld();
    await expect(bench.start({ STEKKER_PUBLIC_PORT: 0 })).rejects.toMatchObject({ code: 'data-in-use' });
    const root = join(import.meta.dirname, '../..');
    const code = `
      const { startBroker } = await import(${JSON.stringify(join(root, 'broker/main.ts'))});
      const { silentLogger } = await import(${JSON.stringify(join(root, 'kernel/log.ts'))});
      try {
        await startBroker(${JSON.stringify(bench.config)}, { log: silentLogger, signal: new AbortController().signal });
      } catch (error) { console.log(error.code); }`;
    const second = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
    expect(second.stdout.trim()).toBe('data-in-use');
    expect(await getJson(`${bench.origin}/health`)).toEqual({ status: 'ready' });
  });

  test('stops when its signal aborts', async () => {
    const bench = keep(await brokerBench());
    const stop = new AbortController();
    const broker = await bench.start({}, { signal: stop.signal });
    stop.abort();
    await broker.stopped;
    await expect(fetch(`${bench.origin}/health`)).rejects.toThrow('fetch failed');
  });
});
