import { concat, orNothing } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { completeRoot, type ReadTile, type TileId, tilesBetween, tileWidth } from '../../contracts/ledger/tiles.ts';
import { appendLeaf, type Peak, rootOfStack } from '../../contracts/ledger/tree.ts';

/** The right edge of a tree in tiles: what must be in memory to write the next ones (ledger §5, §12 step 4). */

type Hash = Uint8Array;
type Sha256 = Pick<Crypto, 'sha256'>;

export interface Edge {
  readonly size: number;
  /** Per tile level, the hashes of the partial tile; full tiles stand above as one hash. */
  readonly levels: readonly (readonly Hash[])[];
}

export const emptyEdge: Edge = { size: 0, levels: [] };

/** A tile with its hashes, as it must be written. */
export interface TileContent {
  readonly id: TileId;
  readonly bytes: Uint8Array;
}

/** The edge after more leaves, and every tile that came to be or changed on the way. */
export const growEdge = (
  crypto: Sha256,
  edge: Edge,
  leaves: readonly Hash[],
): { readonly edge: Edge; readonly tiles: readonly TileContent[] } => {
  const levels = edge.levels.map((row) => [...row]);
  const filled = new Map<string, Uint8Array>();
  const count = (level: number) => Math.floor(size / tileWidth ** (level + 1));
  let size = edge.size;
  const push = (level: number, hash: Hash): void => {
    const row = levels[level] ?? [];
    row.push(hash);
    levels[level] = row;
    if (row.length < tileWidth) return;
    filled.set(`${level}/${count(level) - 1}`, concat(...row));
    levels[level] = [];
    push(level + 1, completeRoot(crypto, row));
  };
  for (const leaf of leaves) {
    size += 1;
    push(0, leaf);
  }
  const tiles = tilesBetween(edge.size, size).map((id) => ({
    id,
    bytes: id.width === tileWidth ? filled.get(`${id.level}/${id.index}`) : concat(...(levels[id.level] ?? [])),
  }));
  return {
    edge: { size, levels },
    tiles: tiles.map(({ id, bytes }) => ({ id, bytes: orNothing(bytes) })),
  };
};

/** The stack of complete subtrees that an edge stands for. */
export const stackOfEdge = (crypto: Sha256, edge: Edge): readonly Peak[] =>
  edge.levels
    .map((row, level) =>
      row
        .reduce<readonly Peak[]>((stack, hash) => appendLeaf(crypto, stack, hash), [])
        .map((peak) => ({ level: peak.level + 8 * level, hash: peak.hash })),
    )
    .toReversed()
    .flat();

export const rootOfEdge = (crypto: Sha256, edge: Edge): Hash => rootOfStack(crypto, stackOfEdge(crypto, edge));

/** The partial tiles at the right edge of a tree of `size`: what must be read to go on from there. */
export const edgeTiles = (size: number): TileId[] => {
  const tiles: TileId[] = [];
  for (let level = 0, count = size; count > 0; level += 1, count = Math.floor(count / tileWidth)) {
    const width = count % tileWidth;
    if (width > 0) tiles.push({ level, index: Math.floor(count / tileWidth), width });
  }
  return tiles;
};

/** The edge of a tree of `size` out of its tiles, or undefined when one is missing. */
export const readEdge = (size: number, read: ReadTile): Edge | undefined => {
  const levels: (readonly Hash[])[] = [];
  for (const id of edgeTiles(size)) {
    const hashes = read(id);
    if (hashes === undefined) return undefined;
    while (levels.length < id.level) levels.push([]);
    levels.push(hashes);
  }
  return { size, levels };
};
