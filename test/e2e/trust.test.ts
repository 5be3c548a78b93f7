import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Hono } from 'hono';
import { afterAll, describe, expect, test } from 'vitest';
import { main } from '../../bin/stekker.ts';
import { createAnchoringRoutes } from '../../broker/anchoring/routes.ts';
import { Anchoring } from '../../broker/anchoring/service.ts';
import { createLedgerRoutes } from '../../broker/ledger/routes.ts';
import { toBase64 } from '../../contracts/bytes.ts';
import { type BrokerInfo, brokerInfo, brokerInfoPath } from '../../contracts/events.ts';
import { buildVerifierKey } from '../../contracts/ledger/note.ts';
import { receiptText, trustFile } from '../../contracts/ledger/receipt.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { serveRoutes } from '../../kernel/http/server.ts';
import { silentLogger } from '../../kernel/log.ts';
import { type AnchorWorld, anchorPolicy, startAnchorWorld } from '../support/anchor-world.ts';
import { anvilKeys } from '../support/anvil.ts';
import { ed25519FromByte, p256FromByte } from '../support/keys.ts';
import { buildWorld, keys, origin } from '../support/ledger-world.ts';
import { joinAll, logBench, logKeys, published } from '../support/log-bench.ts';
import { startNodeInFront } from '../support/node-in-front.ts';

/** A reader's trust file: from a broker that serves a real log, and from nodes of a real chain. */

const folder = mkdtempSync(join(tmpdir(), 'stekker-trust-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const newFile = (): string => {
  files += 1;
  return join(folder, `trust-${files}.json`);
};

const run = async (args: readonly string[], env: NodeJS.ProcessEnv = {}) => {
  const out: string[] = [];
  const err: string[] = [];
  const code = await main(args, {
    out: (line) => void out.push(line),
    err: (line) => void err.push(line),
    env,
    signal: new AbortController().signal,
  });
  return { code, out: out.join('\n'), err: err.join('\n') };
};

const readTrust = (path: string) => trustFile.parse(JSON.parse(readFileSync(path, 'utf8')));

interface Broker extends AsyncDisposable {
  readonly url: string;
  /** What it says of itself; a test may make it lie. */
  info: BrokerInfo;
}

const startBroker = async (world?: AnchorWorld, anchoring?: Anchoring): Promise<Broker> => {
  const bench = logBench();
  const ledger = await bench.start();
  await joinAll(ledger);
  await published(bench, 3);
  const app = new Hono();
  app.get(brokerInfoPath, (context) => context.json(broker.info));
  app.route('/', createLedgerRoutes({ ledger, authenticate: async () => 'nobody', log: silentLogger }));
  if (anchoring !== undefined)
    app.route('/', createAnchoringRoutes({ base: '/log/2026', anchoring, log: silentLogger }));
  const server = await serveRoutes(app, { host: 'localhost', port: 0 });
  const url = `http://localhost:${server.port}`;
  const broker: Broker = {
    url,
    info: brokerInfo.parse({
      did: 'did:web:broker.example',
      name: 'A broker',
      log: {
        origin,
        url: `${url}/log/2026`,
        vkey: logKeys.vkey,
        registryKey: toBase64(logKeys.registryKey),
        policy: `log ${logKeys.vkey}\nquorum none\n`,
      },
      chain: world === undefined ? null : { chainId: world.target.chainId, contract: world.target.contract },
      accreditors: [],
    }),
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await ledger.close();
      await anchoring?.close();
    },
  };
  return broker;
};

/** The checkpoint of a receipt, final on the chain. */
const anchoredWorld = async () => {
  const world = await startAnchorWorld();
  const anchoring = await Anchoring.start({
    ...world.options,
    policy: anchorPolicy,
    intervalMs: 0,
    pollMs: 5,
    alarmMs: 60_000,
  });
  const { receipt } = buildWorld();
  anchoring.feed(receipt.checkpoint);
  const size = Number(receipt.checkpoint.split('\n')[1]);
  for (let n = 0; n < 500 && (await anchoring.covering(size - 1)) === undefined; n += 1) await world.mining(delay());
  const found = await anchoring.covering(size - 1);
  if (found === undefined) throw new Error('never final');
  return { world, anchoring, receipt: { ...receipt, anchors: [found.anchor] } };
};

const delay = () => new Promise<void>((resolve) => setTimeout(resolve, 10));

describe('stekker trust', () => {
  test('holds the broker’s keys against the log, writes them, and says why they are trusted', async () => {
    await using broker = await startBroker();
    const path = newFile();
    const { code, out } = await run(['trust', '--broker', broker.url, '--out', path]);
    expect(code).toBe(0);
    expect(out).toContain(`the log ${origin} of did:web:broker.example`);
    expect(out).toContain('Nothing else vouches for it');
    const { vkey, registryKey, policy } = broker.info.log;
    expect(readTrust(path)).toEqual({ v: 1, type: 'trust', logs: [{ vkey, registryKey, policy }], chains: [] });
    const receipt = join(folder, 'receipt.json');
    writeFileSync(receipt, receiptText(buildWorld().receipt));
    expect((await run(['verify', receipt, '--trust', path])).code).toBe(0);
  });

  test('pins what a node of the reader calls final, and a receipt then counts as anchored', async () => {
    const { world, anchoring, receipt } = await anchoredWorld();
    await using _world = world;
    await using broker = await startBroker(world, anchoring);
    const path = newFile();
    const file = join(folder, 'anchored.json');
    writeFileSync(file, receiptText(receipt));
    await run(['trust', '--broker', broker.url, '--out', path]);
    const before = await run(['verify', file, '--trust', path]);
    expect(before.out).toContain('nobody in the trust file vouches for its block');
    const pinned = await run(['trust', '--broker', broker.url, '--out', path, '--pin', '--node', world.anvil.url]);
    expect(pinned.code).toBe(0);
    expect(pinned.out).toContain('because your node calls it final');
    const after = await run(['verify', file, '--trust', path]);
    expect([after.code, after.out]).toEqual([0, expect.stringContaining('6 anchor on a chain: ok')]);
    const again = await run([
      'trust',
      '--broker',
      broker.url,
      '--out',
      path,
      '--pin',
      '--node',
      world.anvil.url,
      '--one-sided',
      '--json',
    ]);
    expect(JSON.parse(again.out)).toMatchObject({ isNew: false, pinned: [], early: [], origin });
    expect(readTrust(path)).toMatchObject({ oneSided: true, chains: [{ blocks: [expect.any(String)] }] });
  });

  test('several nodes must all agree; one that differs, and nothing is pinned', async () => {
    const { world, anchoring } = await anchoredWorld();
    await using _world = world;
    await using broker = await startBroker(world, anchoring);
    const node = await startNodeInFront(world.anvil.url);
    await using _node = node;
    const path = newFile();
    const args = [
      'trust',
      '--broker',
      broker.url,
      '--out',
      path,
      '--pin',
      '--node',
      world.anvil.url,
      '--node',
      node.url,
    ];
    node.lie = ({ method, params }, result) =>
      method === 'eth_getBlockByNumber' && params[0] !== 'finalized' && typeof result === 'object' && result !== null
        ? { ...result, hash: `0x${'77'.repeat(32)}` }
        : result;
    const refused = await run(args);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('nothing is pinned');
    expect(existsSync(path)).toBe(false);
    node.lie = ({ method, params }, result) =>
      method === 'eth_getBlockByNumber' && params[0] === 'finalized' && typeof result === 'object' && result !== null
        ? { ...result, number: '0x1' }
        : result;
    const early = await run(args);
    expect([early.code, early.out]).toEqual([0, expect.stringContaining('not yet block')]);
    expect(readTrust(path).chains).toEqual([]);
    node.lie = ({ method }, result) => (method === 'eth_chainId' ? '0x1' : result);
    expect((await run(args)).err).toContain('the node is of chain 1, the anchors are on chain 31337');
    node.lie = undefined;
    expect((await run(args)).code).toBe(0);
    expect(readTrust(path).chains).toHaveLength(1);
  });

  test('a contract that this program does not know is not relied on', async () => {
    const { world, anchoring } = await anchoredWorld();
    await using _world = world;
    await using broker = await startBroker(world, anchoring);
    await world.anvil.rpc('anvil_setCode', `0x${'ee'.repeat(20)}`, `0x${'60'.repeat(3000)}`);
    for (const byte of ['dd', 'ee']) {
      broker.info = { ...broker.info, chain: { chainId: '31337', contract: `0x${byte.repeat(20)}` } };
      const args = ['trust', '--broker', broker.url, '--out', newFile(), '--pin', '--node', world.anvil.url];
      const { code, err } = await run(args);
      expect([code, err]).toEqual([1, expect.stringContaining('is not the anchor contract that this program knows')]);
    }
  });

  test('a broker that tells other things than its log is not believed', async () => {
    await using broker = await startBroker();
    const { info } = broker;
    const otherKey = buildVerifierKey(nodeCrypto, origin, ed25519FromByte(77).spki.subarray(12));
    const otherName = buildVerifierKey(nodeCrypto, 'other.example/log', keys.log.spki.subarray(12));
    const lies: readonly [string, Partial<BrokerInfo['log']>][] = [
      ['another origin or other keys', { registryKey: toBase64(p256FromByte(55).spki) }],
      ['the log itself has not signed', { vkey: otherKey, policy: `log ${otherKey}\nquorum none\n` }],
      ['two logs, or two keys for one', { vkey: otherKey }],
      ['two logs, or two keys for one', { vkey: otherName, policy: `log ${otherName}\nquorum none\n` }],
      [
        'the origin is not the name',
        { origin: 'other.example/log', vkey: otherName, policy: `log ${otherName}\nquorum none\n` },
      ],
      ['neither that of the genesis nor a later one', { policy: `${info.log.policy}# and a word\n` }],
      ['the policy of the log', { policy: 'quorum none\n' }],
      ['the key of the log', { vkey: 'nonsense' }],
      ['there is no checkpoint', { url: `${broker.url}/nowhere` }],
    ];
    for (const [reason, lie] of lies) {
      broker.info = { ...info, log: { ...info.log, ...lie } };
      const path = newFile();
      const { code, err } = await run(['trust', '--broker', broker.url, '--out', path]);
      expect([code, err], reason).toEqual([1, expect.stringContaining(reason)]);
      expect(existsSync(path)).toBe(false);
    }
    broker.info = JSON.parse('{"did":"did:web:broker.example"}');
    expect((await run(['trust', '--broker', broker.url, '--out', newFile()])).code).toBe(1);
  });

  test('a file that is there is extended: other logs stay, and a changed key is refused', async () => {
    await using broker = await startBroker();
    const path = newFile();
    const other = {
      vkey: buildVerifierKey(nodeCrypto, 'other.example/log', keys.log.spki.subarray(12)),
      registryKey: 'AA==',
      policy: 'x',
    };
    writeFileSync(
      path,
      JSON.stringify({
        chains: [],
        logs: [{ policy: 'x', registryKey: 'AA==', vkey: other.vkey }],
        type: 'trust',
        v: 1,
      }),
    );
    expect((await run(['trust', '--broker', broker.url, '--out', path])).code).toBe(0);
    expect(readTrust(path).logs).toHaveLength(2);
    const changed = readFileSync(path, 'utf8').replace(toBase64(logKeys.registryKey), toBase64(p256FromByte(55).spki));
    writeFileSync(path, changed);
    const refused = await run(['trust', '--broker', broker.url, '--out', path]);
    expect([refused.code, refused.err]).toEqual([1, expect.stringContaining('your file has other keys')]);
    expect(readFileSync(path, 'utf8')).toBe(changed);
    writeFileSync(path, 'something else');
    expect((await run(['trust', '--broker', broker.url, '--out', path])).code).toBe(2);
    expect(readFileSync(path, 'utf8')).toBe('something else');
  });

  test('what is wrong in the command is told, and nothing is asked in the clear over a network', async () => {
    await using broker = await startBroker();
    const out = newFile();
    const wrong: readonly [string, readonly string[]][] = [
      ['--broker is needed', ['--out', out]],
      ['--out is needed', ['--broker', broker.url]],
      ['plain HTTP is spoken only with this machine', ['--broker', 'http://broker.example', '--out', out]],
      ['plain HTTP is spoken only with this machine', ['--broker', 'ftp://localhost', '--out', out]],
      ['is no URL', ['--broker', 'broker', '--out', out]],
      ['--pin needs --node', ['--broker', broker.url, '--out', out, '--pin']],
      ['does not anchor', ['--broker', broker.url, '--out', out, '--pin', '--node', 'http://localhost:1']],
      ['takes options only', ['make', '--broker', broker.url, '--out', out]],
    ];
    for (const [reason, args] of wrong) {
      const { code, err } = await run(['trust', ...args]);
      expect([code, err], reason).toEqual([2, expect.stringContaining(reason)]);
    }
    const gone = await run(['trust', '--broker', 'http://localhost:1', '--out', out]);
    expect([gone.code, gone.err]).toEqual([1, expect.stringContaining('nothing usable answers at localhost:1')]);
    expect(existsSync(out)).toBe(false);
  });
});

describe('stekker anchor', () => {
  test('deploys the contract, registers a log, and shows its head; the key comes from the environment', async () => {
    await using world = await startAnchorWorld({ anvil: { chainId: 4_242 } });
    const env = { STEKKER_ANCHOR_KEY: anvilKeys[2] };
    const node = ['--node', world.anvil.url];
    const made = await world.mining(run(['anchor', 'deploy', ...node, '--chain-id', '4242', '--json'], env));
    expect(made.code, made.err).toBe(0);
    const { contract, admin, chainId } = JSON.parse(made.out);
    expect(chainId).toBe('4242');
    const log = ['--contract', contract, '--origin', 'broker.example/log/2027'];
    const owner = world.options.account.address;
    const registered = await world.mining(run(['anchor', 'register', ...node, ...log, '--owner', owner], env));
    expect([registered.code, registered.out]).toEqual([0, expect.stringContaining(`belongs to ${owner}`)]);
    const head = await run(['anchor', 'head', ...node, ...log, '--json']);
    expect(JSON.parse(head.out)).toMatchObject({ size: 0, closed: false, owner });
    const twice = await run(['anchor', 'register', ...node, ...log, '--owner', admin], env);
    expect([twice.code, twice.err]).toEqual([1, expect.stringContaining('AlreadyRegistered()')]);
  });

  test('what is wrong in the command is told', async () => {
    await using world = await startAnchorWorld();
    const env = { STEKKER_ANCHOR_KEY: anvilKeys[2] };
    const node = ['--node', world.anvil.url];
    const wrong: readonly [string, readonly string[], NodeJS.ProcessEnv?][] = [
      ['deploy, register or head is needed', []],
      ['deploy, register or head is needed', ['mint', ...node]],
      ['--node is needed', ['deploy']],
      ['STEKKER_ANCHOR_KEY', ['deploy', ...node], {}],
      ['is no private key', ['deploy', ...node], { STEKKER_ANCHOR_KEY: '0xmarked-secret' }],
      ['not of 1', ['deploy', ...node, '--chain-id', '1']],
      ['--contract is needed', ['register', ...node]],
      ['--contract is no address', ['register', ...node, '--contract', '0x1', '--origin', 'x']],
      ['--delay is no whole number', ['deploy', ...node, '--delay', 'soon']],
    ];
    for (const [reason, args, its] of wrong) {
      const { code, err } = await run(['anchor', ...args], its ?? env);
      expect([code, err], reason).toEqual([2, expect.stringContaining(reason)]);
      expect(err).not.toContain('marked-secret');
    }
    const nowhere = ['--contract', `0x${'dd'.repeat(20)}`, '--origin', 'x'];
    expect((await run(['anchor', 'head', ...node, ...nowhere])).err).toContain('there is no anchor contract');
  });
});
