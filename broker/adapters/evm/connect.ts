import { fromHex, orNothing, toHex } from '../../../contracts/bytes.ts';
import type { Crypto } from '../../../contracts/crypto.ts';
import { type FetchLogFile, rootFromTiles } from '../../../contracts/ledger/tile-proofs.ts';
import { createGuardedClient } from '../../../kernel/http/client.ts';
import { createRpc, guardedRpcTransport } from '../../../kernel/http/json-rpc.ts';
import type { Logger } from '../../../kernel/log.ts';
import type { Chain, ChainAccount, RootAt } from '../../anchoring/ports.ts';
import type { ChainHead } from '../../ledger/ports.ts';
import { anchorAccount, createAccount } from './account.ts';
import { createEvmChain } from './chain.ts';

/** The adapters of one chain, as `main.ts` needs them. */

export interface EvmSettings {
  readonly rpc: string;
  /** A node of somebody else that must agree on what is final. */
  readonly secondRpc?: string | undefined;
  readonly chainId: string;
  /** Lower case. */
  readonly contract: string;
  readonly key: string;
}

/** Disposing it closes its connections. */
export interface EvmParts extends AsyncDisposable {
  readonly chain: Chain;
  readonly second: Chain | undefined;
  readonly account: ChainAccount;
}

/**
 * Makes the adapters; asks nothing of the chain yet. The nodes are the operator's choice, so they may stand in a network of
 * its own; nobody else can name one.
 *
 * @throws AppError `config-invalid` for a key that is none.
 */
export const connectEvm = async (settings: EvmSettings): Promise<EvmParts> => {
  const { rpc: url, secondRpc, chainId, contract, key } = settings;
  const operatorOrigins = [url, ...(secondRpc === undefined ? [] : [secondRpc])].map((node) => new URL(node).origin);
  const client = createGuardedClient({ allowLoopbackHttp: false, operatorOrigins });
  const rpc = createRpc(guardedRpcTransport(client, url));
  const chain = await createEvmChain({ rpc, contract });
  const second =
    secondRpc === undefined
      ? undefined
      : await createEvmChain({ rpc: createRpc(guardedRpcTransport(client, secondRpc)), contract });
  const account = await anchorAccount(await createAccount({ rpc, chainId, key }), contract);
  return { chain, second, account, [Symbol.asyncDispose]: client[Symbol.asyncDispose] };
};

/** What the chain says of a log before it signs anything (ledger §12); a node of another chain says nothing. */
export const evmChainHead = (
  { chain, log }: { readonly chain: Chain; readonly log: Logger },
  { chainId }: Pick<EvmSettings, 'chainId'>,
): ChainHead => ({
  head: async (origin) => {
    try {
      const tip = await chain.tip();
      if (tip.chainId !== chainId) {
        log.error({ origin, chainId, found: tip.chainId }, 'the node is of another chain');
        return { state: 'unreachable' };
      }
      const { size, root } = await chain.head(origin);
      return size === 0 ? { state: 'none' } : { state: 'anchored', size, root: orNothing(fromHex(root.slice(2))) };
    } catch (err) {
      log.warn({ origin, err }, 'the chain cannot be asked');
      return { state: 'unreachable' };
    }
  },
});

/** Roots of our own tree, out of its tiles. */
export const tileRootAt =
  (crypto: Pick<Crypto, 'sha256'>, fetch: FetchLogFile): RootAt =>
  async (size) => {
    const root = await rootFromTiles(crypto, size, fetch);
    return root.ok ? `0x${toHex(root.value)}` : undefined;
  };
