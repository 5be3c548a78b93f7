import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { registerLog } from '../../broker/adapters/evm/deploy.ts';
import { verifyAnchor } from '../../contracts/anchor/proof.ts';
import { anchoredCheckpoint, finalAnchors } from '../../contracts/anchor/served.ts';
import { readBrokerInfo } from '../../contracts/events.ts';
import { readPolicy, verifyNote } from '../../contracts/ledger/note.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { startAnchorWorld } from '../support/anchor-world.ts';
import { anvilKeys } from '../support/anvil.ts';
import { type BrokerBench, brokerBench, until } from '../support/broker-bench.ts';
import { anchorEnv, covering, keepMining } from '../support/hub-anchors.ts';
import { joinHub } from '../support/hub-members.ts';
import { startHubParty } from '../support/hub-parties.ts';

/** The hub with a real chain: what it anchors, what it serves of that, and what it does when the chain is not there. */

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
