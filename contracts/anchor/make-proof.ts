import { z } from 'zod';
import { concat, fromHex, orNothing, sameBytes, toBase64 } from '../bytes.ts';
import { bad, type Checked, good } from '../ledger/forms.ts';
import type { Checkpoint } from '../ledger/note.ts';
import type { EvmAnchor } from '../ledger/receipt.ts';
import { type AnchorTools, anchoredTopics, verifyAnchor } from './proof.ts';
import { encodeRlp, type Rlp } from './rlp.ts';
import { buildTrie, receiptKey } from './trie.ts';

/**
 * Making the offline proof of an anchor (anchoring §6) out of what a node says of a block. The node is not believed: the
 * receipts must rebuild the root that the header names, the header must hash to the block, and the finished proof must
 * verify; otherwise there is no proof. A new fork that adds a header field ends here, and not in a bad proof.
 */

const quantity = z.string().regex(/^0x(0|[1-9a-f][0-9a-f]{0,63})$/, 'is no quantity');
const data = z.string().regex(/^0x([0-9a-f]{2})*$/, 'is no lower-case hex');
const hash = z.string().regex(/^0x[0-9a-f]{64}$/, 'is no hash');
const address = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}$/, 'is no address')
  .toLowerCase();

/** A block as a node gives it; what is not in its header is left out. */
export const chainBlock = z.object({
  hash,
  parentHash: hash,
  sha3Uncles: hash,
  miner: address,
  stateRoot: hash,
  transactionsRoot: hash,
  receiptsRoot: hash,
  logsBloom: data,
  difficulty: quantity,
  number: quantity,
  gasLimit: quantity,
  gasUsed: quantity,
  timestamp: quantity,
  extraData: data,
  mixHash: hash,
  nonce: data,
  baseFeePerGas: quantity.optional(),
  withdrawalsRoot: hash.optional(),
  blobGasUsed: quantity.optional(),
  excessBlobGas: quantity.optional(),
  parentBeaconBlockRoot: hash.optional(),
  requestsHash: hash.optional(),
});
export type ChainBlock = z.infer<typeof chainBlock>;

export const chainReceipt = z.object({
  transactionHash: hash,
  transactionIndex: quantity,
  blockHash: hash,
  blockNumber: quantity,
  type: quantity,
  status: quantity,
  cumulativeGasUsed: quantity,
  logsBloom: data,
  logs: z.array(z.object({ address, topics: z.array(hash).max(4), data })),
});
export type ChainReceipt = z.infer<typeof chainReceipt>;

const bytesOf = (text: string): Uint8Array => orNothing(fromHex(text.slice(2)));

/** A number without leading zeros; zero is no byte at all. */
const numberOf = (text: string): Uint8Array => {
  const digits = text.slice(2);
  if (digits === '0') return new Uint8Array(0);
  return orNothing(fromHex(digits.length % 2 === 0 ? digits : `0${digits}`));
};

/** The header's fields in their order, the later forks' at the end. */
const headerOf = (block: ChainBlock): readonly Rlp[] => {
  const later = [
    block.baseFeePerGas && numberOf(block.baseFeePerGas),
    block.withdrawalsRoot && bytesOf(block.withdrawalsRoot),
    block.blobGasUsed && numberOf(block.blobGasUsed),
    block.excessBlobGas && numberOf(block.excessBlobGas),
    block.parentBeaconBlockRoot && bytesOf(block.parentBeaconBlockRoot),
    block.requestsHash && bytesOf(block.requestsHash),
  ];
  return [
    bytesOf(block.parentHash),
    bytesOf(block.sha3Uncles),
    bytesOf(block.miner),
    bytesOf(block.stateRoot),
    bytesOf(block.transactionsRoot),
    bytesOf(block.receiptsRoot),
    bytesOf(block.logsBloom),
    numberOf(block.difficulty),
    numberOf(block.number),
    numberOf(block.gasLimit),
    numberOf(block.gasUsed),
    numberOf(block.timestamp),
    bytesOf(block.extraData),
    bytesOf(block.mixHash),
    bytesOf(block.nonce),
    ...later.filter((field) => field instanceof Uint8Array),
  ];
};

const encodeReceipt = (receipt: ChainReceipt): Uint8Array => {
  const body = encodeRlp([
    numberOf(receipt.status),
    numberOf(receipt.cumulativeGasUsed),
    bytesOf(receipt.logsBloom),
    receipt.logs.map((log) => [bytesOf(log.address), log.topics.map(bytesOf), bytesOf(log.data)]),
  ]);
  const type = numberOf(receipt.type);
  return type.length === 0 ? body : concat(type, body);
};

/** What a node says of the block that an anchor stands in. */
export interface BlockEvidence {
  readonly block: ChainBlock;
  /** All of the block, in order. */
  readonly receipts: readonly ChainReceipt[];
}

export interface AnchorPlace {
  readonly chainId: string;
  /** Lower case. */
  readonly contract: string;
  readonly transaction: string;
}

/** Which log of a receipt anchors the checkpoint, or -1. */
export const anchoredLogIndex = (
  tools: Pick<AnchorTools, 'sha256'>,
  receipt: ChainReceipt,
  { contract }: Pick<AnchorPlace, 'contract'>,
  checkpoint: Checkpoint,
): number => {
  const wanted = anchoredTopics(tools, checkpoint).join();
  return receipt.logs.findIndex((log) => log.address === contract && log.topics.join() === wanted);
};

/**
 * The proof that a checkpoint is anchored in a block, or why there is none.
 *
 * @returns a proof that was verified with `verifyAnchor` for exactly this block.
 */
export const makeAnchorProof = (
  tools: AnchorTools,
  { block, receipts }: BlockEvidence,
  place: AnchorPlace,
  checkpoint: Checkpoint,
): Checked<EvmAnchor> => {
  const trie = buildTrie(tools, receipts.map(encodeReceipt));
  if (!sameBytes(trie.root, bytesOf(block.receiptsRoot)))
    return bad('the receipts of the block do not lead to the root in its header');
  const header = encodeRlp(headerOf(block));
  if (!sameBytes(tools.keccak256(header), bytesOf(block.hash)))
    return bad('the header of the block does not hash to it: a field is missing, or changed');
  const index = receipts.findIndex(({ transactionHash }) => transactionHash === place.transaction);
  const receipt = receipts[index];
  if (receipt === undefined) return bad('the transaction is not in the block');
  const key = receiptKey(index);
  const anchor: EvmAnchor = {
    kind: 'evm',
    chainId: place.chainId,
    contract: place.contract,
    header: toBase64(header),
    key: toBase64(key),
    nodes: trie.pathTo(key).map(toBase64),
    logIndex: String(Math.max(0, anchoredLogIndex(tools, receipt, place, checkpoint))),
    later: null,
  };
  const chains = [{ chainId: place.chainId, contract: place.contract, blocks: [block.hash] }];
  const verdict = verifyAnchor(tools, anchor, checkpoint, chains);
  return verdict.state === 'authenticated' ? good(anchor) : bad(verdict.reason);
};
