import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Operator, Terminal } from './cli.ts';
import type { Folder } from './folder.ts';
import { askJson } from './http.ts';
import { type Running, root, startProcess } from './processes.ts';

/** A chain of the demo's own: anvil, a development chain. What is anchored there proves nothing to others; the steps are the real ones. */

export interface Chain {
  readonly url: string;
  readonly chainId: string;
  readonly contract: string;
  /** File with the key of the account that owns the log there. */
  readonly keyFile: string;
  readonly operator: Operator;
  /** A block, now. */
  readonly mine: () => Promise<void>;
}

/** The first account of anvil's own phrase: everybody knows this key, and it holds nothing anywhere else. */
const developmentKey = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80';
const chainId = '31337';

/** Where npm put anvil for this machine, or undefined where there is none: anchoring is an extra. */
const anvilProgram = (): string | undefined => {
  const processor = process.arch === 'x64' ? 'amd64' : process.arch;
  const path = join(root, `node_modules/@foundry-rs/anvil-${process.platform}-${processor}/bin/anvil`);
  return existsSync(path) ? path : undefined;
};

export interface StageOptions {
  readonly folder: Folder;
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
  /** Takes over what was started, to stop it at the end. */
  readonly own: <Resource extends AsyncDisposable>(resource: Resource) => Resource;
}

const deployed = z.looseObject({ contract: z.string(), transaction: z.string() });

const portOf = (anvil: Running): string => {
  const port = /Listening on [\d.]+:(\d+)/.exec(anvil.output())?.[1];
  if (port === undefined) throw new Error('anvil does not say where it listens');
  return port;
};

/** Starts the chain and puts the anchor contract on it; undefined without anvil. */
export const startChain = async ({ folder, terminal, signal, own }: StageOptions): Promise<Chain | undefined> => {
  const program = anvilProgram();
  if (program === undefined) return undefined;
  const anvil = own(
    await startProcess({
      name: 'anvil',
      command: program,
      // One slot in an epoch: `finalized` is two blocks behind the newest.
      args: ['--port', '0', '--chain-id', chainId, '--block-time', '1', '--slots-in-an-epoch', '1'],
      logs: folder.logs,
      ready: /Listening on/,
      signal,
    }),
  );
  const url = `http://localhost:${portOf(anvil)}`;
  const keyFile = folder.keepSecret('anchor.key', developmentKey);
  const operator = { who: 'broker', env: { STEKKER_ANCHOR_KEY_FILE: keyFile } };
  const mine = async () => {
    await askJson(url, { signal, body: { jsonrpc: '2.0', id: 1, method: 'evm_mine', params: [] } });
  };
  const deploying = terminal.run(operator, ['anchor', 'deploy', '--node', url, '--chain-id', chainId], deployed);
  const { contract } = await deploying;
  return { url, chainId, contract, keyFile, operator, mine };
};
