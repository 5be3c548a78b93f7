import type { Interface } from 'ethers';
import { z } from 'zod';
import { AppError } from '../../../contracts/errors.ts';
import type { RpcCall } from '../../../kernel/http/json-rpc.ts';
import type { AnchorCall, ChainAccount, Estimate, Hex } from '../../anchoring/ports.ts';
import { loadInterface, logIdHex, must, toNumber } from './chain.ts';

/** The account that sends anchors. Its key stays in a closure; what leaves is signed. */

const quantity = z.string().regex(/^0x(0|[1-9a-f][0-9a-f]{0,63})$/, 'is no quantity');
const hash = z.string().regex(/^0x[0-9a-f]{64}$/, 'is no hash');

/** A transaction before its nonce and fees are known. */
export interface Draft {
  /** Null deploys. */
  readonly to: Hex | null;
  readonly data: Hex;
}

export interface Priced {
  readonly nonce: number;
  readonly gas: number;
  readonly maxFee: string;
  readonly tip: string;
}

/** An account of the chain, for any transaction. */
export interface Account {
  readonly address: Hex;
  readonly nonce: () => Promise<number>;
  readonly estimate: (draft: Draft) => Promise<Estimate>;
  readonly sign: (draft: Draft, priced: Priced) => Promise<{ readonly hash: Hex; readonly raw: Hex }>;
  readonly send: (raw: Hex) => Promise<string | undefined>;
}

export interface AccountOptions {
  readonly rpc: RpcCall;
  readonly chainId: string;
  /** `0x` and 64 hex digits. */
  readonly key: string;
}

/** Names that nodes give to "I have it already", and to a nonce that was used: the next look at the chain tells more. */
const isHarmless = (message: string): boolean =>
  /already known|already imported|known transaction|nonce too low/i.test(message);

/** The reason of a refused call: an error of the contract by its name, or what the node says. */
const reasonOf = (contract: Interface, message: string, data: unknown): string => {
  const error = typeof data === 'string' && /^0x[0-9a-f]{8}/.test(data) ? contract.parseError(data) : null;
  return error === null ? message : `${error.name}(${error.args.map(String).join(', ')})`;
};

/** Gas that the call may use beyond the estimate: the head's first anchor costs more than the next. */
const withRoom = (gas: number): number => Math.ceil(gas * 1.25);

/** An account over a node. @throws AppError `config-invalid` for a key that is none. */
export const createAccount = async ({ rpc, chainId, key }: AccountOptions): Promise<Account> => {
  const { Wallet, Transaction } = await import('ethers');
  const contract = await loadInterface();
  const wallet = ((): InstanceType<typeof Wallet> => {
    try {
      return new Wallet(key);
    } catch {
      // No cause: it could hold the key.
      throw new AppError('config-invalid', { detail: 'the key of the chain account is no private key' });
    }
  })();
  const address = wallet.address.toLowerCase();
  const callOf = ({ to, data }: Draft) => ({ from: address, data, ...(to === null ? {} : { to }) });
  return {
    address,
    nonce: async () =>
      toNumber(must('eth_getTransactionCount', await rpc('eth_getTransactionCount', [address, 'latest'], quantity))),
    estimate: async (draft) => {
      const answer = await rpc('eth_estimateGas', [callOf(draft), 'latest'], quantity);
      if (answer.ok) return { ok: true, gas: withRoom(toNumber(answer.value)) };
      return { ok: false, reason: reasonOf(contract, answer.message, answer.data) };
    },
    sign: async ({ to, data }, { nonce, gas, maxFee, tip }) => {
      const raw = await wallet.signTransaction({
        type: 2,
        chainId: BigInt(chainId),
        nonce,
        gasLimit: gas,
        maxFeePerGas: BigInt(maxFee),
        maxPriorityFeePerGas: BigInt(tip),
        to,
        data,
        value: 0,
      });
      return { raw, hash: Transaction.from(raw).hash ?? '' };
    },
    send: async (raw) => {
      const answer = await rpc('eth_sendRawTransaction', [raw], hash);
      return answer.ok || isHarmless(answer.message) ? undefined : answer.message;
    },
  };
};

/** An account as the owner of a log at a contract. */
export const anchorAccount = async (account: Account, contract: Hex): Promise<ChainAccount> => {
  const its = await loadInterface();
  const draftOf = (
    origin: string,
    { size, root, previousRoot }: Pick<AnchorCall, 'size' | 'root' | 'previousRoot'>,
  ): Draft => ({
    to: contract,
    data: its.encodeFunctionData('anchor', [logIdHex(origin), size, root, previousRoot]),
  });
  return {
    address: account.address,
    nonce: account.nonce,
    estimate: (origin, call) => account.estimate(draftOf(origin, call)),
    sign: (origin, call, fee) => account.sign(draftOf(origin, call), { ...call, ...fee }),
    send: account.send,
  };
};
