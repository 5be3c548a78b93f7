import { verifyMerkleProof } from '@ethereumjs/mpt';
import { RLP } from '@ethereumjs/rlp';
import { describe, expect, test } from 'vitest';
import { createEvmChain } from '../../broker/adapters/evm/chain.ts';
import { createEvmDriver } from '../../broker/anchoring/driver.ts';
import { anchoredTopic } from '../../contracts/anchor/proof.ts';
import { fromBase64, orNothing, toHex } from '../../contracts/bytes.ts';
import { isJsonObject, type Json } from '../../contracts/json.ts';
import { evmAnchor } from '../../contracts/ledger/receipt.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { type AnchorWorld, noteOf, startAnchorWorld } from '../support/anchor-world.ts';
import { startNodeInFront } from '../support/node-in-front.ts';

/** What counts as an anchor: only a block that is final, stands at its height, and holds the proof. */

const stateOf = async ({ store, target }: AnchorWorld, size: number) => (await store.find(target, size))?.state;

/** A driver that asks a node in front of the chain, which may lie. */
const behindAnother = async (
  world: AnchorWorld,
  changes: { readonly second?: AnchorWorld['options']['chain'] } = {},
) => {
  const node = await startNodeInFront(world.anvil.url);
  const { chain, account } = await world.connect(node.url);
  return { node, driver: createEvmDriver({ ...world.options, chain, account, ...changes }) };
};

describe('evidence of an anchor', () => {
  test('mined and safe are pending; final is only what the chain calls final', async () => {
    await using world = await startAnchorWorld();
    const driver = createEvmDriver(world.options);
    const id = await driver.submit(noteOf(5));
    const seen: (string | undefined)[] = [await stateOf(world, 5)];
    for (let n = 0; n < 4; n += 1) {
      const said = await driver.poll(id);
      const state = await stateOf(world, 5);
      expect(said).toBe(state === 'final' ? 'final' : 'pending');
      expect(await driver.proof(id), `${state}`).toEqual(state === 'final' ? expect.any(Uint8Array) : undefined);
      seen.push(state);
      await world.anvil.mine();
    }
    expect(seen).toEqual(['queued', 'submitted', 'mined', 'safe', 'final']);
  });

  test('the proof verifies offline for the reader who trusts the block, and by an independent implementation', async () => {
    await using world = await startAnchorWorld();
    const { anvil, store, target } = world;
    const driver = createEvmDriver(world.options);
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    for (let n = 0; n < 40; n += 1) await anvil.rpc('eth_sendTransaction', transfer(n)); // others in the same block
    await anvil.mine(3);
    expect(await driver.poll(id)).toBe('final');
    const proof = orNothing(await driver.proof(id));
    const row = await store.find(target, 5);
    const block = row?.place?.blockHash ?? '';
    const chains = [{ chainId: target.chainId, contract: target.contract, blocks: [block] }];
    expect(driver.verify(proof, noteOf(5), chains).state).toBe('authenticated');
    expect(driver.verify(proof, noteOf(5), []).state).toBe('consistent');
    expect(driver.verify(proof, noteOf(6), chains).state).toBe('failed');
    const anchor = evmAnchor.parse(JSON.parse(Buffer.from(proof).toString()));
    const header = orNothing(fromBase64(anchor.header));
    expect(`0x${toHex(keccak256(header))}`).toBe(block);
    const fields = RLP.decode(header);
    expect(fields).toHaveLength(21);
    const nodes = anchor.nodes.map((node) => orNothing(fromBase64(node)));
    expect(nodes.length).toBeGreaterThan(1);
    const receipt = await verifyMerkleProof(orNothing(fromBase64(anchor.key)), nodes, { useKeyHashing: false });
    const root = Array.isArray(fields) && fields[5] instanceof Uint8Array ? fields[5] : new Uint8Array(0);
    expect(toHex(keccak256(orNothing(nodes[0])))).toBe(toHex(root));
    expect(Buffer.from(receipt ?? []).toString('hex')).toContain(anchoredTopic.slice(2));
  });

  test('an event whose block is not the one at its height does not count', async () => {
    await using world = await startAnchorWorld();
    const { node, driver } = await behindAnother(world);
    await using _node = node;
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    await world.anvil.mine(4);
    const height = Number(await world.anvil.rpc('eth_blockNumber')) - 3;
    node.lie = ({ method, params }, result) =>
      method === 'eth_getBlockByNumber' && params[0] === `0x${height.toString(16)}` && isJsonObject(result)
        ? { ...result, hash: `0x${'77'.repeat(32)}` }
        : result;
    expect(await driver.poll(id)).toBe('pending');
    expect(await stateOf(world, 5)).toBe('submitted');
    node.lie = undefined;
    expect(await driver.poll(id)).toBe('final');
  });

  test.each<[string, (result: Json) => Json]>([
    [
      'another event in the receipts',
      (result) => JSON.parse(JSON.stringify(result).replace(/"data":"0x0/, '"data":"0x1')),
    ],
    ['a receipt less', (result) => (Array.isArray(result) ? result.slice(1) : result)],
    ['no receipts', () => []],
    ['none that can be read', () => null],
  ])('a node that lies about the receipts of a block gives no proof, and nothing is stored: %s', async (_what, lie) => {
    await using world = await startAnchorWorld();
    const { node, driver } = await behindAnother(world);
    await using _node = node;
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    await world.anvil.rpc('eth_sendTransaction', transfer(1));
    await world.anvil.mine(4);
    node.lie = ({ method }, result) => (method === 'eth_getBlockReceipts' ? lie(result) : result);
    expect(await driver.poll(id)).toBe('pending');
    expect(await world.store.find(world.target, 5)).toMatchObject({ state: 'safe', evidence: null });
    expect(world.waits.join()).toContain('no proof can be made of block');
    node.lie = undefined;
    expect(await driver.poll(id)).toBe('final');
  });

  test('a receipt that the node invents is not believed', async () => {
    await using world = await startAnchorWorld();
    const { node, driver } = await behindAnother(world);
    await using _node = node;
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    await world.anvil.mine(4);
    const real = (await world.store.find(world.target, 5))?.attempts[0]?.hash ?? '';
    const receipt = await world.anvil.rpc('eth_getTransactionReceipt', real);
    await world.anvil.rpc('anvil_reorg', 4, []);
    node.lie = ({ method, params }, result) =>
      method === 'eth_getTransactionReceipt' && params[0] === real ? JSON.parse(JSON.stringify(receipt)) : result;
    for (let n = 0; n < 5; n += 1) {
      expect(await driver.poll(id)).toBe('pending');
      await world.anvil.mine();
    }
    node.lie = undefined;
    await driver.poll(id);
    await world.anvil.mine(3);
    expect(await driver.poll(id)).toBe('final');
  });

  test('a node without all receipts of a block at once is asked for them one by one', async () => {
    await using world = await startAnchorWorld();
    const { account } = await world.connect();
    const rpc = world.operator.rpc;
    const chain = await createEvmChain({
      contract: world.target.contract,
      rpc: async (method, params, schema) =>
        method === 'eth_getBlockReceipts'
          ? { ok: false, code: -32_601, message: 'no such method', data: undefined }
          : await rpc(method, params, schema),
    });
    const driver = createEvmDriver({ ...world.options, chain, account });
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    await world.anvil.rpc('eth_sendTransaction', transfer(1));
    await world.anvil.mine(3);
    expect(await driver.poll(id)).toBe('final');
  });

  test('a second node that does not see the block as final holds it back', async () => {
    await using world = await startAnchorWorld();
    const second = await startNodeInFront(world.anvil.url);
    await using _second = second;
    const { chain } = await world.connect(second.url);
    const { node, driver } = await behindAnother(world, { second: chain });
    await using _node = node;
    node.lie = ({ method, params }, result) =>
      method === 'eth_getBlockByNumber' && params[0] === 'finalized' && isJsonObject(result)
        ? { ...result, number: '0xffff' }
        : result;
    const id = await driver.submit(noteOf(5));
    await driver.poll(id);
    await world.anvil.mine();
    expect(await driver.poll(id)).toBe('pending');
    expect(world.waits.at(-1)).toContain('the second node does not see block');
    await world.anvil.mine(2);
    second.isDown = true;
    expect(await driver.poll(id)).toBe('pending');
    expect(world.waits.at(-1)).toContain('the second node cannot be asked');
    second.isDown = false;
    expect(await driver.poll(id)).toBe('final');
  });
});

function transfer(n: number): { [key: string]: string } {
  return {
    from: '0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266',
    to: `0x${(n + 1).toString(16).padStart(40, '0')}`,
    value: '0x1',
    gas: '0x5208',
  };
}
