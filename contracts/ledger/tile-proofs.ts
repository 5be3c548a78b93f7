import type { Crypto } from '../crypto.ts';
import { bad, type Checked, good } from './forms.ts';
import { hashesOfTile, subtreesFromTiles, type TileId, tilePath, tileWidth } from './tiles.ts';
import { consistencyProof, inclusionPath, type SubtreeRoot } from './tree.ts';

/** Proofs out of served tiles (ledger §5): which tiles are needed, and what they prove. Fetching is the caller's. */

/** Gets the bytes of a file of the log, by its path below the origin; undefined when it is not there. */
export type FetchLogFile = (path: string) => Promise<Uint8Array | undefined>;

type Sha256 = Pick<Crypto, 'sha256'>;

/** The tiles that a computation over a tree of `size` reads, found by running it once on empty tiles. */
export const tilesNeeded = (size: number, compute: (subtree: SubtreeRoot) => unknown): TileId[] => {
  const asked = new Map<string, TileId>();
  const blank = new Uint8Array(32);
  const noHash = { sha256: () => blank };
  const read = (id: TileId) => {
    asked.set(tilePath(id), id);
    return Array.from({ length: id.width }, () => blank);
  };
  compute(subtreesFromTiles(noHash, size, read));
  return [...asked.values()];
};

/** A partial tile may be gone once the full one is there: its beginning is the same. */
const fetchTile = async (fetch: FetchLogFile, id: TileId): Promise<Checked<Uint8Array[]>> => {
  const exact = await fetch(tilePath(id));
  if (exact !== undefined) return hashesOfTile(exact, id.width);
  const full = id.width === tileWidth ? undefined : await fetch(tilePath({ ...id, width: tileWidth }));
  if (full === undefined) return bad(`${tilePath(id)} is not there`);
  const hashes = hashesOfTile(full, tileWidth);
  return hashes.ok ? good(hashes.value.slice(0, id.width)) : hashes;
};

/** Computes over the subtrees of a tree of `size` whose tiles are fetched first. What comes out is not yet verified. */
export const computeFromTiles = async <Value>(
  crypto: Sha256,
  size: number,
  tools: { readonly fetch: FetchLogFile; readonly compute: (subtree: SubtreeRoot) => Value },
): Promise<Checked<Value>> => {
  const tiles = new Map<string, readonly Uint8Array[]>();
  for (const id of tilesNeeded(size, tools.compute)) {
    const hashes = await fetchTile(tools.fetch, id);
    if (!hashes.ok) return hashes;
    tiles.set(tilePath(id), hashes.value);
  }
  return good(tools.compute(subtreesFromTiles(crypto, size, (id) => tiles.get(tilePath(id)))));
};

/** The path of entry `index` in the tree of `size`; the caller checks it against the root of a checkpoint. */
export const inclusionFromTiles = (
  crypto: Sha256,
  place: { readonly index: number; readonly size: number },
  fetch: FetchLogFile,
): Promise<Checked<Uint8Array[]>> =>
  computeFromTiles(crypto, place.size, {
    fetch,
    compute: (subtree) => inclusionPath(subtree, place.index, place.size),
  });

/** The root of the tree at a size, as the tiles have it. */
export const rootFromTiles = (crypto: Sha256, size: number, fetch: FetchLogFile): Promise<Checked<Uint8Array>> =>
  computeFromTiles(crypto, size, { fetch, compute: (subtree) => subtree(0, size) });

/** The proof that the tree of `to` extends that of `from`; the caller checks it against both roots. */
export const consistencyFromTiles = (
  crypto: Sha256,
  sizes: { readonly from: number; readonly to: number },
  fetch: FetchLogFile,
): Promise<Checked<Uint8Array[]>> =>
  computeFromTiles(crypto, sizes.to, {
    fetch,
    compute: (subtree) => consistencyProof(subtree, sizes.from, sizes.to),
  });
