import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { toHex, utf8 } from '../bytes.ts';
import {
  appendLeaf,
  consistencyProof,
  emptyRoot,
  inclusionPath,
  isConsistent,
  isIncluded,
  leafHash,
  type Peak,
  rootOf,
  rootOfStack,
  sizeOfStack,
  subtreesOf,
} from './tree.ts';

const leavesOf = (count: number) =>
  Array.from({ length: count }, (_, index) => leafHash(nodeCrypto, utf8(`leaf ${index}`)));
const most = 130;
const leaves = leavesOf(most);
const roots = Array.from({ length: most + 1 }, (_, size) => rootOf(nodeCrypto, leaves.slice(0, size)));
const rootAt = (size: number) => roots[size] ?? emptyRoot(nodeCrypto);
const flipped = (bytes: Uint8Array) => bytes.map((byte, index) => (index === 7 ? byte ^ 1 : byte));

describe('merkle tree', () => {
  test('known answers of RFC 6962', () => {
    const abc = ['a', 'b', 'c'].map((text) => leafHash(nodeCrypto, utf8(text)));
    expect(toHex(leafHash(nodeCrypto, utf8('')))).toBe(
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    );
    expect(toHex(leafHash(nodeCrypto, utf8('a')))).toBe(
      '022a6979e6dab7aa5ae4c3e5e45f7e977112a7e63593820dbec1ec738a24f93c',
    );
    expect(toHex(rootOf(nodeCrypto, abc))).toBe('36642e73c2540ab121e3a6bf9545b0a24982cd830eb13d3cd19de3ce6c021ec1');
    expect(consistencyProof(subtreesOf(nodeCrypto, abc), 2, 3).map(toHex)).toEqual([
      '597fcb31282d34654c200d3418fca5705c648ebf326ec73d8ddef11841f876d8',
    ]);
    expect(toHex(rootOf(nodeCrypto, []))).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  });

  test('the stack gives the same roots as the recursion', () => {
    let stack: readonly Peak[] = [];
    for (const [index, leaf] of leaves.entries()) {
      stack = appendLeaf(nodeCrypto, stack, leaf);
      expect(sizeOfStack(stack)).toBe(index + 1);
      const subtree = subtreesOf(nodeCrypto, leaves.slice(0, index + 1));
      expect(toHex(rootOfStack(nodeCrypto, stack))).toBe(toHex(subtree(0, index + 1)));
    }
  });

  test('every inclusion path up to size 130 verifies, at its own index and size only', () => {
    for (let size = 1; size <= most; size += 1) {
      const subtree = subtreesOf(nodeCrypto, leaves.slice(0, size));
      for (let index = 0; index < size; index += 1) {
        const path = inclusionPath(subtree, index, size);
        const leaf = leaves[index] ?? emptyRoot(nodeCrypto);
        const good = isIncluded(nodeCrypto, leaf, { index, size, path, root: rootAt(size) });
        if (!good) throw new Error(`size ${size} index ${index}`);
        const wrong = isIncluded(nodeCrypto, leaf, { index: (index + 1) % size, size, path, root: rootAt(size) });
        if (wrong && size > 1) throw new Error(`size ${size} index ${index} verified elsewhere`);
      }
    }
  });

  test('every consistency proof up to size 130 verifies, between its own sizes only', () => {
    const subtree = subtreesOf(nodeCrypto, leaves);
    for (let later = 0; later <= most; later += 1) {
      for (let earlier = 0; earlier <= later; earlier += 1) {
        const proof = earlier === 0 ? [] : consistencyProof(subtree, earlier, later);
        const to = { size: later, root: rootAt(later) };
        if (!isConsistent(nodeCrypto, { size: earlier, root: rootAt(earlier) }, to, proof))
          throw new Error(`${earlier} ${later}`);
        const otherRoot = { size: earlier, root: flipped(rootAt(earlier)) };
        if (isConsistent(nodeCrypto, otherRoot, to, proof)) throw new Error(`${earlier} ${later} with another root`);
      }
    }
    expect(isConsistent(nodeCrypto, { size: 5, root: rootAt(5) }, { size: 4, root: rootAt(4) }, [])).toBe(false);
    expect(isConsistent(nodeCrypto, { size: 3, root: rootAt(3) }, { size: 5, root: rootAt(5) }, [])).toBe(false);
  });

  test('changed, missing and extra hashes are refused', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: most }), fc.nat(), fc.nat(), (size, at, where) => {
        const subtree = subtreesOf(nodeCrypto, leaves.slice(0, size));
        const index = at % size;
        const leaf = leaves[index] ?? emptyRoot(nodeCrypto);
        const path = inclusionPath(subtree, index, size);
        const place = where % path.length;
        const root = rootAt(size);
        const changed = path.map((hash, step) => (step === place ? flipped(hash) : hash));
        for (const wrong of [changed, path.toSpliced(place, 1), [...path, root], [root, ...path]]) {
          expect(isIncluded(nodeCrypto, leaf, { index, size, path: wrong, root })).toBe(false);
        }
        expect(isIncluded(nodeCrypto, leaf, { index: size, size, path, root })).toBe(false);
        expect(isIncluded(nodeCrypto, leaf, { index, size: 2 * size, path, root })).toBe(false);
        expect(isIncluded(nodeCrypto, leaf, { index: -1, size, path, root })).toBe(false);
        const earlier = 1 + (at % (size - 1));
        const proof = consistencyProof(subtree, earlier, size);
        const from = { size: earlier, root: rootAt(earlier) };
        for (const wrong of [[...proof, root], proof.slice(1), proof.map(flipped)]) {
          expect(isConsistent(nodeCrypto, from, { size, root }, wrong)).toBe(false);
        }
      }),
    );
  });
});
