import { describe, expect, test } from 'vitest';
import { evmChainHead, tileRootAt } from '../../broker/adapters/evm/connect.ts';
import { createEvmDriver } from '../../broker/anchoring/driver.ts';
import { createAnchoringRoutes } from '../../broker/anchoring/routes.ts';
import { Anchoring, type AnchoringOptions } from '../../broker/anchoring/service.ts';
import { verifyAnchor } from '../../contracts/anchor/proof.ts';
import { anchoredCheckpoint, finalAnchors } from '../../contracts/anchor/served.ts';
import { readNote } from '../../contracts/ledger/note.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { type Logger, silentLogger } from '../../kernel/log.ts';
import { type AnchorWorld, anchorRows, noteOf, rootHex, startAnchorWorld } from '../support/anchor-world.ts';
import { anvilKeys } from '../support/anvil.ts';
import { joinAll, logBench, published } from '../support/log-bench.ts';
import { startNodeInFront } from '../support/node-in-front.ts';

/** Anchoring as the broker runs it: fed by a log, with a chain that makes blocks by itself, goes away, and comes back. */

const optionsOf = (world: AnchorWorld, changes: Partial<AnchoringOptions> = {}): AnchoringOptions => ({
  ...world.options,
  intervalMs: 0,
  pollMs: 10,
  alarmMs: 60_000,
  ...changes,
});

/** Makes blocks until it is disposed. */
const keepMining = ({ anvil }: AnchorWorld): AsyncDisposable => {
  const stop = new AbortController();
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await anvil.mine();
      await systemClock.sleep(15, stop.signal);
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

const until = async (what: string, check: () => Promise<boolean>): Promise<void> => {
  for (let tries = 0; tries < 2_000; tries += 1) {
    if (await check()) return;
    await systemClock.sleep(10);
  }
  throw new Error(`never: ${what}`);
};

const isFinal = (world: Pick<AnchorWorld, 'store' | 'target'>, size: number) => async () =>
  (await world.store.find(world.target, size))?.state === 'final';

const sizesOf = async (anchoring: Anchoring): Promise<number[]> =>
  (await anchoring.finals({ limit: 100 })).map(({ size }) => size);

/** The machine's time, and as much more as a test says. */
const movedClock = () => {
  let more = 0;
  const clock: Clock = { now: () => systemClock.now() + more, sleep: systemClock.sleep };
  return {
    clock,
    move: (ms: number) => {
      more += ms;
    },
  };
};

const notingLogger = () => {
  const said: { level: string; message: string; fields: object }[] = [];
  const note = (level: string) => (fields: object, message: string) => void said.push({ level, message, fields });
  const log: Logger = { ...silentLogger, warn: note('warn'), error: note('error'), child: () => log };
  return { log, said };
};

describe('anchoring service', () => {
  test('anchors the newest checkpoint of those that came together, and the last one always', async () => {
    await using world = await startAnchorWorld();
    await using _mining = keepMining(world);
    const { clock, move } = movedClock();
    const anchoring = await Anchoring.start(optionsOf(world, { clock, intervalMs: 3_600_000 }));
    anchoring.feed(noteOf(5));
    await until('5 is final', isFinal(world, 5));
    for (const size of [6, 7, 8]) anchoring.feed(noteOf(size));
    anchoring.feed(noteOf(7)); // late and smaller: means nothing
    await systemClock.sleep(100);
    expect(await world.store.open(world.target)).toEqual([]);
    expect((await anchoring.status()).waitingSince).not.toBeNull();
    move(3_600_000);
    await until('8 is final', isFinal(world, 8));
    expect(await sizesOf(anchoring)).toEqual([8, 5]);
    expect(await anchoring.status()).toMatchObject({ waitingSince: null, reason: null, isStopped: false, open: [] });
    await anchoring.close();
  });

  test('a graceful stop loses nothing: what waits is queued and anchored after the next start', async () => {
    await using world = await startAnchorWorld();
    await using _mining = keepMining(world);
    const hour = { intervalMs: 3_600_000 };
    const first = await Anchoring.start(optionsOf(world, hour));
    first.feed(noteOf(5));
    await until('5 is taken', async () => (await world.store.find(world.target, 5)) !== undefined);
    first.feed(noteOf(9));
    await first.close();
    expect((await world.store.find(world.target, 9))?.state).toBe('queued');
    const second = await Anchoring.start(optionsOf(world, hour));
    second.feed(noteOf(9)); // the log feeds its newest checkpoint at each start
    await until('9 is final', isFinal(world, 9));
    await second.close();
    expect(await sizesOf(second)).toEqual([9, 5]);
  });

  test('no timer outlives a stop, so that the process ends with it', async () => {
    await using world = await startAnchorWorld();
    let waiting = 0;
    const sleep: Clock['sleep'] = async (ms, signal) => {
      waiting += 1;
      await systemClock.sleep(ms, signal);
      waiting -= 1;
    };
    const anchoring = await Anchoring.start(optionsOf(world, { clock: { now: systemClock.now, sleep } }));
    await until('it waits', async () => waiting > 0);
    await anchoring.close();
    await new Promise((resolve) => setImmediate(resolve));
    expect(waiting).toBe(0);
  });

  test('a larger checkpoint takes the place of one that was queued and never sent', async () => {
    await using world = await startAnchorWorld();
    const node = await startNodeInFront(world.anvil.url);
    await using _node = node;
    node.isDown = true;
    const anchoring = await Anchoring.start(optionsOf(world, await world.connect(node.url)));
    anchoring.feed(noteOf(5));
    await until('5 is queued', async () => (await world.store.find(world.target, 5)) !== undefined);
    anchoring.feed(noteOf(9));
    await until('9 is queued', async () => (await world.store.find(world.target, 9)) !== undefined);
    node.isDown = false;
    await using _mining = keepMining(world);
    await until('9 is final', isFinal(world, 9));
    await anchoring.close();
    expect(await sizesOf(anchoring)).toEqual([9]);
    expect((await world.store.find(world.target, 5))?.state).toBe('replaced');
  });

  test('a dead chain delays no start, no feed and no stop; it raises an alarm, once for each while', async () => {
    await using world = await startAnchorWorld();
    const node = await startNodeInFront(world.anvil.url);
    await using _node = node;
    node.isDown = true;
    const { log, said } = notingLogger();
    const { clock, move } = movedClock();
    const parts = await world.connect(node.url);
    const anchoring = await Anchoring.start(optionsOf(world, { ...parts, log, clock, alarmMs: 3_600_000 }));
    anchoring.feed(noteOf(5));
    await until('it was said', async () => said.length > 0);
    await systemClock.sleep(100);
    expect(said.map(({ level }) => level)).toEqual(['warn']); // one reason is one line, however often it is met
    move(3_600_000);
    await until('the alarm', async () => said.length > 1);
    await systemClock.sleep(100);
    expect(said.slice(1)).toMatchObject([{ level: 'error', message: 'no final anchor for too long' }]);
    expect(await anchoring.status()).toMatchObject({ newestFinal: null, open: [{ size: 5, state: 'queued' }] });
    expect((await anchoring.status()).reason).toContain('the node did not answer');
    await anchoring.close();
    node.isDown = false;
    await using _mining = keepMining(world);
    const next = await Anchoring.start(optionsOf(world, parts));
    await until('5 is final', isFinal(world, 5));
    await next.close();
  });

  test('a node that takes questions and never answers holds up no stop', async () => {
    await using world = await startAnchorWorld();
    const node = await startNodeInFront(world.anvil.url);
    await using _node = node;
    node.isSilent = true;
    const parts = await world.connect(node.url);
    const quick: Clock = { now: systemClock.now, sleep: (ms, signal) => systemClock.sleep(ms / 50, signal) };
    const anchoring = await Anchoring.start(optionsOf(world, { ...parts, clock: quick, intervalMs: 3_600_000 }));
    anchoring.feed(noteOf(5));
    await until('5 is queued', async () => (await world.store.find(world.target, 5)) !== undefined);
    anchoring.feed(noteOf(9));
    await anchoring.close();
    expect((await world.store.open(world.target)).map(({ size, state }) => [size, state])).toEqual([[9, 'queued']]);
    await parts[Symbol.asyncDispose]();
  });

  test('what waits grows no younger when a newer checkpoint takes its place, nor by a restart', async () => {
    await using world = await startAnchorWorld();
    const { clock, move } = movedClock();
    const parts = await world.connect('http://localhost:1');
    const options = optionsOf(world, { ...parts, clock, alarmMs: 3_600_000 });
    const first = await Anchoring.start(options);
    first.feed(noteOf(5));
    await until('5 is queued', async () => (await world.store.find(world.target, 5)) !== undefined);
    const { waitingSince } = await first.status();
    move(2_400_000);
    first.feed(noteOf(9));
    await until('9 took its place', async () => (await world.store.find(world.target, 5))?.state === 'replaced');
    expect(await first.status()).toMatchObject({ waitingSince, open: [{ size: 9 }] });
    expect(first.isLate).toBe(false);
    await first.close();
    const second = await Anchoring.start(options);
    move(2_400_000);
    await until('it is late', async () => second.isLate);
    expect((await second.status()).waitingSince).toBe(waitingSince);
    await second.close();
  });

  test('nothing that is secret stands in what is said of a node', async () => {
    await using world = await startAnchorWorld();
    const { log, said } = notingLogger();
    const parts = await world.connect('http://localhost:1/v3/marked-secret-of-a-node');
    const anchoring = await Anchoring.start(optionsOf(world, { ...parts, log }));
    anchoring.feed(noteOf(5));
    await until('it was said', async () => said.length > 0);
    const text = JSON.stringify(said, (_key, value: unknown) => (value instanceof Error ? messagesOf(value) : value));
    expect(text).toContain('did not answer');
    expect(text).not.toContain('marked-secret');
    expect(text).not.toContain(anvilKeys[1].slice(2));
    await anchoring.close();
  });

  test('what it stopped for is told, nothing more is taken, and what was on its way still ends', async () => {
    await using world = await startAnchorWorld();
    const anchoring = await Anchoring.start(optionsOf(world, { rootAt: async () => undefined }));
    anchoring.feed(noteOf(5));
    await until('5 is sent', async () => (await world.store.find(world.target, 5))?.state === 'submitted');
    await world.anvil.mine();
    await until('5 is mined', async () => (await world.store.find(world.target, 5))?.state === 'mined');
    const thief = { ...world.options, store: await anchorRows(), rootAt: async () => rootHex(5) };
    const stolen = createEvmDriver(thief);
    const id = await stolen.submit(noteOf(7, new Uint8Array(32).fill(1)));
    await stolen.poll(id);
    await world.anvil.mine();
    anchoring.feed(noteOf(9));
    await until('it stopped', async () => (await anchoring.status()).isStopped);
    expect((await anchoring.status()).reason).toBe('size 7 is anchored with a root that this log did not sign');
    await world.anvil.mine(3);
    await until('5 is final', isFinal(world, 5));
    anchoring.feed(noteOf(12));
    await systemClock.sleep(100);
    expect(await world.store.find(world.target, 12)).toBeUndefined();
    await anchoring.close();
  });

  test('what cannot be read is not anchored, and the feed never throws', async () => {
    await using world = await startAnchorWorld();
    const anchoring = await Anchoring.start(optionsOf(world));
    for (const note of ['', 'nonsense', noteOf(5).slice(0, 40)]) expect(() => anchoring.feed(note)).not.toThrow();
    await anchoring.close();
    expect(await world.store.open(world.target)).toEqual([]);
  });
});

const messagesOf = (error: Error): string =>
  `${error.message} ${error.cause instanceof Error ? messagesOf(error.cause) : ''}`;

describe('routes of anchors', () => {
  test('final anchors are listed, and the oldest that covers an entry comes with its proof', async () => {
    await using world = await startAnchorWorld();
    await using _mining = keepMining(world);
    const anchoring = await Anchoring.start(optionsOf(world));
    const app = createAnchoringRoutes({ base: '/log/2026', anchoring, log: silentLogger });
    const get = async (path: string) => await app.request(path);
    const early = await get('/log/2026/anchors/newest?covers=0');
    expect(early.status).toBe(404);
    expect(await early.json()).toMatchObject({
      type: 'urn:stekker:1:error:not-yet',
      detail: 'no final anchor covers it',
    });
    expect(await (await get('/log/2026/anchors')).json()).toEqual({ anchors: [] });
    for (const size of [5, 9]) {
      anchoring.feed(noteOf(size));
      await until(`${size} is final`, isFinal(world, size));
    }
    const list = async (path: string) => finalAnchors.parse(await (await get(path)).json()).anchors;
    const anchors = await list('/log/2026/anchors');
    const row = await world.store.find(world.target, 5);
    expect(anchors.map(({ size }) => size)).toEqual([9, 5]);
    expect(anchors[1]).toEqual({
      size: 5,
      root: rootHex(5),
      chainId: '31337',
      contract: world.target.contract,
      ...row?.place,
      time: expect.stringMatching(/^20\d\d-.*Z$/),
    });
    expect(await list('/log/2026/anchors?before=9')).toHaveLength(1);
    for (const [covers, size] of [
      [0, 5],
      [4, 5],
      [5, 9],
      [8, 9],
    ] as const) {
      const answer = await get(`/log/2026/anchors/newest?covers=${covers}`);
      const { checkpoint, anchor } = anchoredCheckpoint.parse(await answer.json());
      const note = readNote(checkpoint);
      expect(note.ok && note.value.checkpoint.size).toBe(size);
      const chains = [{ ...world.target, blocks: anchors.map(({ blockHash }) => blockHash) }];
      const tools = { keccak256, sha256: nodeCrypto.sha256 };
      const verdict = note.ok && verifyAnchor(tools, anchor, note.value.checkpoint, chains);
      expect(verdict).toMatchObject({ state: 'authenticated' });
    }
    expect((await get('/log/2026/anchors/newest?covers=9')).status).toBe(404);
    for (const bad of ['newest', 'newest?covers=-1', 'newest?covers=x', 'newest?covers=99999999999999999'])
      expect((await get(`/log/2026/anchors/${bad}`)).status, bad).toBe(400);
    expect((await get('/log/2026/anchors?before=x')).status).toBe(400);
    await anchoring.close();
  });
});

describe('a log and its chain', () => {
  test('every checkpoint the log publishes ends on the chain; a log that lost everything refuses to start', async () => {
    await using world = await startAnchorWorld();
    await using _mining = keepMining(world);
    const bench = logBench();
    const rootAt = tileRootAt(nodeCrypto, bench.options.files.read);
    const anchoring = await Anchoring.start(optionsOf(world, { rootAt }));
    const chain = evmChainHead({ chain: world.options.chain, log: silentLogger }, world.target);
    expect(await chain.head(world.target.origin)).toEqual({ state: 'none' });
    const feed = (note: string) => {
      bench.options.feed(note);
      anchoring.feed(note);
    };
    const ledger = await bench.start({ chain, feed });
    await published(bench, 1);
    await until('the genesis is final', isFinal(world, 1));
    await joinAll(ledger);
    await published(bench, 3);
    await ledger.close();
    await until('both parties are final', isFinal(world, 3));
    await anchoring.close();
    expect(await chain.head(world.target.origin)).toMatchObject({ state: 'anchored', size: 3 });
    const again = await bench.start({ chain });
    expect(again.size).toBe(3);
    await again.close();
    await expect(logBench().start({ chain })).rejects.toMatchObject({ code: 'backup-restored' });
  });

  test('a chain that cannot be asked, or another one, raises an alarm and stops no start', async () => {
    await using world = await startAnchorWorld();
    const node = await startNodeInFront(world.anvil.url);
    await using _node = node;
    const { log, said } = notingLogger();
    const { chain } = await world.connect(node.url);
    const port = evmChainHead({ chain, log }, world.target);
    node.isDown = true;
    expect(await port.head(world.target.origin)).toEqual({ state: 'unreachable' });
    node.isDown = false;
    await world.anvil.rpc('anvil_setChainId', 5);
    expect(await port.head(world.target.origin)).toEqual({ state: 'unreachable' });
    expect(said.map(({ message }) => message)).toEqual(['the chain cannot be asked', 'the node is of another chain']);
    const ledger = await logBench().start({ chain: port });
    await ledger.close();
  });
});
