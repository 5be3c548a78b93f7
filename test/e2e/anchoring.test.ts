import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createEvmDriver } from '../../broker/anchoring/driver.ts';
import type { AnchorDriver, ChainAccount } from '../../broker/anchoring/ports.ts';
import { anchoredTopic } from '../../contracts/anchor/proof.ts';
import { manualClock } from '../../kernel/clock.ts';
import { type AnchorWorld, anchorRows, gwei, noteOf, rootHex, startAnchorWorld } from '../support/anchor-world.ts';
import { anvilKeys } from '../support/anvil.ts';
import { startNodeInFront } from '../support/node-in-front.ts';

/** The driver on a real chain: re-orgs, lost and repeated messages, several drivers, fees, and an operator's mistakes. */

const rowAt = async ({ store, target }: Pick<AnchorWorld, 'store' | 'target'>, size: number) =>
  await store.find(target, size);

/** Looks and mines until the driver says that it is final. */
const untilFinal = async (world: AnchorWorld, driver: AnchorDriver, id: string): Promise<void> => {
  for (let n = 0; n < 20; n += 1) {
    if ((await driver.poll(id)) === 'final') return;
    await world.anvil.mine();
  }
  throw new Error(`not final: ${JSON.stringify(world.waits)}`);
};

const logs = z.array(z.object({ topics: z.array(z.string()), blockNumber: z.string(), transactionHash: z.string() }));

/** The sizes of all anchors in the chain as it is now, in order. */
const anchorsOf = async ({ anvil, target }: AnchorWorld): Promise<number[]> => {
  const filter = { address: target.contract, topics: [anchoredTopic], fromBlock: '0x0', toBlock: 'latest' };
  return logs.parse(await anvil.rpc('eth_getLogs', filter)).map(({ topics }) => Number(topics[2]));
};

const sentBy = async (world: AnchorWorld, address = world.options.account.address): Promise<number> =>
  Number(await world.anvil.rpc('eth_getTransactionCount', address, 'latest'));

describe('re-orgs', () => {
  test.each([
    [1, 'mined'],
    [2, 'mined'],
    [3, 'mined'],
    [4, 'mined'],
    [5, 'mined'],
    [2, 'safe'],
    [3, 'safe'],
    [4, 'safe'],
    [5, 'safe'],
  ])('of depth %i, seen as %s before: the same call is sent again, once', async (depth, seen) => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    const confirmations = seen === 'mined' ? 1 : 2;
    await world.anvil.mine(confirmations);
    expect(await driver.poll(id)).toBe('pending');
    expect(await rowAt(world, 5)).toMatchObject({ state: seen });
    const first = (await rowAt(world, 5))?.place?.blockHash;
    await world.anvil.mine(depth - confirmations);
    await world.anvil.rpc('anvil_reorg', depth, []);
    expect(await anchorsOf(world)).toEqual([]);
    expect(await driver.poll(id)).toBe('pending');
    expect(await rowAt(world, 5)).toMatchObject({ state: 'submitted', place: null, evidence: null });
    await untilFinal(world, driver, id);
    expect(await anchorsOf(world)).toEqual([5]);
    const row = await rowAt(world, 5);
    expect(row?.attempts).toHaveLength(1);
    expect(row?.place?.blockHash).not.toBe(first);
  });

  test.each([1, 2, 3, 4])('of depth %i behind the anchor change nothing', async (depth) => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    await world.anvil.mine(depth + 1);
    await world.anvil.rpc('anvil_reorg', depth, []);
    await untilFinal(world, driver, id);
    expect(await anchorsOf(world)).toEqual([5]);
  });

  test('two anchors that vanish together come back in their order', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const ids = [];
    for (const size of [5, 9]) {
      const id = await driver.submit(noteOf(size));
      ids.push(id);
      await driver.poll(id);
      await world.anvil.mine();
      await driver.poll(id);
    }
    expect((await world.store.open(world.target)).map(({ state }) => state)).toEqual(['mined', 'mined']);
    await world.anvil.rpc('anvil_reorg', 2, []);
    for (const id of ids) await driver.poll(id);
    for (const id of ids) await untilFinal(world, driver, id);
    expect(await anchorsOf(world)).toEqual([5, 9]);
    expect((await rowAt(world, 9))?.call).toMatchObject({ nonce: 1, previousRoot: rootHex(5) });
  });

  test('a chain that goes back behind the sending is sent to again', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const before = await world.anvil.rpc('evm_snapshot');
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    await world.anvil.mine();
    await driver.poll(id);
    await world.anvil.rpc('evm_revert', String(before));
    await driver.poll(id);
    await untilFinal(world, driver, id);
    expect(await anchorsOf(world)).toEqual([5]);
  });

  test('an anchor that was final and is gone stops everything that comes behind it', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const before = await world.anvil.rpc('evm_snapshot');
    await untilFinal(world, driver, await driver.submit(noteOf(5)));
    await world.anvil.rpc('evm_revert', String(before));
    const next = await driver.submit(noteOf(9));
    expect(await driver.poll(next)).toBe('pending');
    expect(world.waits.at(-1)).toContain('the node is behind block');
    await world.anvil.mine(20);
    expect(await driver.poll(next)).toBe('refused');
    expect((await rowAt(world, 9))?.reason).toBe('the chain no longer has what was final: size 5');
    expect(await anchorsOf(world)).toEqual([]);
  });
});

describe('lost and repeated messages', () => {
  test('a node that is gone changes nothing, and is asked again', async () => {
    await using world = await startAnchorWorld();
    const node = await startNodeInFront(world.anvil.url);
    await using _node = node;
    const driver = createEvmDriver({ ...world.options, ...(await world.connect(node.url)) });
    node.isDown = true;
    const id = await driver.submit(noteOf(5));
    await expect(driver.poll(id)).rejects.toMatchObject({ code: 'fetch-failed' });
    expect((await rowAt(world, 5))?.state).toBe('queued');
    node.isDown = false;
    await driver.poll(id);
    await world.anvil.mine();
    await driver.poll(id);
    node.isDown = true;
    await expect(driver.poll(id)).rejects.toMatchObject({ code: 'fetch-failed' });
    expect((await rowAt(world, 5))?.state).toBe('mined');
    node.isDown = false;
    await untilFinal(world, driver, id);
    expect(await anchorsOf(world)).toEqual([5]);
  });

  test.each(['before', 'after'])(
    'a process that is killed %s its transaction left sends the same one',
    async (when) => {
      await using world = await startAnchorWorld();
      const { account } = world.options;
      const killed: ChainAccount = {
        ...account,
        send: async (raw) => {
          if (when === 'after') await account.send(raw);
          throw new Error('killed');
        },
      };
      const id = await createEvmDriver(world.options).submit(noteOf(5));
      await expect(createEvmDriver({ ...world.options, account: killed }).poll(id)).rejects.toThrow('killed');
      const stored = await rowAt(world, 5);
      expect(stored).toMatchObject({ state: 'submitted', call: { nonce: 0 } });
      const next = createEvmDriver(world.options);
      await next.poll(id);
      await untilFinal(world, next, id);
      expect(await sentBy(world)).toBe(1);
      expect((await rowAt(world, 5))?.place?.transaction).toBe(stored?.attempts[0]?.hash);
    },
  );

  test('a checkpoint that is submitted twice is one anchor', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const ids = await Promise.all(Array.from({ length: 20 }, () => driver.submit(noteOf(5))));
    expect(new Set(ids).size).toBe(1);
    await Promise.all(ids.map((id) => driver.poll(id)));
    await untilFinal(world, driver, ids[0] ?? '');
    expect(await driver.submit(noteOf(5))).toBe(ids[0]);
    expect([await anchorsOf(world), await sentBy(world)]).toEqual([[5], 1]);
  });

  test('rows that were lost are found again on the chain, and nothing is paid twice', async () => {
    await using world = await startAnchorWorld();
    const first = createEvmDriver(world.options);
    await untilFinal(world, first, await first.submit(noteOf(5)));
    const store = await anchorRows();
    const second = createEvmDriver({ ...world.options, store });
    const id = await second.submit(noteOf(5));
    expect(await second.poll(id)).toBe('final');
    expect(await second.proof(id)).toEqual(await first.proof(id));
    expect(await sentBy(world)).toBe(1);
  });

  test('what is no signed checkpoint of this log is not taken', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const forged = noteOf(5).replace('\n5\n', '\n6\n');
    for (const note of [forged, '', noteOf(0)])
      await expect(driver.submit(note)).rejects.toMatchObject({ code: 'invariant-broken' });
    await driver.submit(noteOf(5));
    const other = noteOf(5, new Uint8Array(32).fill(1));
    await expect(driver.submit(other)).rejects.toMatchObject({ code: 'invariant-broken' });
    expect(await driver.poll('evm:31337:0x00:5')).toBe('unknown');
    expect(await driver.poll('another')).toBe('unknown');
    expect(await driver.proof('another')).toBeUndefined();
  });
});

describe('two drivers with one key', () => {
  test.each(['their own rows', 'the same rows'])('with %s: each size stands once, and both end', async (rows) => {
    await using world = await startAnchorWorld();
    const drivers = [
      createEvmDriver(world.options),
      createEvmDriver({ ...world.options, store: rows === 'the same rows' ? world.store : await anchorRows() }),
    ];
    for (const size of [5, 9, 12]) {
      const ids = await Promise.all(drivers.map((driver) => driver.submit(noteOf(size))));
      for (let n = 0; n < 12; n += 1) {
        await Promise.all(drivers.map((driver, at) => driver.poll(ids[at] ?? '')));
        await world.anvil.mine();
      }
      for (const [at, driver] of drivers.entries()) expect(await driver.poll(ids[at] ?? ''), `${size}`).toBe('final');
    }
    expect(await anchorsOf(world)).toEqual([5, 9, 12]);
  });

  test('one whose nonce was taken goes on from the root that the other anchored', async () => {
    await using world = await startAnchorWorld();
    const slow = createEvmDriver(world.options);
    const id = await slow.submit(noteOf(9));
    await slow.poll(id); // signed with nonce 0, and in the pool
    const quick = createEvmDriver({ ...world.options, store: await anchorRows(), leastTip: 3n * gwei });
    const other = await quick.submit(noteOf(5));
    await quick.poll(other); // replaces it there
    await world.anvil.mine();
    await slow.poll(id);
    expect(await rowAt(world, 9)).toMatchObject({ state: 'queued', call: null });
    await slow.poll(id);
    expect(await rowAt(world, 9)).toMatchObject({ state: 'submitted', call: { nonce: 1, previousRoot: rootHex(5) } });
    await untilFinal(world, slow, id);
    expect(await anchorsOf(world)).toEqual([5, 9]);
  });

  test('one whose call fails because the other was first counts the other', async () => {
    await using world = await startAnchorWorld();
    const { account } = world.options;
    const late: ChainAccount = { ...account, nonce: async () => Math.max(1, await account.nonce()) };
    const drivers = [
      createEvmDriver(world.options),
      createEvmDriver({ ...world.options, account: late, store: await anchorRows() }),
    ];
    const ids = await Promise.all(drivers.map((driver) => driver.submit(noteOf(5))));
    for (const [at, driver] of drivers.entries()) await driver.poll(ids[at] ?? '');
    await world.anvil.mine();
    expect(await sentBy(world)).toBe(2);
    for (const [at, driver] of drivers.entries()) await untilFinal(world, driver, ids[at] ?? '');
    expect(await anchorsOf(world)).toEqual([5]);
  });

  test('a smaller checkpoint that came too late is replaced by the larger one', async () => {
    await using world = await startAnchorWorld();
    const quick = createEvmDriver({ ...world.options, store: await anchorRows() });
    await untilFinal(world, quick, await quick.submit(noteOf(9)));
    const slow = createEvmDriver(world.options);
    const id = await slow.submit(noteOf(5));
    expect(await slow.poll(id)).toBe('final');
    expect(await rowAt(world, 5)).toMatchObject({ state: 'replaced', reason: 'size 9 is anchored', evidence: null });
    expect(await slow.proof(id)).toBeUndefined();
  });
});

describe('fees', () => {
  const spike = (world: AnchorWorld, wei: bigint) =>
    world.anvil.rpc('anvil_setNextBlockBaseFeePerGas', `0x${wei.toString(16)}`);

  test('above the ceiling nothing is sent; it waits, and says so', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    await spike(world, 200n * gwei);
    await world.anvil.mine();
    const id = await driver.submit(noteOf(5));
    expect(await driver.poll(id)).toBe('pending');
    expect(world.waits).toEqual(['the fee of the chain is above the ceiling']);
    expect(await rowAt(world, 5)).toMatchObject({ state: 'queued', call: null });
    await spike(world, gwei);
    await world.anvil.mine();
    await driver.poll(id);
    await untilFinal(world, driver, id);
  });

  test('a stuck transaction gets a higher fee under the same nonce, never a second nonce', async () => {
    await using world = await startAnchorWorld();
    const clock = manualClock(1_795_000_000_000);
    const driver = createEvmDriver({ ...world.options, clock });
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    const [first] = (await rowAt(world, 5))?.attempts ?? [];
    await spike(world, 10n * gwei);
    await world.anvil.mine();
    await driver.poll(id);
    expect((await rowAt(world, 5))?.attempts).toHaveLength(1);
    clock.advance(60_000);
    await driver.poll(id);
    const row = await rowAt(world, 5);
    expect(row).toMatchObject({ state: 'submitted', call: { nonce: 0 } });
    expect(row?.attempts).toHaveLength(2);
    expect(BigInt(row?.attempts[1]?.maxFee ?? '0')).toBeGreaterThan((BigInt(first?.maxFee ?? '0') * 11n) / 10n);
    await untilFinal(world, driver, id);
    expect([await anchorsOf(world), await sentBy(world)]).toEqual([[5], 1]);
  });

  test('the first of two attempts may still be the one that is mined', async () => {
    await using world = await startAnchorWorld();
    const clock = manualClock(1_795_000_000_000);
    const { account } = world.options;
    const sent: string[] = [];
    const lossy: ChainAccount = {
      ...account,
      send: async (raw) => {
        sent.push(raw);
        return sent.length === 1 ? await account.send(raw) : undefined; // the second never arrives
      },
    };
    const driver = createEvmDriver({ ...world.options, clock, account: lossy });
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    clock.advance(60_000);
    await driver.poll(id);
    await untilFinal(world, driver, id);
    const row = await rowAt(world, 5);
    expect(row?.attempts).toHaveLength(2);
    expect(row?.place?.transaction).toBe(row?.attempts[0]?.hash);
  });

  test('the ceiling also holds for a stuck transaction', async () => {
    await using world = await startAnchorWorld();
    const clock = manualClock(1_795_000_000_000);
    const driver = createEvmDriver({ ...world.options, clock });
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    await spike(world, 200n * gwei);
    await world.anvil.mine();
    clock.advance(60_000);
    await driver.poll(id);
    expect((await rowAt(world, 5))?.attempts).toHaveLength(1);
    expect(world.waits).toContain('the fee of nonce 0 cannot be raised below the ceiling');
    await spike(world, gwei / 2n);
    await world.anvil.mine();
    await untilFinal(world, driver, id);
  });

  test('an account without money waits', async () => {
    await using world = await startAnchorWorld();
    await world.anvil.rpc('anvil_setBalance', world.options.account.address, '0x0');
    const driver = createEvmDriver(world.options);
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    expect(world.waits.at(-1)).toMatch(/fund/i);
    await world.anvil.rpc('anvil_setBalance', world.options.account.address, '0xde0b6b3a7640000');
    await driver.poll(id);
    await untilFinal(world, driver, id);
  });
});

describe('what only an operator can mend', () => {
  test('a log that is not registered yet waits', async () => {
    await using world = await startAnchorWorld({ isRegistered: false });
    const driver = createEvmDriver(world.options);
    const id = await driver.submit(noteOf(5));
    expect(await driver.poll(id)).toBe('pending');
    expect(world.waits).toEqual(['the log belongs to nobody: it is not registered']);
    expect(await sentBy(world)).toBe(0);
  });

  test('a log of another owner waits', async () => {
    await using world = await startAnchorWorld();
    const parts = await world.connect(world.anvil.url, anvilKeys[2]);
    const driver = createEvmDriver({ ...world.options, ...parts });
    expect(await driver.poll(await driver.submit(noteOf(5)))).toBe('pending');
    expect(world.waits).toEqual([`the log belongs to ${world.options.account.address}`]);
  });

  test('a key that was changed sends nothing under the nonce of the old one, and takes what was not sent', async () => {
    await using world = await startAnchorWorld();
    const other = await world.connect(world.anvil.url, anvilKeys[2]);
    const before = createEvmDriver({ ...world.options, ...other });
    const id = await before.submit(noteOf(5));
    const driver = createEvmDriver(world.options);
    await driver.poll(id);
    expect(await rowAt(world, 5)).toMatchObject({ state: 'submitted', sender: world.options.account.address });
    await world.anvil.rpc('anvil_dropAllTransactions');
    expect(await before.poll(id)).toBe('pending');
    expect(world.waits.at(-1)).toContain('and this key is another');
    await world.anvil.mine();
    expect(await anchorsOf(world)).toEqual([]);
    await driver.poll(id);
    await untilFinal(world, driver, id);
  });

  test('a paused contract waits, and goes on', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const { account } = world.operator;
    const call = async (data: string) => {
      await world.anvil.rpc('eth_sendTransaction', { from: account.address, to: world.target.contract, data });
      await world.anvil.mine();
    };
    await call('0x8456cb59'); // pause()
    const id = await driver.submit(noteOf(5));
    expect(await driver.poll(id)).toBe('pending');
    expect(world.waits).toEqual(['the contract would not take it: EnforcedPause()']);
    await call('0x3f4ba83a'); // unpause()
    await driver.poll(id);
    await untilFinal(world, driver, id);
  });

  test('a root under our name that this log did not sign stops the driver', async () => {
    await using world = await startAnchorWorld();
    const thief = createEvmDriver({ ...world.options, store: await anchorRows(), rootAt: async () => undefined });
    const stolen = noteOf(4, new Uint8Array(32).fill(1));
    await untilFinal(world, thief, await thief.submit(stolen));
    const driver = createEvmDriver(world.options);
    const id = await driver.submit(noteOf(5));
    expect(await driver.poll(id)).toBe('refused');
    expect((await rowAt(world, 5))?.reason).toBe('size 4 is anchored with a root that this log did not sign');
    expect(await driver.poll(id)).toBe('refused');
    expect(await sentBy(world)).toBe(1);
  });

  test('another root for the same size stops the driver', async () => {
    await using world = await startAnchorWorld();
    const thief = createEvmDriver({ ...world.options, store: await anchorRows(), rootAt: async () => undefined });
    await untilFinal(world, thief, await thief.submit(noteOf(5, new Uint8Array(32).fill(1))));
    const driver = createEvmDriver(world.options);
    expect(await driver.poll(await driver.submit(noteOf(5)))).toBe('refused');
  });

  test('a closed log stops the driver', async () => {
    await using world = await startAnchorWorld();
    const { account } = world.options;
    const logId = createHash('sha256').update(world.target.origin).digest('hex');
    const data = `0x39c79e0c${logId}`;
    await world.anvil.rpc('eth_sendTransaction', { from: account.address, to: world.target.contract, data });
    await world.anvil.mine();
    const driver = createEvmDriver(world.options);
    const id = await driver.submit(noteOf(5));
    expect(await driver.poll(id)).toBe('refused');
    expect((await rowAt(world, 5))?.reason).toBe('the log is closed at the contract');
  });

  test('a node of another chain is not sent anything', async () => {
    await using world = await startAnchorWorld();
    const node = await startNodeInFront(world.anvil.url);
    await using _node = node;
    const driver = createEvmDriver({ ...world.options, ...(await world.connect(node.url)) });
    const id = await driver.submit(noteOf(5));
    await world.anvil.rpc('anvil_setChainId', 5);
    await expect(driver.poll(id)).rejects.toMatchObject({ message: 'the node is of chain 5, not of 31337' });
    expect(node.asked).not.toContain('eth_sendRawTransaction');
    expect((await rowAt(world, 5))?.state).toBe('queued');
    await world.anvil.rpc('anvil_setChainId', 31_337);
    await driver.poll(id);
    await world.anvil.rpc('anvil_setChainId', 5);
    await expect(driver.poll(id)).rejects.toMatchObject({ code: 'fetch-failed' });
    expect((await rowAt(world, 5))?.state).toBe('submitted');
  });

  test('an address without the contract is told, and nothing is sent', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver({ ...world.options, ...(await world.connect()), target: world.target });
    await world.anvil.rpc('anvil_setCode', world.target.contract, '0x');
    await expect(driver.poll(await driver.submit(noteOf(5)))).rejects.toMatchObject({
      message: 'there is no anchor contract at this address of the chain',
    });
    expect(await sentBy(world)).toBe(0);
  });

  test('gas: what an anchor costs does not grow', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const used: number[] = [];
    for (const size of [5, 9, 70_000]) {
      const id = await driver.submit(noteOf(size));
      await untilFinal(world, driver, id);
      const receipt = await world.anvil.rpc(
        'eth_getTransactionReceipt',
        (await rowAt(world, size))?.place?.transaction ?? '',
      );
      used.push(Number(z.object({ gasUsed: z.string() }).parse(receipt).gasUsed));
    }
    console.log(
      `gas: deploy ${world.deployed.gasUsed}, register ${world.registered.gasUsed}, anchors ${used.join(' ')}`,
    );
    expect(used[0]).toBeLessThan(75_000);
    expect(Math.max(...used.slice(1))).toBeLessThan(41_000);
    expect(world.deployed.gasUsed).toBeLessThan(1_700_000);
  });
});
