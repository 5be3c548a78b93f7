import { concat, sameBytes } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';

/**
 * The Merkle tree of RFC 6962 §2 (ledger §3), for records in a statement and for entries in the log. Sizes and indexes
 * are plain numbers below 2^53; halving is arithmetic, because `>>` would cut them to 32 bits.
 */

type Hash = Uint8Array;
type Sha256 = Pick<Crypto, 'sha256'>;

const leafPrefix = Uint8Array.of(0);
const nodePrefix = Uint8Array.of(1);

/** `H(0x00 || entry)` */
export const leafHash = ({ sha256 }: Sha256, entry: Uint8Array): Hash => sha256(concat(leafPrefix, entry));

/** `H(0x01 || left || right)` */
export const nodeHash = ({ sha256 }: Sha256, left: Hash, right: Hash): Hash => sha256(concat(nodePrefix, left, right));

/** `H("")` */
export const emptyRoot = ({ sha256 }: Sha256): Hash => sha256(new Uint8Array(0));

/** One complete subtree on the stack of an appending tree. */
export interface Peak {
  readonly level: number;
  readonly hash: Hash;
}

/** The stack after one more leaf; the caller's stack is left as it is. */
export const appendLeaf = (crypto: Sha256, stack: readonly Peak[], leaf: Hash): readonly Peak[] => {
  const next = [...stack];
  let peak: Peak = { level: 0, hash: leaf };
  for (let top = next.at(-1); top !== undefined && top.level === peak.level; top = next.at(-1)) {
    next.pop();
    peak = { level: peak.level + 1, hash: nodeHash(crypto, top.hash, peak.hash) };
  }
  next.push(peak);
  return next;
};

/** The root that a stack stands for: folded from the right. */
export const rootOfStack = (crypto: Sha256, stack: readonly Peak[]): Hash => {
  const [last, ...rest] = stack.toReversed();
  if (last === undefined) return emptyRoot(crypto);
  return rest.reduce((root, peak) => nodeHash(crypto, peak.hash, root), last.hash);
};

/** How many leaves a stack holds. */
export const sizeOfStack = (stack: readonly Peak[]): number => stack.reduce((size, peak) => size + 2 ** peak.level, 0);

const largestPowerBelow = (n: number): number => {
  let k = 1;
  while (k * 2 < n) k *= 2;
  return k;
};

/** Where hashes of whole subtrees come from: a list of leaves, or tiles. `begin` is a multiple of `count` unless the subtree is the right edge. */
export type SubtreeRoot = (begin: number, count: number) => Hash;

/** Subtree roots of a list of leaf hashes; complete ones are remembered, so that all paths together cost one tree. */
export const subtreesOf = (crypto: Sha256, leaves: readonly Hash[]): SubtreeRoot => {
  const known = new Map<string, Hash>();
  const root: SubtreeRoot = (begin, count) => {
    const leaf = leaves[begin];
    if (count === 0 || leaf === undefined) return emptyRoot(crypto);
    if (count === 1) return leaf;
    const name = `${begin}/${count}`;
    const found = known.get(name);
    if (found !== undefined) return found;
    const k = largestPowerBelow(count);
    const hash = nodeHash(crypto, root(begin, k), root(begin + k, count - k));
    known.set(name, hash);
    return hash;
  };
  return root;
};

/** The root over a list of leaf hashes. */
export const rootOf = (crypto: Sha256, leaves: readonly Hash[]): Hash =>
  rootOfStack(
    crypto,
    leaves.reduce<readonly Peak[]>((stack, leaf) => appendLeaf(crypto, stack, leaf), []),
  );

/** The inclusion path of leaf `index` in a tree of `size`, from the leaf's sibling up (ledger §3 `path`). */
export const inclusionPath = (subtree: SubtreeRoot, index: number, size: number): Hash[] => {
  const path: Hash[] = [];
  let begin = 0;
  let count = size;
  while (count > 1) {
    const k = largestPowerBelow(count);
    if (index - begin < k) {
      path.push(subtree(begin + k, count - k));
      count = k;
    } else {
      path.push(subtree(begin, k));
      begin += k;
      count -= k;
    }
  }
  return path.reverse();
};

/** The consistency proof from size `from` to size `to` (ledger §3 `cons`); empty from the empty tree. */
export const consistencyProof = (subtree: SubtreeRoot, from: number, to: number): Hash[] => {
  if (from === 0) return [];
  const proof: Hash[] = [];
  let m = from;
  let begin = 0;
  let count = to;
  let whole = true;
  while (m !== count) {
    const k = largestPowerBelow(count);
    if (m <= k) {
      proof.push(subtree(begin + k, count - k));
      count = k;
    } else {
      proof.push(subtree(begin, k));
      begin += k;
      m -= k;
      count -= k;
      whole = false;
    }
  }
  if (!whole) proof.push(subtree(begin, count));
  return proof.reverse();
};

/**
 * On which side each hash of a proof stands, from `f` of `0…s` up to the root: `left` of both, or `right`.
 * Undefined when a proof of `steps` hashes does not end at the root.
 */
const sidesOf = (
  start: { readonly f: number; readonly s: number },
  steps: number,
): ('left' | 'right')[] | undefined => {
  let { f, s } = start;
  const sides: ('left' | 'right')[] = [];
  const up = () => {
    f = Math.floor(f / 2);
    s = Math.floor(s / 2);
  };
  for (let step = 0; step < steps; step += 1) {
    if (s === 0) return undefined;
    const isLeft = f % 2 === 1 || f === s;
    sides.push(isLeft ? 'left' : 'right');
    if (isLeft) while (f % 2 === 0 && f !== 0) up(); // a right edge without siblings goes up unchanged
    up();
  }
  return s === 0 ? sides : undefined;
};

/** The root that leaf `index` of `size` leads to by `path`, or undefined when the path cannot be one (ledger §3 `included`). */
export const rootByPath = (
  crypto: Sha256,
  leaf: Hash,
  place: { readonly index: number; readonly size: number },
  path: readonly Hash[],
): Hash | undefined => {
  if (place.index >= place.size || place.index < 0) return undefined;
  const sides = sidesOf({ f: place.index, s: place.size - 1 }, path.length);
  return sides && path.reduce((hash, sibling, step) => join(crypto, sides[step], hash, sibling), leaf);
};

const join = (crypto: Sha256, side: 'left' | 'right' | undefined, hash: Hash, sibling: Hash): Hash =>
  side === 'left' ? nodeHash(crypto, sibling, hash) : nodeHash(crypto, hash, sibling);

/** Whether `leaf` is number `index` of the tree of `size` with `root`. */
export const isIncluded = (
  crypto: Sha256,
  leaf: Hash,
  proof: { readonly index: number; readonly size: number; readonly path: readonly Hash[]; readonly root: Hash },
): boolean => {
  const root = rootByPath(crypto, leaf, proof, proof.path);
  return root !== undefined && sameBytes(root, proof.root);
};

interface SizedRoot {
  readonly size: number;
  readonly root: Hash;
}

const isPowerOfTwo = (n: number): boolean => Number.isInteger(Math.log2(n));

/** Whether the tree `later` extends the tree `earlier` (ledger §3 `consistent`). */
export const isConsistent = (crypto: Sha256, earlier: SizedRoot, later: SizedRoot, proof: readonly Hash[]): boolean => {
  if (earlier.size > later.size) return false;
  if (earlier.size === later.size) return proof.length === 0 && sameBytes(earlier.root, later.root);
  if (earlier.size === 0) return proof.length === 0 && sameBytes(earlier.root, emptyRoot(crypto));
  const [first, ...rest] = isPowerOfTwo(earlier.size) ? [earlier.root, ...proof] : proof;
  if (first === undefined) return false;
  let f = earlier.size - 1;
  let s = later.size - 1;
  while (f % 2 === 1) {
    f = Math.floor(f / 2);
    s = Math.floor(s / 2);
  }
  const sides = sidesOf({ f, s }, rest.length);
  if (sides === undefined) return false;
  let before = first;
  let after = first;
  for (const [step, hash] of rest.entries()) {
    if (sides[step] === 'left') before = nodeHash(crypto, hash, before);
    after = join(crypto, sides[step], after, hash);
  }
  return sameBytes(before, earlier.root) && sameBytes(after, later.root);
};
