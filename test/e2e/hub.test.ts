import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { registerLog } from '../../broker/adapters/evm/deploy.ts';
import type { Status } from '../../connector/status/service.ts';
import { verifyAnchor } from '../../contracts/anchor/proof.ts';
import { anchoredCheckpoint, finalAnchors } from '../../contracts/anchor/served.ts';
import { issuerMetadata } from '../../contracts/dcp/messages.ts';
import { readBrokerInfo } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import { readPolicy, verifyNote } from '../../contracts/ledger/note.ts';
import { storePage } from '../../contracts/store.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { type AnchorWorld, startAnchorWorld } from '../support/anchor-world.ts';
import { anvilKeys } from '../support/anvil.ts';
import { type BrokerBench, brokerBench, type Operated, until } from '../support/broker-bench.ts';
import { startProvider } from '../support/catalog-provider.ts';
import { type Holder, requestBody, startHolder } from '../support/holder.ts';
import { follow, us } from '../support/hub-events.ts';
import { agreementEventOf, agreementOf, joinHub, postAs } from '../support/hub-members.ts';
import { type HubParty, noticeOf, startHubParty } from '../support/hub-parties.ts';

/** The hub with all its parts, over HTTP, with a real chain, a real accreditor and connectors' own code at the other end. */

const open: AsyncDisposable[] = [];
const keep = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  open.push(resource);
  return resource;
};
afterEach(async () => {
  for (let last = open.pop(); last !== undefined; last = open.pop()) await last[Symbol.asyncDispose]();
});

const getJson = async (url: string): Promise<unknown> => await (await fetch(url)).json();

const infoOf = async ({ origin }: BrokerBench) => {
  const info = readBrokerInfo(await getJson(`${origin}/.well-known/stekker-broker`));
  if (!info.ok) throw new Error(info.reason);
  return info.value;
};

const startHub = async (env: Record<string, string> = {}) => {
  const bench = keep(await brokerBench(env));
  return { bench, broker: keep(await bench.start()) };
};

/** Makes blocks until it is disposed. */
const keepMining = ({ anvil }: AnchorWorld): AsyncDisposable => {
  const stop = new AbortController();
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await anvil.mine();
      await systemClock.sleep(50, stop.signal);
    }
  };
  const looping = loop();
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await looping;
    },
  };
};

const anchorEnv = ({ anvil, target }: AnchorWorld): Record<string, string> => ({
  STEKKER_ANCHOR_RPC: anvil.url,
  STEKKER_ANCHOR_CHAIN_ID: anvil.chainId,
  STEKKER_ANCHOR_CONTRACT: target.contract,
  STEKKER_ANCHOR_KEY: anvilKeys[1],
  STEKKER_ANCHOR_SECONDS: '1',
});

/** The first final anchor that covers an entry, once there is one. */
const covering = async (logUrl: string, index: number) => {
  for (let tries = 0; tries < 600; tries += 1) {
    const answer = await fetch(`${logUrl}/anchors/newest?covers=${index}`);
    if (answer.status === 200) return anchoredCheckpoint.parse(await answer.json());
    expect(answer.status).toBe(404);
    await systemClock.sleep(50);
  }
  throw new Error(`no final anchor covers entry ${index}`);
};

/** The size of a checkpoint whose signature and anchor hold, for a reader that trusts the block. */
const verifiedSize = async (bench: BrokerBench, served: ReturnType<typeof anchoredCheckpoint.parse>) => {
  const { log, chain } = await infoOf(bench);
  const policy = readPolicy(nodeCrypto, log.policy);
  const checkpoint = policy.ok ? verifyNote(nodeCrypto, served.checkpoint, policy.value) : policy;
  if (!checkpoint.ok) throw new Error(checkpoint.reason);
  const { anchors } = finalAnchors.parse(await getJson(`${log.url}/anchors`));
  const chains = chain === null ? [] : [{ ...chain, blocks: anchors.map(({ blockHash }) => blockHash) }];
  const tools = { keccak256, sha256: nodeCrypto.sha256 };
  expect(verifyAnchor(tools, served.anchor, checkpoint.value, chains)).toMatchObject({ state: 'authenticated' });
  return checkpoint.value.size;
};

describe('a hub and its chain', () => {
  test('anchors its checkpoints, serves the proof of each, goes on after a restart, and keeps what it anchored', async () => {
    const world = keep(await startAnchorWorld({ isRegistered: false }));
    const { bench, broker } = await startHub(anchorEnv(world));
    const { log, chain } = await infoOf(bench);
    expect(chain).toEqual({ chainId: world.anvil.chainId, contract: world.target.contract });
    expect((await fetch(`${log.url}/anchors/newest?covers=0`)).status).toBe(404);
    const mining = keep(keepMining(world));
    const owner = world.options.account.address;
    await registerLog(world.operator, { contract: world.target.contract, origin: log.origin, owner });
    const first = await verifiedSize(bench, await covering(log.url, 0));
    expect(first).toBeGreaterThanOrEqual(1);
    await until(async () => ((await broker.operate('GET', '/v1/log')).body.checkpoint === null ? undefined : true));
    await broker[Symbol.asyncDispose]();

    const again = keep(await bench.start());
    const member = keep(await startHubParty());
    await joinHub(bench, again, member);
    expect(await verifiedSize(bench, await covering(log.url, 2))).toBe(3);
    const shown = (await again.operate('GET', '/v1/anchors')).body.items;
    expect(shown).toContainEqual({
      size: '3',
      state: 'final',
      transaction: expect.stringMatching(/^0x[0-9a-f]{64}$/),
      block: expect.stringMatching(/^\d+$/),
    });
    const status = (await again.operate('GET', '/v1/status')).body;
    expect(status.anchoring).toMatchObject({ newestFinal: { size: '3' }, isStopped: false, isLate: false });
    expect(await getJson(`${bench.origin}/health`)).toEqual({ status: 'ready', anchor: 'in-time' });
    await again[Symbol.asyncDispose]();
    await mining[Symbol.asyncDispose]();

    const without = keep(await bench.start({ STEKKER_ANCHOR_RPC: undefined }));
    expect((await infoOf(bench)).chain).toBeNull();
    expect(anchoredCheckpoint.parse(await getJson(`${log.url}/anchors/newest?covers=2`)).anchor.kind).toBe('evm');
    expect((await without.operate('GET', '/v1/anchors')).body.items).toHaveLength((shown as unknown[]).length);
    expect((await without.operate('GET', '/v1/status')).body.anchoring).toBeNull();
    expect(await getJson(`${bench.origin}/health`)).toEqual({ status: 'ready' });
  });

  test('does not start from rows that are older than its anchor', async () => {
    const world = keep(await startAnchorWorld({ isRegistered: false }));
    const { bench, broker } = await startHub(anchorEnv(world));
    const { log } = await infoOf(bench);
    keep(keepMining(world));
    const owner = world.options.account.address;
    await registerLog(world.operator, { contract: world.target.contract, origin: log.origin, owner });
    await covering(log.url, 0);
    await broker[Symbol.asyncDispose]();
    const STEKKER_DATA = `${bench.config.STEKKER_DATA}-of-an-older-backup`;
    await expect(bench.start({ STEKKER_DATA })).rejects.toMatchObject({ code: 'backup-restored' });
    keep(await bench.start());
  });

  test('a chain that is gone delays nothing; that the anchor is late is said, and is no failure', async () => {
    let ahead = 0;
    const clock: Clock = { now: () => systemClock.now() + ahead, sleep: systemClock.sleep };
    const bench = keep(
      await brokerBench({
        STEKKER_ANCHOR_RPC: 'http://localhost:1',
        STEKKER_ANCHOR_CONTRACT: `0x${'ab'.repeat(20)}`,
        STEKKER_ANCHOR_KEY: anvilKeys[1],
        STEKKER_ANCHOR_SECONDS: '1',
      }),
    );
    const broker = keep(await bench.start({}, { clock }));
    expect(await getJson(`${bench.origin}/health`)).toEqual({ status: 'ready', anchor: 'in-time' });
    const anchoringOf = async () =>
      (await broker.operate('GET', '/v1/status')).body.anchoring as Record<string, unknown>;
    const waiting = await until(async () => {
      const anchoring = await anchoringOf();
      return anchoring.reason === null ? undefined : anchoring;
    });
    expect(waiting).toMatchObject({ newestFinal: null, isStopped: false, isLate: false });
    expect(waiting.waitingSince).not.toBeNull();
    ahead = 2 * 3_600_000;
    const health = await until(async () => {
      const answer = await fetch(`${bench.origin}/health`);
      const body = (await answer.json()) as { anchor: string };
      return body.anchor === 'late' ? { status: answer.status, body } : undefined;
    });
    expect(health).toEqual({ status: 200, body: { status: 'ready', anchor: 'late' } });
    expect((await anchoringOf()).isLate).toBe(true);
  });

  test('what is configured by half is said by name', async () => {
    const bench = keep(await brokerBench({ STEKKER_ANCHOR_RPC: 'http://localhost:1' }));
    await expect(bench.start()).rejects.toMatchObject({
      code: 'config-invalid',
      detail: expect.stringContaining('STEKKER_ANCHOR_CONTRACT'),
    });
  });

  test('nothing of a chain is loaded where none is configured', async () => {
    const bench = keep(await brokerBench());
    const root = join(import.meta.dirname, '../..');
    const code = `
      import { registerHooks } from 'node:module';
      const loaded = [];
      registerHooks({ resolve: (name, context, next) => { loaded.push(name); return next(name, context); } });
      const { main } = await import(${JSON.stringify(join(root, 'bin/stekker.ts'))});
      const stop = new AbortController();
      const out = () => stop.abort();
      const code = await main(['broker'], { out, err: console.log, write: async () => undefined, env: process.env, signal: stop.signal });
      console.log(JSON.stringify({ code, ethers: loaded.filter((name) => name === 'ethers').length, count: loaded.length }));`;
    const load = (env: Record<string, string>) => {
      const ran = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8', env });
      return JSON.parse(ran.stdout.trim().split('\n').at(-1) ?? '') as { code: number; ethers: number; count: number };
    };
    const without = load(bench.env);
    expect([without.code, without.ethers]).toEqual([0, 0]);
    expect(without.count).toBeGreaterThan(100);
    const chain = {
      STEKKER_ANCHOR_RPC: 'http://localhost:1',
      STEKKER_ANCHOR_CONTRACT: `0x${'ab'.repeat(20)}`,
      STEKKER_ANCHOR_KEY: anvilKeys[1],
    };
    expect(load({ ...bench.env, ...chain }).ethers).toBeGreaterThan(0);
  });
});

const stateOf = (status: Status, subject: string) => status.check([subject], 'strict').state;
const whenState = (status: Status, subject: string, state: string): Promise<true> =>
  until(() => (stateOf(status, subject) === state ? true : undefined));

const joined = async (bench: BrokerBench, broker: Operated): Promise<HubParty> => {
  const party = keep(await startHubParty());
  await joinHub(bench, broker, party);
  return party;
};

const followHub = async (party: HubParty, bench: BrokerBench, accreditors: readonly Did[] = []): Promise<Status> => {
  const status = keep(await follow(party, bench, { accreditors }));
  await whenState(status, 'urn:uuid:anything', 'good');
  return status;
};

/** The id of the only credential that an issuer gave to a holder that asks for this kind. */
const issuedTo = async (issuer: BrokerBench, operated: Operated, holder: Holder): Promise<string> => {
  const metadata = issuerMetadata.parse(await getJson(`${issuer.origin}/dcp/metadata`));
  const body = requestBody('p', [metadata.credentialsSupported[0]?.id ?? '']);
  expect((await holder.post(issuer.did, `${issuer.origin}/dcp/credentials`, body)).status).toBe(201);
  return await until(async () => {
    const items = (await operated.operate('GET', '/v1/credentials')).body.items as { id: string; holder: string }[];
    return items.find((item) => item.holder === holder.did)?.id;
  });
};

const revoke = async (operated: Operated, id: string): Promise<void> => {
  const path = `/v1/credentials/${encodeURIComponent(id)}/revocation`;
  expect((await operated.operate('POST', path, { reason: 'fraud' })).status).toBe(200);
};

describe('what a hub tells its members', () => {
  test('a revocation by its operator reaches every member that listens', async () => {
    const { bench, broker } = await startHub();
    const holder = keep(await startHolder(51));
    await joinHub(bench, broker, holder);
    const id = await issuedTo(bench, broker, holder);
    const followers = [];
    for (let index = 0; index < 2; index += 1) followers.push(await followHub(await joined(bench, broker), bench));
    await revoke(broker, id);
    for (const status of followers) await whenState(status, id, 'revoked');
    expect(followers.map((status) => stateOf(status, 'urn:uuid:another'))).toEqual(['good', 'good']);
    const shown = (await broker.operate('GET', '/v1/status')).body;
    expect(shown.events).toMatchObject({ listeners: 2 });
  });

  test('a revocation by an accreditor that it recognises reaches them too, as the accreditor’s own word', async () => {
    const world = keep(await brokerBench({ STEKKER_ROLE: 'accreditor', STEKKER_BROKER_URL: 'http://localhost:1' }));
    const { bench, broker } = await startHub({ STEKKER_ACCREDITORS: world.did });
    const accreditor = keep(await world.start({ STEKKER_BROKER_URL: bench.origin }));
    const holder = keep(await startHolder(51));
    const decided = await accreditor.operate('POST', '/v1/accreditations', {
      holder: holder.did,
      application: { id: 'urn:stekker:1:app:evacuatie', version: '1.2.0', digest: 'sha256-abc' },
      purposes: ['urn:stekker:1:purpose:flood-response'],
      criteria: { id: 'urn:stekker:1:criteria:models', version: '1' },
      level: 'substantial',
      validDays: 365,
    });
    expect(decided.status).toBe(201);
    const id = await issuedTo(world, accreditor, holder);
    const status = await followHub(await joined(bench, broker), bench, [world.did]);
    await revoke(accreditor, id);
    await whenState(status, id, 'revoked');
  });

  test('strangers do not listen, and issuers that it does not recognise are not heard', async () => {
    const { bench, broker } = await startHub();
    const stranger = keep(await startHubParty());
    const member = await joined(bench, broker);
    const notice = (by: HubParty, subject = 'urn:uuid:a-1') => noticeOf(by, { type: 'revoked', subject });
    expect((await postAs(stranger, bench, '/events', notice(stranger))).status).toBe(403);
    expect((await postAs(member, bench, '/events', notice(member))).status).toBe(403);
    const headers = () => ({ authorization: stranger.tokens.tokenFor({ audience: bench.did }) });
    expect((await fetch(`${bench.origin}/events`, { headers: headers() })).status).toBe(403);
    expect((await fetch(`${bench.origin}/events`)).status).toBe(401);
  });

  test('a recognised accreditor says nothing about the broker’s own credentials', async () => {
    const accreditor = keep(await startHubParty());
    const { bench, broker } = await startHub({ STEKKER_ACCREDITORS: accreditor.did });
    const holder = keep(await startHolder(51));
    await joinHub(bench, broker, holder);
    const id = await issuedTo(bench, broker, holder);
    const say = (subject: string) =>
      postAs(accreditor, bench, '/events', noticeOf(accreditor, { type: 'revoked', subject }));
    expect((await say(id)).status).toBe(403);
    expect((await say('urn:uuid:of-its-own')).status).toBe(201);
  });

  test('new keys are told to all, the end of an agreement to its parties alone', async () => {
    const { bench, broker } = await startHub();
    const [provider, consumer, other] = [
      await joined(bench, broker),
      await joined(bench, broker),
      await joined(bench, broker),
    ];
    const followers = [];
    for (const party of [provider, consumer, other]) followers.push(await followHub(party, bench));
    const told: string[][] = followers.map(() => []);
    for (const [place, status] of followers.entries())
      status.onStanding(({ type, subject }) => void told[place]?.push(`${type} ${subject}`));
    const { body, digest } = agreementOf('one', provider, consumer);
    expect((await postAs(provider, bench, '/log/entries', body)).status).toBe(201);
    const end = agreementEventOf(digest, 'end', [provider, consumer]);
    expect((await postAs(consumer, bench, '/log/entries', end)).status).toBe(201);
    const late = await joined(bench, broker);
    const isTold = (line: string) => until(() => (told.every((lines) => lines.includes(line)) ? true : undefined));
    await isTold(`keys ${late.did}`);
    expect(told.map((lines) => lines.filter((line) => line.startsWith('agreement-ended')))).toEqual([
      [`agreement-ended ${digest}`],
      [`agreement-ended ${digest}`],
      [],
    ]);
    expect(followers.map((status) => stateOf(status, digest))).toEqual(['revoked', 'revoked', 'good']);
  });

  test('what a stranger declares void before there is an agreement ends nothing', async () => {
    const { bench, broker } = await startHub();
    const [provider, consumer, other] = [
      await joined(bench, broker),
      await joined(bench, broker),
      await joined(bench, broker),
    ];
    const status = await followHub(consumer, bench);
    const [first, second] = [agreementOf('first', provider, consumer), agreementOf('second', provider, consumer)];
    for (const [by, body] of [
      [other, agreementEventOf(first.digest, 'void', [other])],
      [provider, first.body],
      [provider, second.body],
      [provider, agreementEventOf(second.digest, 'void', [provider])],
    ] as const)
      expect((await postAs(by, bench, '/log/entries', body)).status).toBe(201);
    await whenState(status, second.digest, 'revoked');
    expect(stateOf(status, first.digest)).toBe('good');
  });
});

describe('the store of a hub', () => {
  const titlesOf = async ({ origin }: BrokerBench, q: string): Promise<string[]> =>
    storePage.parse(await getJson(`${origin}/store/offers?q=${q}`)).entries.map(({ title }) => title);

  const publish = async ({ catalog }: Awaited<ReturnType<typeof startProvider>>, name: string) => {
    await catalog.addAsset(us, {
      id: `urn:asset:${name}`,
      title: `Waterstand ${name}`,
      keywords: ['peil'],
      upstream: { kind: 'file', path: `/data/${name}` },
    });
    await catalog.addOffer(us, {
      id: `urn:offer:${name}`,
      asset: `urn:asset:${name}`,
      rules: { permission: [{ action: 'use' }] },
      price: '',
    });
  };

  test('what a member offers is found soon after it joined, again on demand, and not when it has left', async () => {
    const { bench, broker } = await startHub({ STEKKER_HARVEST_SECONDS: '86400' });
    const provider = await startProvider(bench.did);
    keep(provider.party);
    await publish(provider, 'Zaandijk');
    expect(await titlesOf(bench, 'waterstand')).toEqual([]);
    const harvest = (body: object) => broker.operate('POST', '/v1/store/harvest', body);
    expect((await harvest({ member: provider.party.did })).status).toBe(404);
    await joinHub(bench, broker, provider.party, 'Waterschap');
    await until(async () => ((await titlesOf(bench, 'zaandijk')).length === 1 ? true : undefined));

    await publish(provider, 'Dorregeest');
    expect(await titlesOf(bench, 'dorregeest')).toEqual([]);
    expect(await harvest({ member: provider.party.did })).toEqual({ status: 202, body: { started: true } });
    await until(async () => ((await titlesOf(bench, 'dorregeest')).length === 1 ? true : undefined));
    await publish(provider, 'Uitgeest');
    expect((await harvest({})).status).toBe(202);
    await until(async () => ((await titlesOf(bench, 'uitgeest')).length === 1 ? true : undefined));
    const { harvest: read } = (await broker.operate('GET', '/v1/status')).body;
    expect(read).toMatchObject({ catalogs: 1, datasets: 3, faults: [] });

    const path = `/v1/participants/${encodeURIComponent(provider.party.did)}`;
    expect((await broker.operate('DELETE', path)).status).toBe(200);
    expect(await titlesOf(bench, 'waterstand')).toEqual([]);
    const invitation = { did: provider.party.did, name: 'Waterschap', roles: ['participant'] };
    await broker.operate('POST', '/v1/invitations', invitation);
    await until(async () => ((await titlesOf(bench, 'waterstand')).length === 3 ? true : undefined));
  });

  test('catalogs are read at each start, and what a member without one says is shown to the operator', async () => {
    const { bench, broker } = await startHub();
    const provider = await startProvider(bench.did);
    keep(provider.party);
    const bare = await joined(bench, broker);
    await joinHub(bench, broker, provider.party);
    await broker[Symbol.asyncDispose]();
    await publish(provider, 'Zaandijk');
    const again = keep(await bench.start());
    await until(async () => ((await titlesOf(bench, 'zaandijk')).length === 1 ? true : undefined));
    const status = await until(async () => {
      const { harvest } = (await again.operate('GET', '/v1/status')).body as { harvest: { catalogs: number } };
      return harvest.catalogs === 2 ? harvest : undefined;
    });
    expect(status).toMatchObject({
      datasets: 1,
      faults: [{ provider: bare.did, fault: expect.stringContaining('404') }],
    });
  });
});
