import { RLP } from '@ethereumjs/rlp';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import {
  anchorContract,
  anchorTopics,
  bytes32,
  encodeReceipt as encodeAny,
  makeAnchor,
  type ReceiptParts,
  trustIn,
} from '../../test/support/anchors.ts';
import { concat, fromBase64, sameBytes, toBase64, utf8 } from '../bytes.ts';
import type { Checkpoint } from '../ledger/note.ts';
import type { EvmAnchor, TrustFile } from '../ledger/receipt.ts';
import { verifyAnchor } from './proof.ts';
import { decodeRlp, isBytes, isList, type Rlp } from './rlp.ts';

const tools = { keccak256, sha256: nodeCrypto.sha256 };
const checkpoint: Checkpoint = { origin: 'broker.example/log/2026', size: 70_000, root: new Uint8Array(32).fill(7) };
const goodTopics = anchorTopics(checkpoint);
const encodeReceipt = (parts: ReceiptParts = {}) => encodeAny({ topics: goodTopics, ...parts });

const check = (anchor: EvmAnchor, chains: TrustFile['chains'] = [], its = checkpoint) =>
  verifyAnchor(tools, anchor, its, chains);

let good: EvmAnchor;
let block = '';
beforeAll(async () => {
  const others = Array.from({ length: 150 }, () => encodeReceipt({ topics: [], typed: false }));
  const made = await makeAnchor(others.with(77, encodeReceipt()), 77);
  good = made.anchor;
  block = made.blockHash;
});

describe('anchor proof', () => {
  test('a receipt among 150 verifies, and counts when the reader trusts its block', () => {
    expect(check(good, trustIn(block))).toEqual({ state: 'authenticated', reason: `block 256 ${block}` });
  });

  test('an invented block is consistent and does not count', () => {
    expect(check(good).state).toBe('consistent');
    expect(check(good, trustIn(`0x${'00'.repeat(32)}`)).state).toBe('consistent');
  });

  test('a trusted block of another chain or contract does not count', () => {
    expect(check({ ...good, chainId: '1' }, trustIn(block)).state).toBe('consistent');
    const chains = trustIn(block).map((chain) => ({ ...chain, contract: `0x${'cd'.repeat(20)}` }));
    expect(check(good, chains).state).toBe('consistent');
  });

  test('small tries verify too, with receipts of every age', async () => {
    for (const count of [1, 2, 3, 17]) {
      for (const typed of [true, false]) {
        const { anchor, blockHash } = await makeAnchor(
          Array.from({ length: count }, () => encodeReceipt({ typed })),
          count - 1,
        );
        expect(check(anchor, trustIn(blockHash)).state).toBe('authenticated');
      }
    }
  });

  test.each([
    ['a failed transaction', { status: 0 }, 'did not succeed'],
    ['another contract', { address: new Uint8Array(20).fill(1) }, 'of another contract'],
    ['another event', { topics: [new Uint8Array(32), ...goodTopics.slice(1)] }, 'not an anchor'],
    ['a topic too many', { topics: [...goodTopics, new Uint8Array(32)] }, 'not an anchor'],
    ['another log', { topics: goodTopics.with(1, new Uint8Array(32)) }, 'about another log'],
    ['another size', { topics: goodTopics.with(2, bytes32(70_001n)) }, 'another size or root'],
    ['another root', { topics: goodTopics.with(3, new Uint8Array(32)) }, 'another size or root'],
    ['other data', { data: new Uint8Array(31) }, 'not an anchor'],
  ])('%s is refused', async (_what, parts, expected) => {
    const { anchor, blockHash } = await makeAnchor([encodeReceipt(parts)], 0);
    const verdict = check(anchor, trustIn(blockHash));
    expect(verdict.state).toBe('failed');
    expect(verdict.reason).toContain(expected);
  });

  test('another checkpoint is refused', () => {
    expect(check(good, trustIn(block), { ...checkpoint, size: 69_999 }).state).toBe('failed');
    expect(check(good, trustIn(block), { ...checkpoint, origin: 'other.example/log' }).state).toBe('failed');
  });

  test('missing, swapped, extra and foreign nodes are refused', async () => {
    const other = await makeAnchor([encodeReceipt(), encodeReceipt()], 0);
    for (const nodes of [
      good.nodes.slice(1),
      good.nodes.toReversed(),
      [...good.nodes, ...other.anchor.nodes],
      other.anchor.nodes,
      [''],
    ]) {
      expect(check({ ...good, nodes }, trustIn(block))).toEqual({
        state: 'failed',
        reason: 'the receipt does not stand in the block',
      });
    }
    expect(check({ ...good, key: other.anchor.key }, trustIn(block)).state).toBe('failed');
    expect(check({ ...good, logIndex: '1' }, trustIn(block)).reason).toBe('the receipt has no such event');
  });

  test('a header that cannot be one is refused', () => {
    expect(check({ ...good, header: '' }).reason).toBe('the block header cannot be read');
    expect(check({ ...good, header: toBase64(RLP.encode([new Uint8Array(1)])) }).reason).toBe(
      'the block header cannot be read',
    );
    const fields = Array.from({ length: 21 }, () => new Uint8Array(31).fill(9));
    expect(check({ ...good, header: toBase64(RLP.encode(fields)) }).reason).toBe('the block header cannot be read');
  });

  test('any changed byte of the proof is refused or no longer counts', () => {
    const flip = (text: string, at: number) => {
      const bytes = fromBase64(text) ?? new Uint8Array(0);
      return toBase64(bytes.with(at % bytes.length, (bytes[at % bytes.length] ?? 0) ^ 1));
    };
    fc.assert(
      fc.property(fc.nat(), fc.nat(), (at, which) => {
        const node = which % good.nodes.length;
        const changedNode = {
          ...good,
          nodes: good.nodes.map((text, index) => (index === node ? flip(text, at) : text)),
        };
        const changedHeader = { ...good, header: flip(good.header, at) };
        expect(check(changedNode, trustIn(block)).state).toBe('failed');
        expect(check(changedHeader, trustIn(block)).state).not.toBe('authenticated');
      }),
      { numRuns: 300 },
    );
  });

  test('an event that is no log, and a receipt that is none, are refused', async () => {
    const noLog = concat(
      Uint8Array.of(2),
      RLP.encode([Uint8Array.of(1), new Uint8Array(0), new Uint8Array(256), [[anchorContract]]]),
    );
    const noList = concat(
      Uint8Array.of(2),
      RLP.encode([Uint8Array.of(1), new Uint8Array(0), new Uint8Array(256), new Uint8Array(3)]),
    );
    for (const [receipt, expected] of [
      [noLog, 'no such event'],
      [noList, 'has no logs'],
      [utf8('long enough to be a receipt but it is not one'), 'cannot be read'],
    ] as const) {
      const { anchor, blockHash } = await makeAnchor([receipt], 0);
      expect(check(anchor, trustIn(blockHash)).reason).toContain(expected);
    }
  });
});

describe('RLP', () => {
  const item: fc.Arbitrary<Rlp> = fc.letrec<{ item: Rlp; list: Rlp; bytes: Rlp }>((tie) => ({
    item: fc.oneof({ maxDepth: 4 }, tie('bytes'), tie('list')),
    list: fc.array(tie('item'), { maxLength: 6 }),
    bytes: fc.uint8Array({ maxLength: 80 }),
  })).item;
  const same = (a: Rlp, b: Rlp): boolean =>
    isBytes(a) && isBytes(b)
      ? sameBytes(a, b)
      : isList(a) && isList(b) && a.length === b.length && a.every((one, index) => same(one, b[index] ?? []));

  test('reads what an independent encoder writes', () => {
    fc.assert(
      fc.property(item, (value) => {
        const decoded = decodeRlp(RLP.encode(value as Parameters<typeof RLP.encode>[0]));
        expect(decoded !== undefined && same(decoded, value)).toBe(true);
      }),
    );
  });

  test.each([
    ['nothing', ''],
    ['a long form of a short string', 'b80161'],
    ['a single byte in a string', '8161'],
    ['bytes left over', '6161'],
    ['an end inside', '83616161'.slice(0, 6)],
    ['a length with a zero', 'b90038'],
    ['a list that ends inside an item', 'c283'],
    ['a length that is too long', 'bf0000000000000001'],
  ])('refuses %s', (_what, hex) => expect(decodeRlp(Buffer.from(hex, 'hex'))).toBeUndefined());

  test('refuses endless nesting', () => {
    let nested: Uint8Array = RLP.encode([]);
    for (let level = 0; level < 40; level += 1) nested = concat(Uint8Array.of(0xc0 + nested.length), nested);
    expect(decodeRlp(nested)).toBeUndefined();
  });
});
