import { fromBase64Url, sameBytes, toBase64Url } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { nodeHash } from './tree.ts';

/**
 * Verifies many inclusion paths against one root at the cost of about one tree: a node that led to the root once is
 * known, and later paths only have to agree with it, character by character.
 */
export interface PathMemo {
  /** Whether `leaf` is number `index` by this path; every hash of the path must be the right one. */
  readonly includes: (leaf: Uint8Array, index: number, path: readonly string[]) => boolean;
}

interface Walk {
  level: number;
  f: number;
  s: number;
}

/** A place in the tree as one number: levels stay below 64, indexes below 2^40. */
const placeOf = (level: number, index: number): number => level * 2 ** 40 + index;

const up = (walk: Walk): void => {
  walk.level += 1;
  walk.f = Math.floor(walk.f / 2);
  walk.s = Math.floor(walk.s / 2);
};

/** Moves to the level where the walk meets its next sibling, and gives the sibling's index there. */
const siblingOf = (walk: Walk): number => {
  if (walk.f % 2 === 0 && walk.f !== walk.s) return walk.f + 1;
  while (walk.f % 2 === 0 && walk.f !== 0) up(walk);
  return walk.f - 1;
};

export const createPathMemo = (crypto: Pick<Crypto, 'sha256'>, size: number, root: Uint8Array): PathMemo => {
  const known = new Map<number, string>();

  /** Whether the rest of a path repeats what is known. A known node was on a whole path, so all of its rest is known. */
  const agrees = (walk: Walk, path: readonly string[], from: number): boolean => {
    for (let step = from; step < path.length; step += 1) {
      if (walk.s === 0) return false;
      const at = siblingOf(walk); // moves the walk to its sibling's level first
      if (known.get(placeOf(walk.level, at)) !== path[step]) return false;
      up(walk);
    }
    return walk.s === 0;
  };

  const remember = (seen: readonly (readonly [number, string])[]): true => {
    for (const [place, text] of seen) known.set(place, text);
    return true;
  };

  /** One step up: what was met on the way, and the parent's hash. Undefined when there is no step to take. */
  const step = (walk: Walk, hash: Uint8Array, text: string, seen: [number, string][]): Uint8Array | undefined => {
    const sibling = fromBase64Url(text);
    if (walk.s === 0 || sibling === undefined) return undefined;
    const at = siblingOf(walk);
    seen.push([placeOf(walk.level, walk.f), toBase64Url(hash)], [placeOf(walk.level, at), text]); // under the name its sibling knows it by
    const parent = at < walk.f ? nodeHash(crypto, sibling, hash) : nodeHash(crypto, hash, sibling);
    up(walk);
    return parent;
  };

  return {
    includes: (leaf, index, path) => {
      if (index < 0 || index >= size) return false;
      const walk: Walk = { level: 0, f: index, s: size - 1 };
      const seen: [number, string][] = [];
      let hash = leaf;
      for (const [place, text] of path.entries()) {
        const own = toBase64Url(hash);
        const have = known.get(placeOf(walk.level, walk.f));
        if (have !== undefined) return have === own && agrees(walk, path, place) && remember(seen);
        seen.push([placeOf(walk.level, walk.f), own]);
        const parent = step(walk, hash, text, seen);
        if (parent === undefined) return false;
        hash = parent;
      }
      return walk.s === 0 && sameBytes(hash, root) && remember(seen);
    },
  };
};
