import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toHex, utf8 } from '../../contracts/bytes.ts';
import { completeRoot, hashesOfTile, tilePath, tilesBetween, tilesOf } from '../../contracts/ledger/tiles.ts';
import { appendLeaf, leafHash, type Peak, rootOf } from '../../contracts/ledger/tree.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { edgeTiles, emptyEdge, growEdge, readEdge, rootOfEdge, stackOfEdge } from './edge.pure.ts';

const leaf = (index: number) => leafHash(nodeCrypto, utf8(`entry ${index}`));
const leaves = Array.from({ length: 70_000 }, (_, index) => leaf(index));

describe('right edge', () => {
  test('grows in any steps to the same tiles as all leaves at once', () => {
    const steps = fc.array(fc.integer({ min: 0, max: 700 }), { maxLength: 12 });
    fc.assert(
      fc.property(steps, (sizes) => {
        const written = new Map<string, string>();
        let edge = emptyEdge;
        let size = 0;
        for (const step of sizes) {
          const grown = growEdge(nodeCrypto, edge, leaves.slice(size, size + step));
          for (const { id, bytes } of grown.tiles) written.set(tilePath(id), toHex(bytes));
          edge = grown.edge;
          size += step;
        }
        const whole = growEdge(nodeCrypto, emptyEdge, leaves.slice(0, size));
        for (const { id, bytes } of whole.tiles) expect(written.get(tilePath(id))).toBe(toHex(bytes));
        expect(edge).toEqual(whole.edge);
        expect(toHex(rootOfEdge(nodeCrypto, edge))).toBe(toHex(rootOf(nodeCrypto, leaves.slice(0, size))));
      }),
      { numRuns: 40 },
    );
  });

  test('its stack is the stack of the appending tree', () => {
    let stack: readonly Peak[] = [];
    let edge = emptyEdge;
    for (let size = 0; size < 600; size += 1) {
      expect(stackOfEdge(nodeCrypto, edge)).toEqual(stack);
      stack = appendLeaf(nodeCrypto, stack, leaf(size));
      edge = growEdge(nodeCrypto, edge, [leaf(size)]).edge;
    }
  });

  test('a tree of 70,000 has the tiles that ledger §5 counts', () => {
    const { edge, tiles } = growEdge(nodeCrypto, emptyEdge, leaves);
    const widths = (level: number) => tilesOf(70_000).flatMap((id) => (id.level === level ? [id.width] : []));
    expect(widths(0).filter((width) => width === 256)).toHaveLength(273);
    expect(widths(0).at(-1)).toBe(112);
    expect(widths(1)).toEqual([256, 17]);
    expect(widths(2)).toEqual([1]);
    expect(tiles.map(({ id }) => tilePath(id))).toEqual(tilesOf(70_000).map(tilePath));
    const byPath = new Map(tiles.map(({ id, bytes }) => [tilePath(id), bytes]));
    const read = readEdge(70_000, (id) => {
      const bytes = byPath.get(tilePath(id));
      const hashes = bytes && hashesOfTile(bytes, id.width);
      return hashes?.ok ? hashes.value : undefined;
    });
    expect(read && toHex(rootOfEdge(nodeCrypto, read))).toBe(toHex(rootOfEdge(nodeCrypto, edge)));
    const firstTile = hashesOfTile(byPath.get('tile/0/000') ?? new Uint8Array(0), 256);
    const above = hashesOfTile(byPath.get('tile/1/000') ?? new Uint8Array(0), 256);
    expect(firstTile.ok && toHex(completeRoot(nodeCrypto, firstTile.value))).toBe(
      above.ok && toHex(above.value[0] ?? new Uint8Array(0)),
    );
  });

  test('cannot be read when a tile of it is missing', () => {
    expect(edgeTiles(256)).toEqual([{ level: 1, index: 0, width: 1 }]);
    expect(readEdge(256, () => undefined)).toBeUndefined();
    expect(readEdge(0, () => undefined)).toEqual(emptyEdge);
    expect(tilesBetween(300, 300)).toEqual([]);
  });
});
