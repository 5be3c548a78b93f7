import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { concat, utf8 } from '../bytes.ts';
import { consistencyFromTiles, inclusionFromTiles, tilesNeeded } from './tile-proofs.ts';
import { completeRoot, tilePath, tilesOf } from './tiles.ts';
import { inclusionPath, isConsistent, isIncluded, leafHash, rootOf } from './tree.ts';

const total = 66_000;
const leaves = Array.from({ length: total }, (_, index) => leafHash(nodeCrypto, utf8(`entry ${index}`)));

/** The files that a log of this size serves. */
const filesOf = (size: number): Map<string, Uint8Array> => {
  const rows: (readonly Uint8Array[])[] = [leaves.slice(0, size)];
  const files = new Map<string, Uint8Array>();
  for (const id of tilesOf(size)) {
    const row = rows[id.level] ?? [];
    files.set(tilePath(id), concat(...row.slice(id.index * 256, id.index * 256 + id.width)));
    const full = Math.floor(row.length / 256);
    rows[id.level + 1] ??= Array.from({ length: full }, (_, index) =>
      completeRoot(nodeCrypto, row.slice(index * 256, (index + 1) * 256)),
    );
  }
  return files;
};

const served = filesOf(total);
const fetch = async (path: string) => served.get(path);

describe('proofs from tiles', () => {
  test.each([0, 1, 255, 256, 257, 65_535, 65_536, 65_999])('entry %i is included', async (index) => {
    const path = await inclusionFromTiles(nodeCrypto, { index, size: total }, fetch);
    const leaf = leaves[index] ?? new Uint8Array(0);
    const root = rootOf(nodeCrypto, leaves);
    expect(path.ok && isIncluded(nodeCrypto, leaf, { index, size: total, path: path.value, root })).toBe(true);
  });

  test.each([
    [1, 66_000],
    [256, 66_000],
    [300, 65_792],
    [65_536, 65_537],
    [65_900, 66_000],
    [66_000, 66_000],
    [0, 300],
  ])('size %i grows into size %i', async (from, to) => {
    const proof = await consistencyFromTiles(nodeCrypto, { from, to }, fetch);
    const at = (size: number) => ({ size, root: rootOf(nodeCrypto, leaves.slice(0, size)) });
    expect(proof.ok && isConsistent(nodeCrypto, at(from), at(to), proof.value)).toBe(true);
  });

  test('few tiles are asked for, however large the tree', () => {
    const needed = tilesNeeded(total, (subtree) => inclusionPath(subtree, 12_345, total));
    expect(needed.length).toBeGreaterThan(2);
    expect(needed.length).toBeLessThan(9);
  });

  test('a full tile stands in for a partial one that is gone', async () => {
    const proof = await inclusionFromTiles(nodeCrypto, { index: 3, size: 300 }, fetch);
    expect(proof.ok && proof.value).toHaveLength(9);
  });

  test('a missing tile, or one of another length, is a reason and no proof', async () => {
    const without = await inclusionFromTiles(nodeCrypto, { index: 3, size: total }, async () => undefined);
    expect(without).toMatchObject({ ok: false, reason: expect.stringContaining('is not there') });
    const short = await inclusionFromTiles(nodeCrypto, { index: 3, size: 300 }, async () => new Uint8Array(31));
    expect(short).toMatchObject({ ok: false, reason: expect.stringContaining('has') });
    const shortFull = await inclusionFromTiles(nodeCrypto, { index: 3, size: 300 }, async (path) =>
      path.includes('.p/') ? undefined : new Uint8Array(31),
    );
    expect(shortFull.ok).toBe(false);
  });
});
