import { createAccount } from '../../broker/adapters/evm/account.ts';
import { connectEvm, type EvmParts } from '../../broker/adapters/evm/connect.ts';
import { deployAnchor, type Mined, type OperatorTools, registerLog } from '../../broker/adapters/evm/deploy.ts';
import { type AnchorTables, anchorMigrations, sqlAnchorStore } from '../../broker/adapters/sql/anchor-store.ts';
import type { EvmDriverOptions } from '../../broker/anchoring/driver.ts';
import type { AnchorStore, AnchorTarget, Hex } from '../../broker/anchoring/ports.ts';
import { toHex, utf8 } from '../../contracts/bytes.ts';
import {
  type Checkpoint,
  checkpointText,
  readPolicy,
  readVerifierKey,
  signatureLine,
} from '../../contracts/ledger/note.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createGuardedClient } from '../../kernel/http/client.ts';
import { createRpc, guardedRpcTransport } from '../../kernel/http/json-rpc.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { silentLogger } from '../../kernel/log.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { type Anvil, anvilKeys, startAnvil } from './anvil.ts';
import { signEd25519 } from './keys.ts';
import { keys, origin } from './ledger-world.ts';
import { logKeys } from './log-bench.ts';

/** A chain with the anchor contract and a registered log, and checkpoints of that log. */

export const gwei = 1_000_000_000n;

/** The root that this log has at a size. */
export const rootOf = (size: number): Uint8Array => nodeCrypto.sha256(utf8(`root ${size}`));
export const rootHex = (size: number): Hex => `0x${toHex(rootOf(size))}`;

export const checkpointOf = (size: number, root = rootOf(size)): Checkpoint => ({ origin, size, root });

/** A checkpoint as the log signs it. */
export const noteOf = (size: number, root = rootOf(size)): string => {
  const key = readVerifierKey(nodeCrypto, logKeys.vkey);
  if (!key.ok) throw new Error(key.reason);
  const text = checkpointText(checkpointOf(size, root));
  return `${text}\n${signatureLine(key.value.name, key.value.keyId, signEd25519(keys.log, utf8(text)))}`;
};

export const anchorPolicy = (() => {
  const policy = readPolicy(nodeCrypto, `log ${logKeys.vkey}\nquorum none\n`);
  if (!policy.ok) throw new Error(policy.reason);
  return policy.value;
})();

export const anchorRows = async (): Promise<AnchorStore> => {
  const { db } = openSqlite<AnchorTables>({ path: ':memory:' });
  await migrate(db, 'anchoring', anchorMigrations);
  return sqlAnchorStore(db);
};

export interface AnchorWorld extends AsyncDisposable {
  readonly anvil: Anvil;
  readonly target: AnchorTarget;
  readonly store: AnchorStore;
  /** The adapters at a node: the world's own, or another address in front of it. */
  readonly connect: (url?: string, key?: string) => Promise<EvmParts>;
  /** What the driver said that it waits for. */
  readonly waits: string[];
  readonly options: EvmDriverOptions;
  /** Does something that waits for a block, and makes blocks meanwhile. */
  readonly mining: <Value>(work: Promise<Value>) => Promise<Value>;
  readonly operator: OperatorTools;
  readonly deployed: Mined;
  readonly registered: Mined;
}

interface WorldOptions {
  readonly anvil?: Parameters<typeof startAnvil>[0];
  readonly isRegistered?: boolean;
}

/** Account 0 deploys and registers, account 1 owns the log. */
export const startAnchorWorld = async ({
  anvil: chosen,
  isRegistered = true,
}: WorldOptions = {}): Promise<AnchorWorld> => {
  const anvil = await startAnvil(chosen);
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const rpc = createRpc(guardedRpcTransport(client, anvil.url));
  const { chainId } = anvil;
  const mining: AnchorWorld['mining'] = async (work) => {
    let isDone = false;
    const done = work.finally(() => {
      isDone = true;
    });
    while (!isDone) {
      await anvil.mine();
      await Promise.race([done.catch(() => undefined), systemClock.sleep(20)]);
    }
    return await done;
  };
  const operator: OperatorTools = {
    rpc,
    account: await createAccount({ rpc, chainId, key: anvilKeys[0] }),
    clock: systemClock,
    feeCeiling: 100n * gwei,
    leastTip: gwei,
    timeoutMs: 10_000,
  };
  const deployed = await mining(deployAnchor(operator, { admin: operator.account.address, delaySeconds: 60 }));
  const { contract } = deployed;
  const open: EvmParts[] = [];
  const connected = async (parts: Promise<EvmParts>): Promise<EvmParts> => {
    open.push(await parts);
    return await parts;
  };
  const connect: AnchorWorld['connect'] = (url = anvil.url, key = anvilKeys[1]) =>
    connected(connectEvm({ rpc: url, chainId, contract, key }));
  const { chain, account } = await connect();
  const registered = isRegistered
    ? await mining(registerLog(operator, { contract, origin, owner: account.address }))
    : deployed;
  const store = await anchorRows();
  const waits: string[] = [];
  const target = { origin, chainId, contract };
  return {
    anvil,
    target,
    store,
    connect,
    waits,
    mining,
    operator,
    deployed,
    registered,
    options: {
      target,
      store,
      chain,
      account,
      rootAt: async (size) => (size <= 1_000_000 ? rootHex(size) : undefined),
      policy: anchorPolicy,
      crypto: nodeCrypto,
      keccak256,
      clock: systemClock,
      log: silentLogger,
      feeCeiling: 100n * gwei,
      leastTip: gwei,
      stuckMs: 60_000,
      onWait: (reason) => void waits.push(reason),
    },
    [Symbol.asyncDispose]: async () => {
      for (const parts of open) await parts[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
      await anvil[Symbol.asyncDispose]();
    },
  };
};
