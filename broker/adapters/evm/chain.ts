import type { Interface } from 'ethers';
import { z } from 'zod';
import { anchorAbi } from '../../../contracts/anchor/contract.ts';
import {
  anchoredLogIndex,
  type BlockEvidence,
  type ChainReceipt,
  chainBlock,
  chainReceipt,
} from '../../../contracts/anchor/make-proof.ts';
import { anchoredTopics, logIdOf } from '../../../contracts/anchor/proof.ts';
import { toHex } from '../../../contracts/bytes.ts';
import { AppError } from '../../../contracts/errors.ts';
import { nodeCrypto } from '../../../kernel/crypto.ts';
import type { RpcAnswer, RpcCall } from '../../../kernel/http/json-rpc.ts';
import type { AnchorSearch, Chain, ChainTip, ContractHead, Hex, Place, Sighting } from '../../anchoring/ports.ts';

/** A node of an EVM chain, by JSON-RPC; every answer is parsed, and believed no further. */

const quantity = z.string().regex(/^0x(0|[1-9a-f][0-9a-f]{0,63})$/, 'is no quantity');
const hash = z.string().regex(/^0x[0-9a-f]{64}$/, 'is no hash');
const bytes = z.string().regex(/^0x([0-9a-f]{2})*$/, 'is no lower-case hex');
const blockHead = z.union([z.object({ number: quantity, hash, baseFeePerGas: quantity.optional() }), z.null()]);
const wholeBlock = z.union([chainBlock.extend({ transactions: z.array(hash).max(100_000) }), z.null()]);
const receipts = z.union([z.array(chainReceipt).max(100_000), z.null()]);
const eventLogs = z.array(z.object({ transactionHash: hash, blockHash: hash, blockNumber: quantity })).max(1_000);

/** A height or count; nothing of ours is beyond exact numbers. */
export const toNumber = (text: string): number => {
  const value = Number(text);
  if (!Number.isSafeInteger(value))
    throw new AppError('fetch-failed', { detail: 'the node answered an impossible number' });
  return value;
};

const fromNumber = (value: number): Hex => `0x${value.toString(16)}`;

/** The value of an answer that a node has no reason to refuse. */
export const must = <Value>(method: string, answer: RpcAnswer<Value>): Value => {
  if (answer.ok) return answer.value;
  throw new AppError('fetch-failed', { detail: `the node refused ${method}: ${answer.message} (${answer.code})` });
};

export const logIdHex = (origin: string): Hex => `0x${toHex(logIdOf(nodeCrypto, origin))}`;

/** Interface of the contract; `ethers` is large, so it is loaded when a chain is in use. */
export const loadInterface = async (): Promise<Interface> => {
  const { Interface } = await import('ethers');
  return new Interface(JSON.stringify(anchorAbi));
};

/** `size, count, blockNumber, closed, root, owner`, as the contract declares them. */
const headTuple = z.tuple([
  z.bigint(),
  z.bigint(),
  z.bigint(),
  z.boolean(),
  hash,
  z.string().regex(/^0x[0-9a-fA-F]{40}$/),
]);

const readHead = (contract: Interface, data: Hex): ContractHead => {
  try {
    const [tuple] = contract.decodeFunctionResult('head', data);
    const [size, , blockNumber, closed, root, owner] = headTuple.parse([...tuple]);
    return { size: Number(size), blockNumber: Number(blockNumber), closed, root, owner: owner.toLowerCase() };
  } catch (cause) {
    throw new AppError('fetch-failed', { detail: 'there is no anchor contract at this address of the chain', cause });
  }
};

const notSupported = -32_601;

/** Receipts of a block at once, or one by one where a node has no such call. */
const readReceipts = async (
  rpc: RpcCall,
  blockHash: Hex,
  transactions: readonly Hex[],
): Promise<readonly ChainReceipt[] | null> => {
  const all = await rpc('eth_getBlockReceipts', [blockHash], receipts);
  if (all.ok) return all.value;
  if (all.code !== notSupported) return must('eth_getBlockReceipts', all);
  const found: ChainReceipt[] = [];
  for (const transaction of transactions) {
    const one = await rpc('eth_getTransactionReceipt', [transaction], z.union([chainReceipt, z.null()]));
    const receipt = must('eth_getTransactionReceipt', one);
    if (receipt === null) return null;
    found.push(receipt);
  }
  return found;
};

interface EvmChainOptions {
  readonly rpc: RpcCall;
  /** Lower case. */
  readonly contract: Hex;
}

/** A node as a port. */
export const createEvmChain = async ({ rpc, contract }: EvmChainOptions): Promise<Chain> => {
  const its = await loadInterface();
  const placeOf = (found: {
    readonly transactionHash: Hex;
    readonly blockHash: Hex;
    readonly blockNumber: Hex;
  }): Place => ({
    transaction: found.transactionHash,
    blockHash: found.blockHash,
    blockNumber: toNumber(found.blockNumber),
  });
  const headAt = async (tag: string) => {
    const answer = await rpc('eth_getBlockByNumber', [tag, false], blockHead);
    return answer.ok ? answer.value : null; // a chain without this tag has nothing that is final
  };
  const tip = async (): Promise<ChainTip> => {
    const chainId = must('eth_chainId', await rpc('eth_chainId', [], quantity));
    const [latest, safe, final] = await Promise.all(['latest', 'safe', 'finalized'].map(headAt));
    if (latest === null || latest === undefined)
      throw new AppError('fetch-failed', { detail: 'the node has no block' });
    return {
      chainId: String(toNumber(chainId)),
      latest: toNumber(latest.number),
      safe: safe === null || safe === undefined ? -1 : toNumber(safe.number),
      final: final === null || final === undefined ? -1 : toNumber(final.number),
      baseFee: BigInt(latest.baseFeePerGas ?? '0x0').toString(),
    };
  };
  const find = async ({ checkpoint, transactions, block }: AnchorSearch): Promise<Sighting> => {
    let sighting: Sighting = { kind: 'nothing' };
    for (const transaction of transactions.toReversed()) {
      const answer = await rpc('eth_getTransactionReceipt', [transaction], z.union([chainReceipt, z.null()]));
      const receipt = must('eth_getTransactionReceipt', answer);
      if (receipt === null) continue;
      const isEvent = receipt.status === '0x1' && anchoredLogIndex(nodeCrypto, receipt, { contract }, checkpoint) >= 0;
      if (isEvent) return { kind: 'event', place: placeOf(receipt) };
      sighting = { kind: 'reverted' };
    }
    if (block === undefined) return sighting;
    const at = fromNumber(block);
    const filter = {
      address: contract,
      topics: [...anchoredTopics(nodeCrypto, checkpoint)],
      fromBlock: at,
      toBlock: at,
    };
    const [log] = must('eth_getLogs', await rpc('eth_getLogs', [filter], eventLogs));
    return log === undefined ? sighting : { kind: 'event', place: placeOf(log) };
  };
  return {
    tip,
    find,
    head: async (origin) => {
      const data = its.encodeFunctionData('head', [logIdHex(origin)]);
      return readHead(its, must('eth_call', await rpc('eth_call', [{ to: contract, data }, 'latest'], bytes)));
    },
    hashAt: async (height) =>
      must('eth_getBlockByNumber', await rpc('eth_getBlockByNumber', [fromNumber(height), false], blockHead))?.hash,
    evidence: async (blockHash): Promise<BlockEvidence | undefined> => {
      const block = must('eth_getBlockByHash', await rpc('eth_getBlockByHash', [blockHash, false], wholeBlock));
      const all = block === null ? null : await readReceipts(rpc, blockHash, block.transactions);
      return block === null || all === null ? undefined : { block, receipts: all };
    },
  };
};
