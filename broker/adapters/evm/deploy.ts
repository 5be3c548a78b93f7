import { z } from 'zod';
import { anchorBytecode } from '../../../contracts/anchor/contract.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { Clock } from '../../../kernel/clock.ts';
import type { RpcCall } from '../../../kernel/http/json-rpc.ts';
import type { Hex } from '../../anchoring/ports.ts';
import { firstFee } from '../../anchoring/rules.ts';
import type { Account, Draft } from './account.ts';
import { loadInterface, logIdHex, must } from './chain.ts';

/** What an operator does once: the contract on the chain, and the log in the contract. */

export interface OperatorTools {
  readonly rpc: RpcCall;
  readonly account: Account;
  readonly clock: Clock;
  /** Wei for a unit of gas. */
  readonly feeCeiling: bigint;
  readonly leastTip: bigint;
  /** How long a transaction may take to stand in a block. */
  readonly timeoutMs: number;
}

export interface Mined {
  readonly transaction: Hex;
  readonly blockNumber: number;
  readonly gasUsed: number;
  /** The contract that it made. */
  readonly contract: Hex | null;
}

const pollMs = 100;

const quantity = z.string().regex(/^0x(0|[1-9a-f][0-9a-f]{0,63})$/);
const minedReceipt = z.union([
  z.object({
    status: quantity,
    blockNumber: quantity,
    gasUsed: quantity,
    contractAddress: z
      .string()
      .regex(/^0x[0-9a-fA-F]{40}$/)
      .toLowerCase()
      .nullish(),
  }),
  z.null(),
]);
const pricedBlock = z.object({ baseFeePerGas: quantity.optional() });

/** Sends one transaction and waits until it stands in a block. @throws AppError `fetch-failed` when it does not, or fails. */
const perform = async (tools: OperatorTools, draft: Draft): Promise<Mined> => {
  const { rpc, account, clock, feeCeiling, leastTip, timeoutMs } = tools;
  const block = must('eth_getBlockByNumber', await rpc('eth_getBlockByNumber', ['latest', false], pricedBlock));
  const fee = firstFee({ baseFee: BigInt(block.baseFeePerGas ?? '0x0'), ceiling: feeCeiling, leastTip });
  if (fee === undefined) throw new AppError('busy', { detail: 'the fee of the chain is above the ceiling' });
  const estimate = await account.estimate(draft);
  if (!estimate.ok) throw new AppError('forbidden', { detail: `the chain would not take it: ${estimate.reason}` });
  const { hash, raw } = await account.sign(draft, { nonce: await account.nonce(), gas: estimate.gas, ...fee });
  const refusal = await account.send(raw);
  if (refusal !== undefined) throw new AppError('fetch-failed', { detail: `the node did not take it: ${refusal}` });
  for (let waited = 0; waited <= timeoutMs; waited += pollMs) {
    const answer = await rpc('eth_getTransactionReceipt', [hash], minedReceipt);
    const receipt = must('eth_getTransactionReceipt', answer);
    if (receipt === null) {
      await clock.sleep(pollMs);
      continue;
    }
    if (receipt.status !== '0x1') throw new AppError('fetch-failed', { detail: `the transaction ${hash} failed` });
    return {
      transaction: hash,
      blockNumber: Number(receipt.blockNumber),
      gasUsed: Number(receipt.gasUsed),
      contract: receipt.contractAddress ?? null,
    };
  }
  throw new AppError('fetch-failed', { detail: `the transaction ${hash} stands in no block yet` });
};

/** Puts the contract on the chain. Its admin has all roles at first; a change of admin waits `delaySeconds`. */
export const deployAnchor = async (
  tools: OperatorTools,
  { admin, delaySeconds }: { readonly admin: Hex; readonly delaySeconds: number },
): Promise<Mined & { readonly contract: Hex }> => {
  const its = await loadInterface();
  const data = `${anchorBytecode}${its.encodeDeploy([delaySeconds, admin]).slice(2)}`;
  const mined = await perform(tools, { to: null, data });
  if (mined.contract === null) throw new AppError('fetch-failed', { detail: 'the node names no contract' });
  return { ...mined, contract: mined.contract };
};

/** Gives a log its owner at the contract, once and for ever. */
export const registerLog = async (
  tools: OperatorTools,
  { contract, origin, owner }: { readonly contract: Hex; readonly origin: string; readonly owner: Hex },
): Promise<Mined> => {
  const its = await loadInterface();
  return await perform(tools, { to: contract, data: its.encodeFunctionData('register', [logIdHex(origin), owner]) });
};
