import { encodeRlp, type Rlp } from './rlp.ts';

/** A Merkle Patricia trie over a block's receipts, built whole: for its root, and for the path to one of them. */

interface TrieTools {
  readonly keccak256: (bytes: Uint8Array) => Uint8Array;
}

interface Entry {
  /** What is left of the key, in nibbles. */
  readonly path: readonly number[];
  readonly value: Uint8Array;
}

interface Node {
  readonly raw: Uint8Array;
  readonly item: Rlp;
  /** The child on the way to a key, and what is left of it; undefined where the way ends. */
  readonly next: (path: readonly number[]) => { readonly node: Node; readonly path: readonly number[] } | undefined;
}

export interface Trie {
  readonly root: Uint8Array;
  /** The nodes from the root to a key, as their parents name them: those shorter than a hash stand in their parent. */
  readonly pathTo: (key: Uint8Array) => readonly Uint8Array[];
}

const nibblesOf = (bytes: Uint8Array): number[] => [...bytes].flatMap((byte) => [byte >> 4, byte & 15]);

/** Hex-prefix encoding of a leaf's or extension's path. */
const encodePath = (path: readonly number[], isLeaf: boolean): Uint8Array => {
  const flag = isLeaf ? 2 : 0;
  const nibbles = path.length % 2 === 0 ? [flag, 0, ...path] : [flag + 1, ...path];
  return Uint8Array.from(
    { length: nibbles.length / 2 },
    (_, at) => 16 * (nibbles[2 * at] ?? 0) + (nibbles[2 * at + 1] ?? 0),
  );
};

const nodeOf = (item: Rlp, next: Node['next'] = () => undefined): Node => ({ raw: encodeRlp(item), item, next });

const hashBytes = 32;
const empty = new Uint8Array(0);

const sharedLength = (entries: readonly Entry[]): number => {
  const [first, ...others] = entries;
  let length = 0;
  while (first !== undefined && length < first.path.length) {
    const nibble = first.path[length];
    if (others.some(({ path }) => path[length] !== nibble)) break;
    length += 1;
  }
  return length;
};

const shorter = (entries: readonly Entry[], by: number): Entry[] =>
  entries.map(({ path, value }) => ({ path: path.slice(by), value }));

const referenceTo = ({ keccak256 }: TrieTools, node: Node): Rlp =>
  node.raw.length < hashBytes ? node.item : keccak256(node.raw);

const branchOf = (tools: TrieTools, entries: readonly Entry[]): Node => {
  const children = Array.from({ length: 16 }, (_, nibble) => {
    const below = entries.filter(({ path }) => path[0] === nibble);
    return below.length === 0 ? undefined : buildNode(tools, shorter(below, 1));
  });
  const item = [...children.map((child) => (child === undefined ? empty : referenceTo(tools, child))), empty];
  return nodeOf(item, ([nibble, ...path]) => {
    const node = nibble === undefined ? undefined : children[nibble];
    return node && { node, path };
  });
};

const buildNode = (tools: TrieTools, entries: readonly Entry[]): Node => {
  const [only] = entries;
  if (only !== undefined && entries.length === 1) return nodeOf([encodePath(only.path, true), only.value]);
  const shared = sharedLength(entries);
  if (shared === 0) return branchOf(tools, entries);
  const child = branchOf(tools, shorter(entries, shared));
  const prefix = encodePath(only?.path.slice(0, shared) ?? [], false);
  return nodeOf([prefix, referenceTo(tools, child)], (path) => ({ node: child, path: path.slice(shared) }));
};

/** The key of the receipt at `index` of its block. */
export const receiptKey = (index: number): Uint8Array => {
  const digits: number[] = [];
  for (let rest = index; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256);
  return encodeRlp(Uint8Array.from(digits));
};

/** Builds the trie of `values` under the RLP of their index. No key of it is a beginning of another. */
export const buildTrie = (tools: TrieTools, values: readonly Uint8Array[]): Trie => {
  const entries = values.map((value, index) => ({ path: nibblesOf(receiptKey(index)), value }));
  const root = entries.length === 0 ? nodeOf(empty) : buildNode(tools, entries);
  return {
    root: tools.keccak256(root.raw),
    pathTo: (key) => {
      const nodes = [root.raw];
      for (let step = root.next(nibblesOf(key)); step !== undefined; step = step.node.next(step.path)) {
        if (step.node.raw.length >= hashBytes) nodes.push(step.node.raw);
      }
      return nodes;
    },
  };
};
