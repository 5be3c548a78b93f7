import { concat, orNothing, u16 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { bad, type Checked, good } from './forms.ts';
import { nodeHash, type SubtreeRoot } from './tree.ts';

/** Tiles and entry bundles of C2SP tlog-tiles (ledger §5): 256 hashes of 32 bytes, served as static files. */

export const tileWidth = 256;
const tileHeight = 8;
const hashBytes = 32;

/** One tile: `width` hashes of level `8 × level` from `index × 256` on. */
export interface TileId {
  readonly level: number;
  readonly index: number;
  /** 1…256; below 256 the tile is partial. */
  readonly width: number;
}

/** `7 → 007`, `1234067 → x001/x234/067` */
const numberPath = (index: number): string => {
  const groups: string[] = [];
  for (let rest = index; groups.length === 0 || rest > 0; rest = Math.floor(rest / 1000)) {
    groups.unshift(String(rest % 1000).padStart(3, '0'));
  }
  return groups.map((group, place) => (place < groups.length - 1 ? `x${group}` : group)).join('/');
};

const partialSuffix = (width: number): string => (width === tileWidth ? '' : `.p/${width}`);

export const tilePath = ({ level, index, width }: TileId): string =>
  `tile/${level}/${numberPath(index)}${partialSuffix(width)}`;

/** The bundle with the entries of the same range as tile (0, index). */
export const bundlePath = (index: number, width: number): string =>
  `tile/entries/${numberPath(index)}${partialSuffix(width)}`;

/** How many hashes level `8 × level` has in a tree of `size`. */
const hashesAt = (size: number, level: number): number => Math.floor(size / tileWidth ** level);

/** The tiles of a tree of `to` entries that a tree of `from` entries did not have in this width. */
export const tilesBetween = (from: number, to: number): TileId[] => {
  const tiles: TileId[] = [];
  for (let level = 0; hashesAt(to, level) > 0; level += 1) {
    const count = hashesAt(to, level);
    if (count === hashesAt(from, level)) continue;
    for (let index = Math.floor(hashesAt(from, level) / tileWidth); index * tileWidth < count; index += 1) {
      tiles.push({ level, index, width: Math.min(tileWidth, count - index * tileWidth) });
    }
  }
  return tiles;
};

/** All tiles of a tree of `size`. */
export const tilesOf = (size: number): TileId[] => tilesBetween(0, size);

/** The root of a complete subtree over a power of two of hashes. */
export const completeRoot = (crypto: Pick<Crypto, 'sha256'>, hashes: readonly Uint8Array[]): Uint8Array => {
  let row = [...hashes];
  while (row.length > 1) {
    const next: Uint8Array[] = [];
    for (let index = 0; index < row.length; index += 2) {
      next.push(nodeHash(crypto, orNothing(row[index]), orNothing(row[index + 1])));
    }
    row = next;
  }
  return orNothing(row[0]);
};

/** Splits the bytes of a tile into its hashes. */
export const hashesOfTile = (tile: Uint8Array, width: number): Checked<Uint8Array[]> => {
  if (tile.length !== width * hashBytes)
    return bad(`a tile of ${width} hashes has ${width * hashBytes} bytes, not ${tile.length}`);
  return good(Array.from({ length: width }, (_, index) => tile.subarray(index * hashBytes, (index + 1) * hashBytes)));
};

export const encodeBundle = (entries: readonly Uint8Array[]): Uint8Array =>
  concat(...entries.flatMap((entry) => [u16(entry.length), entry]));

/** Splits the bytes of a bundle into its entries. */
export const decodeBundle = (bundle: Uint8Array): Checked<Uint8Array[]> => {
  const entries: Uint8Array[] = [];
  let offset = 0;
  while (offset < bundle.length) {
    const length = Number(bundle[offset]) * 256 + Number(bundle[offset + 1]); // no number when half of it is missing
    if (!(offset + 2 + length <= bundle.length)) return bad('the bundle ends inside an entry');
    entries.push(bundle.subarray(offset + 2, offset + 2 + length));
    offset += 2 + length;
  }
  return good(entries);
};

/** Hashes of one tile of a tree; `undefined` when the tile is not there. */
export type ReadTile = (tile: TileId) => readonly Uint8Array[] | undefined;

/**
 * Subtree roots of a tree of `size` read from its tiles, for paths and proofs.
 *
 * @returns a function that gives `undefined`-free roots, or throws `RangeError` when a tile that it needs is missing:
 * fetch those of `tilesForPath` first.
 */
export const subtreesFromTiles = (crypto: Pick<Crypto, 'sha256'>, size: number, read: ReadTile): SubtreeRoot => {
  const tileAt = (level: number, index: number): readonly Uint8Array[] => {
    const width = Math.min(tileWidth, hashesAt(size, level) - index * tileWidth);
    const hashes = read({ level, index, width });
    if (hashes === undefined) throw new RangeError(`${tilePath({ level, index, width })} is needed and missing`);
    return hashes;
  };
  const complete = (begin: number, count: number): Uint8Array => {
    const level = Math.floor(Math.log2(count) / tileHeight);
    const unit = tileWidth ** level;
    const first = begin / unit;
    const hashes = tileAt(level, Math.floor(first / tileWidth));
    const from = first % tileWidth;
    return completeRoot(crypto, hashes.slice(from, from + count / unit));
  };
  const root: SubtreeRoot = (begin, count) => {
    let k = 1;
    while (k * 2 <= count) k *= 2;
    return k === count ? complete(begin, k) : nodeHash(crypto, complete(begin, k), root(begin + k, count - k));
  };
  return root;
};
