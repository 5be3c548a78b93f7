import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Json } from '../../contracts/json.ts';
import { foundryProgram } from '../../scripts/foundry.ts';

/** A chain of one's own: anvil on a free port, which mines only when it is told to. Always stopped with the test. */

export interface Anvil extends AsyncDisposable {
  readonly url: string;
  readonly chainId: string;
  /** Any call; the answer as it is. @throws when the node refuses it. */
  readonly rpc: (method: string, ...params: readonly Json[]) => Promise<unknown>;
  readonly mine: (blocks?: number) => Promise<void>;
}

/** The first accounts of anvil's own phrase: everybody knows these keys. */
export const anvilKeys = [
  '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80',
  '0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d',
  '0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a',
] as const;

interface AnvilOptions {
  readonly chainId?: number;
  /** Seconds between blocks; without it blocks are made by `mine` alone. */
  readonly blockTime?: number;
}

const startMs = 20_000;

/** Also when the test's process ends before its test does. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

const listening = async (child: ChildProcess): Promise<number> => {
  if (child.stdout === null) throw new Error('anvil has no output');
  const lines = createInterface({ input: child.stdout });
  const timer = setTimeout(() => child.kill('SIGKILL'), startMs);
  for await (const line of lines) {
    const found = /Listening on [\d.]+:(\d+)/.exec(line);
    if (found === null) continue;
    clearTimeout(timer);
    child.stdout.resume();
    return Number(found[1]);
  }
  throw new Error('anvil did not start');
};

/** Starts anvil with one slot in an epoch: `safe` is one block behind, `finalized` two. */
export const startAnvil = async ({ chainId = 31_337, blockTime }: AnvilOptions = {}): Promise<Anvil> => {
  const mining = blockTime === undefined ? ['--no-mining'] : ['--block-time', String(blockTime)];
  const args = ['--port', '0', '--slots-in-an-epoch', '1', '--chain-id', String(chainId), ...mining];
  const child = spawn(foundryProgram('anvil'), args, { stdio: ['ignore', 'pipe', 'ignore'] });
  running.add(child);
  child.once('exit', () => running.delete(child));
  const port = await listening(child);
  const url = `http://localhost:${port}`;
  let id = 0;
  const rpc: Anvil['rpc'] = async (method, ...params) => {
    id += 1;
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id, method, params }),
    });
    const answer: unknown = await response.json();
    if (typeof answer === 'object' && answer !== null && 'result' in answer) return answer.result;
    throw new Error(`${method}: ${JSON.stringify(answer)}`);
  };
  return {
    url,
    chainId: String(chainId),
    rpc,
    mine: async (blocks = 1) => {
      for (let n = 0; n < blocks; n += 1) await rpc('evm_mine');
    },
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
};
