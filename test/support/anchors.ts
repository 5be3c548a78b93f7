import { createMerkleProof, createMPT } from '@ethereumjs/mpt';
import { RLP } from '@ethereumjs/rlp';
import { anchoredTopic, logIdOf } from '../../contracts/anchor/proof.ts';
import { concat, toBase64, toHex } from '../../contracts/bytes.ts';
import type { Checkpoint } from '../../contracts/ledger/note.ts';
import type { EvmAnchor, TrustFile } from '../../contracts/ledger/receipt.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';

/** Blocks, tries and receipts made with an independent implementation of the chain's own formats. */

export const anchorContract = new Uint8Array(20).fill(0xab);
export const bytes32 = (value: bigint) => Buffer.from(value.toString(16).padStart(64, '0'), 'hex');

export interface ReceiptParts {
  readonly status?: number;
  readonly address?: Uint8Array;
  readonly topics?: readonly Uint8Array[];
  readonly data?: Uint8Array;
  readonly typed?: boolean;
}

/** The topics of the event that anchors a checkpoint. */
export const anchorTopics = ({ origin, size, root }: Checkpoint): readonly Uint8Array[] => [
  Buffer.from(anchoredTopic.slice(2), 'hex'),
  logIdOf(nodeCrypto, origin),
  bytes32(BigInt(size)),
  root,
];

/** A transaction receipt with one log, as the chain encodes it. */
export const encodeReceipt = ({
  status = 1,
  address = anchorContract,
  topics = [],
  data = new Uint8Array(32),
  typed = true,
}: ReceiptParts): Uint8Array => {
  const log = [address, [...topics], data];
  const body = RLP.encode([
    status === 0 ? new Uint8Array(0) : Uint8Array.of(status),
    Uint8Array.of(0x52, 0x08),
    new Uint8Array(256),
    [log],
  ]);
  return typed ? concat(Uint8Array.of(2), body) : body;
};

/** The proof that the receipt at this position stands in a block, and the block's hash. */
export const makeAnchor = async (
  receipts: readonly Uint8Array[],
  position: number,
  changes: Partial<EvmAnchor> = {},
): Promise<{ readonly anchor: EvmAnchor; readonly blockHash: string }> => {
  const trie = await createMPT({ useKeyHashing: false });
  const keyOf = (index: number) => RLP.encode(index);
  for (const [index, receipt] of receipts.entries()) await trie.put(keyOf(index), receipt);
  const header: Uint8Array[] = Array.from({ length: 21 }, (_, field) => new Uint8Array(32).fill(field + 1));
  header[5] = trie.root();
  header[8] = Uint8Array.of(0x01, 0x00);
  const encoded = RLP.encode(header);
  const proof = await createMerkleProof(trie, keyOf(position));
  const anchor: EvmAnchor = {
    kind: 'evm',
    chainId: '31337',
    contract: `0x${toHex(anchorContract)}`,
    header: toBase64(encoded),
    key: toBase64(keyOf(position)),
    nodes: proof.map((node) => toBase64(node)),
    logIndex: '0',
    later: null,
    ...changes,
  };
  return { anchor, blockHash: `0x${toHex(keccak256(encoded))}` };
};

/** The chains of a trust file that vouches for this block. */
export const trustIn = (blockHash: string): TrustFile['chains'] => [
  { chainId: '31337', contract: `0x${toHex(anchorContract)}`, blocks: [blockHash] },
];
