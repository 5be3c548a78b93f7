import { createMerkleProof, createMPT } from '@ethereumjs/mpt';
import { RLP } from '@ethereumjs/rlp';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { sameBytes, toHex, u16 } from '../bytes.ts';
import type { Checkpoint } from '../ledger/note.ts';
import { type ChainBlock, type ChainReceipt, chainBlock, makeAnchorProof } from './make-proof.ts';
import { anchoredTopics } from './proof.ts';
import { encodeRlp, type Rlp } from './rlp.ts';
import { buildTrie, receiptKey } from './trie.ts';

/** An independent implementation is the judge of what we encode, build and prove. */

const tools = { keccak256, sha256: nodeCrypto.sha256 };
const checkpoint: Checkpoint = { origin: 'broker.example/log/2026', size: 70_000, root: new Uint8Array(32).fill(7) };
const contract = `0x${'ab'.repeat(20)}`;
const hex = (bytes: Uint8Array) => `0x${toHex(bytes)}`;

describe('RLP encoding', () => {
  const item: fc.Arbitrary<Rlp> = fc.letrec<{ item: Rlp; list: Rlp; bytes: Rlp }>((tie) => ({
    item: fc.oneof({ maxDepth: 4 }, tie('bytes'), tie('list')),
    list: fc.array(tie('item'), { maxLength: 6 }),
    bytes: fc.oneof(fc.uint8Array({ maxLength: 80 }), fc.uint8Array({ minLength: 250, maxLength: 70_000 })),
  })).item;

  test('writes what an independent encoder writes', () => {
    fc.assert(
      fc.property(item, (value) => {
        expect(sameBytes(encodeRlp(value), RLP.encode(value as Parameters<typeof RLP.encode>[0]))).toBe(true);
      }),
    );
  });
});

describe('trie of receipts', () => {
  test('root and every path are those of an independent implementation', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 60 }), { minLength: 1, maxLength: 300 }),
        fc.nat(),
        async (values, which) => {
          const judge = await createMPT({ useKeyHashing: false });
          for (const [index, value] of values.entries()) await judge.put(RLP.encode(index), value);
          const trie = buildTrie(tools, values);
          expect(hex(trie.root)).toBe(hex(judge.root()));
          const key = receiptKey(which % values.length);
          const path = await createMerkleProof(judge, key); // it also lists nodes that stand in their parent
          expect(trie.pathTo(key).map(hex)).toEqual(path.filter((node, at) => at === 0 || node.length >= 32).map(hex));
        },
      ),
      { numRuns: 60 },
    );
  });

  test('of nothing it is the empty trie', async () => {
    expect(hex(buildTrie(tools, []).root)).toBe(hex((await createMPT()).EMPTY_TRIE_ROOT));
  });
});

const quantity = (value: number) => `0x${value.toString(16)}`;
const transactionOf = (index: number) => hex(nodeCrypto.sha256(u16(index)));

const receiptAt = (index: number, changes: Partial<ChainReceipt> = {}): ChainReceipt => ({
  transactionHash: transactionOf(index),
  transactionIndex: quantity(index),
  blockHash: `0x${'00'.repeat(32)}`,
  blockNumber: quantity(256),
  type: index % 3 === 0 ? '0x0' : '0x2',
  status: '0x1',
  cumulativeGasUsed: quantity(21_000 * (index + 1)),
  logsBloom: `0x${'00'.repeat(256)}`,
  logs: [],
  ...changes,
});

const anchoring = (index: number, changes: Partial<ChainReceipt> = {}): ChainReceipt =>
  receiptAt(index, {
    logs: [
      { address: `0x${'cd'.repeat(20)}`, topics: [], data: '0x' },
      { address: contract, topics: [...anchoredTopics(tools, checkpoint)], data: `0x${'00'.repeat(32)}` },
    ],
    ...changes,
  });

const blockOf = (receiptsRoot: string, fields: Partial<ChainBlock> = {}): ChainBlock => {
  const hash = (byte: number) => `0x${byte.toString(16).padStart(2, '0').repeat(32)}`;
  const block = {
    hash: hash(0),
    parentHash: hash(1),
    sha3Uncles: hash(2),
    miner: `0x${'03'.repeat(20)}`,
    stateRoot: hash(4),
    transactionsRoot: hash(5),
    receiptsRoot,
    logsBloom: `0x${'00'.repeat(256)}`,
    difficulty: '0x0',
    number: quantity(256),
    gasLimit: quantity(30_000_000),
    gasUsed: quantity(21_000),
    timestamp: quantity(1_795_000_000),
    extraData: '0x',
    mixHash: hash(7),
    nonce: `0x${'00'.repeat(8)}`,
    baseFeePerGas: quantity(7),
    withdrawalsRoot: hash(8),
    blobGasUsed: '0x0',
    excessBlobGas: '0x0',
    parentBeaconBlockRoot: hash(9),
    requestsHash: hash(10),
    ...fields,
  };
  return chainBlock.parse({ ...block, hash: hashOf(block) });
};

const headerNames = [
  'parentHash sha3Uncles miner stateRoot transactionsRoot receiptsRoot logsBloom difficulty number gasLimit gasUsed timestamp',
  'extraData mixHash nonce baseFeePerGas withdrawalsRoot blobGasUsed excessBlobGas parentBeaconBlockRoot requestsHash',
]
  .join(' ')
  .split(' ');
const quantities = new Set(
  'difficulty number gasLimit gasUsed timestamp baseFeePerGas blobGasUsed excessBlobGas'.split(' '),
);

/** The hash of a header, by the independent encoder. */
const hashOf = (block: Readonly<Record<string, string | undefined>>): string => {
  const fields = headerNames
    .map((name) => [name, block[name]] as const)
    .filter(([, value]) => value !== undefined)
    .map(([name, value = '0x']) => {
      const digits = quantities.has(name) && value === '0x0' ? '' : value.slice(2);
      return Buffer.from(digits.length % 2 === 0 ? digits : `0${digits}`, 'hex');
    });
  return hex(keccak256(RLP.encode(fields)));
};

const rootOf = async (receipts: readonly ChainReceipt[]): Promise<string> => {
  const judge = await createMPT({ useKeyHashing: false });
  for (const [index, receipt] of receipts.entries()) {
    const logs = receipt.logs.map((log) => [log.address, [...log.topics], log.data]);
    const fields = [Number(receipt.status), Number(receipt.cumulativeGasUsed), receipt.logsBloom, logs];
    const body = RLP.encode(fields as Parameters<typeof RLP.encode>[0]);
    await judge.put(RLP.encode(index), receipt.type === '0x0' ? body : Buffer.concat([Uint8Array.of(2), body]));
  }
  return hex(judge.root());
};

const make = async (position: number, receipts: readonly ChainReceipt[], fields: Partial<ChainBlock> = {}) => {
  const place = { chainId: '31337', contract, transaction: transactionOf(position) };
  return makeAnchorProof(tools, { block: blockOf(await rootOf(receipts), fields), receipts }, place, checkpoint);
};

const others = (count: number) => Array.from({ length: count }, (_, index) => receiptAt(index));

describe('making an anchor proof', () => {
  test.each([
    [1, 0],
    [3, 2],
    [150, 77],
    [300, 299],
  ])('among %i receipts, at %i', async (count, position) => {
    const made = await make(position, others(count).with(position, anchoring(position)));
    expect(made).toMatchObject({ ok: true, value: { chainId: '31337', contract, logIndex: '1' } });
  });

  test('headers of older forks have fewer fields', async () => {
    const old = { requestsHash: undefined, parentBeaconBlockRoot: undefined, excessBlobGas: undefined };
    const receipts = [anchoring(0)];
    const root = await rootOf(receipts);
    const older = { ...blockOf(root), ...old, blobGasUsed: undefined, withdrawalsRoot: undefined };
    const block = chainBlock.parse({ ...older, hash: hashOf(older) });
    const place = { chainId: '31337', contract, transaction: transactionOf(0) };
    expect(makeAnchorProof(tools, { block, receipts }, place, checkpoint).ok).toBe(true);
  });

  test('a header with a field that we do not know gives no proof', async () => {
    const receipts = [anchoring(0)];
    const block = { ...blockOf(await rootOf(receipts)), hash: `0x${'11'.repeat(32)}` };
    const place = { chainId: '31337', contract, transaction: transactionOf(0) };
    expect(makeAnchorProof(tools, { block, receipts }, place, checkpoint)).toEqual({
      ok: false,
      reason: 'the header of the block does not hash to it: a field is missing, or changed',
    });
  });

  test.each([
    ['a receipt is missing', (all: readonly ChainReceipt[]) => all.slice(1), 'do not lead to the root'],
    ['receipts are swapped', (all: readonly ChainReceipt[]) => all.toReversed(), 'do not lead to the root'],
    ['an event was put in', (all: readonly ChainReceipt[]) => all.with(1, anchoring(1)), 'do not lead to the root'],
  ])('a node that lies about receipts gives no proof: %s', async (_what, lie, reason) => {
    const receipts = others(4).with(2, anchoring(2));
    const block = blockOf(await rootOf(receipts));
    const place = { chainId: '31337', contract, transaction: transactionOf(2) };
    const made = makeAnchorProof(tools, { block, receipts: lie(receipts) }, place, checkpoint);
    expect(made.ok).toBe(false);
    expect(!made.ok && made.reason).toContain(reason);
  });

  test.each([
    ['a failed call', anchoring(0, { status: '0x0' }), 'did not succeed'],
    ['a call of something else', receiptAt(0), 'no such event'],
    [
      'another contract',
      anchoring(0, {
        logs: [
          {
            address: `0x${'cd'.repeat(20)}`,
            topics: [...anchoredTopics(tools, checkpoint)],
            data: `0x${'00'.repeat(32)}`,
          },
        ],
      }),
      'of another contract',
    ],
  ])('%s is no anchor', async (_what, receipt, reason) => {
    const made = await make(0, [receipt]);
    expect(made.ok).toBe(false);
    expect(!made.ok && made.reason).toContain(reason);
  });

  test('a transaction of another block is refused', async () => {
    expect(await make(5, [anchoring(0)])).toEqual({ ok: false, reason: 'the transaction is not in the block' });
  });
});
