import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { fromBase64Url, toBase64Url, utf8 } from '../bytes.ts';
import { createPathMemo } from './path-memo.ts';
import { inclusionPath, isIncluded, leafHash, rootOf, subtreesOf } from './tree.ts';

describe('many paths to one root', () => {
  test('agrees with the single check, whatever the order and whatever is changed', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 140 }),
        fc.array(
          fc.record({
            at: fc.nat(),
            change: fc.constantFrom('none', 'leaf', 'path', 'short', 'long', 'index'),
            where: fc.nat(),
          }),
          { maxLength: 60 },
        ),
        (size, tries) => {
          const leaves = Array.from({ length: size }, (_, index) => leafHash(nodeCrypto, utf8(`${index}`)));
          const subtree = subtreesOf(nodeCrypto, leaves);
          const root = rootOf(nodeCrypto, leaves);
          const memo = createPathMemo(nodeCrypto, size, root);
          for (const { at, change, where } of tries) {
            const index = at % size;
            const good = inclusionPath(subtree, index, size).map(toBase64Url);
            const spoiled = good.map((hash, step) => (step === where % good.length ? toBase64Url(root) : hash));
            const path =
              { path: spoiled, short: good.slice(1), long: [...good, toBase64Url(root)] }[change as 'path'] ?? good;
            const leaf = change === 'leaf' ? root : (leaves[index] ?? root);
            const place = change === 'index' ? where % (size + 3) : index;
            const single = isIncluded(nodeCrypto, leaf, {
              index: place,
              size,
              root,
              path: path.map((hash) => fromBase64Url(hash) ?? root),
            });
            expect(memo.includes(leaf, place, path)).toBe(single);
          }
        },
      ),
      { numRuns: 400 },
    );
  });

  test('a node that is carried up at the right edge is known by both its names (seed -1966013527)', () => {
    const leaves = Array.from({ length: 20 }, (_, index) => leafHash(nodeCrypto, utf8(`${index}`)));
    const subtree = subtreesOf(nodeCrypto, leaves);
    const memo = createPathMemo(nodeCrypto, 20, rootOf(nodeCrypto, leaves));
    for (const index of [16, 0]) {
      expect(
        memo.includes(leaves[index] ?? new Uint8Array(0), index, inclusionPath(subtree, index, 20).map(toBase64Url)),
      ).toBe(true);
    }
  });

  test('an index outside the tree, and a path that is no base64url, are refused', () => {
    const leaf = leafHash(nodeCrypto, utf8('a'));
    const memo = createPathMemo(nodeCrypto, 2, rootOf(nodeCrypto, [leaf, leaf]));
    expect(memo.includes(leaf, -1, [])).toBe(false);
    expect(memo.includes(leaf, 0, ['=='])).toBe(false);
    expect(memo.includes(leaf, 0, [toBase64Url(leaf)])).toBe(true);
  });
});
