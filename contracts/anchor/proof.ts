import { fromBase64, sameBytes, toHex, utf8 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { bad, type Checked, good } from '../ledger/forms.ts';
import type { Checkpoint } from '../ledger/note.ts';
import type { EvmAnchor, TrustFile } from '../ledger/receipt.ts';
import type { AnchorVerdict } from '../ledger/verify.ts';
import { decodeRlp, isBytes, isList, type Rlp } from './rlp.ts';

/**
 * The offline proof that a checkpoint's root stands in a block of a chain (anchoring §6). By itself it proves nothing:
 * anybody can make a header, a trie and a receipt that fit. It counts only when the reader trusts the block's hash.
 */

export interface AnchorTools extends Pick<Crypto, 'sha256'> {
  readonly keccak256: (bytes: Uint8Array) => Uint8Array;
}

/** Topic 0 of `Anchored(bytes32,uint64,bytes32,bytes32)`. */
export const anchoredTopic = '0xe0fefe2c385c268b407afff2ad80d6521edf6409537f95b897f228a08e900205';

/** `SHA-256` of the origin: how a log is named on a chain (anchoring §2). */
export const logIdOf = ({ sha256 }: Pick<Crypto, 'sha256'>, origin: string): Uint8Array => sha256(utf8(origin));

const hex = (bytes: Uint8Array): string => `0x${toHex(bytes)}`;

const nibblesOf = (bytes: Uint8Array): number[] => [...bytes].flatMap((byte) => [byte >> 4, byte & 15]);

/** The nibbles of a leaf's or extension's path, and whether it is a leaf (hex-prefix encoding). */
const decodePath = (encoded: Uint8Array): { readonly nibbles: number[]; readonly isLeaf: boolean } | undefined => {
  const [flag = 16, second = 16, ...rest] = nibblesOf(encoded);
  if (flag > 3 || (flag % 2 === 0 && second !== 0)) return undefined;
  return { nibbles: flag % 2 === 0 ? rest : [second, ...rest], isLeaf: flag >= 2 };
};

type Hop =
  | { readonly kind: 'node'; readonly reference: Rlp; readonly used: number }
  | { readonly kind: 'value'; readonly value: Uint8Array };

const branchHop = (node: readonly Rlp[], key: readonly number[]): Hop | undefined => {
  const [nibble] = key;
  const target = nibble === undefined ? node[16] : node[nibble];
  if (target === undefined || (isBytes(target) && target.length === 0)) return undefined;
  if (nibble !== undefined) return { kind: 'node', reference: target, used: 1 };
  return isBytes(target) ? { kind: 'value', value: target } : undefined;
};

const shortHop = (node: readonly Rlp[], key: readonly number[]): Hop | undefined => {
  const [encoded, target] = node;
  const path = isBytes(encoded) ? decodePath(encoded) : undefined;
  if (path === undefined || target === undefined) return undefined;
  if (path.nibbles.some((nibble, index) => nibble !== key[index])) return undefined;
  if (!path.isLeaf)
    return path.nibbles.length === 0 ? undefined : { kind: 'node', reference: target, used: path.nibbles.length };
  return path.nibbles.length === key.length && isBytes(target) ? { kind: 'value', value: target } : undefined;
};

const hopFrom = (node: Rlp, key: readonly number[]): Hop | undefined => {
  if (!isList(node)) return undefined;
  if (node.length === 17) return branchHop(node, key);
  return node.length === 2 ? shortHop(node, key) : undefined;
};

const maxHops = 130;

/** The value under `key` in the Merkle Patricia trie with this root, by the nodes of a proof; all of them must be needed. */
const valueInTrie = (
  { keccak256 }: AnchorTools,
  trie: { readonly root: Uint8Array; readonly key: Uint8Array },
  nodes: readonly Uint8Array[],
): Uint8Array | undefined => {
  const unused = [...nodes];
  const resolve = (reference: Rlp): Rlp | undefined => {
    if (!isBytes(reference)) return reference; // a node shorter than its hash stands in its parent
    const raw = unused.shift();
    return raw !== undefined && sameBytes(keccak256(raw), reference) ? decodeRlp(raw) : undefined;
  };
  let rest: readonly number[] = nibblesOf(trie.key);
  let reference: Rlp = trie.root;
  for (let hops = 0; hops < maxHops; hops += 1) {
    const node = resolve(reference);
    const hop = node === undefined ? undefined : hopFrom(node, rest);
    if (hop === undefined) return undefined;
    if (hop.kind === 'value') return unused.length === 0 ? hop.value : undefined;
    rest = rest.slice(hop.used);
    reference = hop.reference;
  }
  return undefined;
};

/** The logs of a successful receipt, typed (EIP-2718) or not. */
const logsOf = (receipt: Uint8Array): Checked<readonly Rlp[]> => {
  const typed = (receipt[0] ?? 0) < 0x80;
  const fields = decodeRlp(typed ? receipt.subarray(1) : receipt);
  if (!isList(fields) || fields.length !== 4) return bad('the receipt cannot be read');
  const [status, , , logs] = fields;
  if (!isBytes(status) || status.length !== 1 || status[0] !== 1) return bad('the transaction did not succeed');
  return isList(logs) ? good(logs) : bad('the receipt has no logs');
};

interface AnchoredEvent {
  readonly contract: string;
  readonly topics: readonly string[];
  readonly data: Uint8Array;
}

const readLog = (log: Rlp | undefined): AnchoredEvent | undefined => {
  if (!isList(log) || log.length !== 3) return undefined;
  const [address, topics, data] = log;
  if (!isBytes(address) || !isList(topics) || !isBytes(data)) return undefined;
  return { contract: hex(address), topics: topics.filter(isBytes).map(hex), data };
};

/** The four topics of the event that anchors a checkpoint: what a node is asked for, and what a proof must show. */
export const anchoredTopics = (
  tools: Pick<Crypto, 'sha256'>,
  { origin, size, root }: Checkpoint,
): readonly [event: string, logId: string, size: string, root: string] => [
  anchoredTopic,
  hex(logIdOf(tools, origin)),
  `0x${size.toString(16).padStart(64, '0')}`,
  hex(root),
];

const checkEvent = (
  tools: AnchorTools,
  event: AnchoredEvent,
  anchor: EvmAnchor,
  checkpoint: Checkpoint,
): string | undefined => {
  if (event.contract !== anchor.contract) return 'the event is of another contract';
  const [wantedTopic, wantedLog, wantedSize, wantedRoot] = anchoredTopics(tools, checkpoint);
  const [topic, logId, size, root, ...more] = event.topics;
  if (topic !== wantedTopic || more.length > 0 || event.data.length !== 32) return 'the event is not an anchor';
  if (logId !== wantedLog) return 'the event is about another log';
  return size === wantedSize && root === wantedRoot
    ? undefined
    : 'the event has another size or root than the checkpoint';
};

interface Header {
  readonly blockHash: string;
  readonly receiptsRoot: Uint8Array;
  readonly number: string;
}

const readHeader = ({ keccak256 }: AnchorTools, header: Uint8Array): Header | undefined => {
  const fields = decodeRlp(header);
  if (!isList(fields) || fields.length < 15) return undefined;
  const receiptsRoot = fields[5];
  const number = fields[8];
  if (!isBytes(receiptsRoot) || receiptsRoot.length !== 32 || !isBytes(number) || number.length > 8) return undefined;
  return { blockHash: hex(keccak256(header)), receiptsRoot, number: BigInt(`0x0${toHex(number)}`).toString() };
};

const checkProof = (tools: AnchorTools, anchor: EvmAnchor, checkpoint: Checkpoint): Checked<Header> => {
  const [headerBytes, key, ...nodes] = [anchor.header, anchor.key, ...anchor.nodes].map(
    (text) => fromBase64(text) ?? new Uint8Array(0),
  );
  if (headerBytes === undefined || key === undefined) return bad('the proof is empty');
  const header = readHeader(tools, headerBytes);
  if (header === undefined) return bad('the block header cannot be read');
  const receipt = valueInTrie(tools, { root: header.receiptsRoot, key }, nodes);
  if (receipt === undefined) return bad('the receipt does not stand in the block');
  const logs = logsOf(receipt);
  if (!logs.ok) return logs;
  const event = readLog(logs.value[Number(anchor.logIndex)]);
  if (event === undefined) return bad('the receipt has no such event');
  const fault = checkEvent(tools, event, anchor, checkpoint);
  return fault === undefined ? good(header) : bad(fault);
};

/**
 * Checks an anchor offline (anchoring §6): header, receipt, event, checkpoint, and whether the reader's trust file holds
 * the block's hash for this chain and contract. Only `authenticated` counts as an anchor.
 */
export const verifyAnchor = (
  tools: AnchorTools,
  anchor: EvmAnchor,
  checkpoint: Checkpoint,
  chains: TrustFile['chains'],
): AnchorVerdict => {
  const proof = checkProof(tools, anchor, checkpoint);
  if (!proof.ok) return { state: 'failed', reason: proof.reason };
  const { blockHash, number } = proof.value;
  const trusted = chains.some(
    (chain) =>
      chain.chainId === anchor.chainId && chain.contract === anchor.contract && chain.blocks.includes(blockHash),
  );
  return trusted
    ? { state: 'authenticated', reason: `block ${number} ${blockHash}` }
    : { state: 'consistent', reason: `block ${number} ${blockHash} is not one that the trust file vouches for` };
};
