import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { type ConnectorBench, connectorBench, type Operate, operatorOf } from './chain-world.ts';
import { freePort } from './holder.ts';

/** A connector as its owner runs it: a process of its own, which can be killed at any moment and started again. */

const root = fileURLToPath(new URL('../..', import.meta.url));
const readyLine = z.looseObject({ ready: z.literal('connector') });

/** Also when the process that started it ends before it. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export interface ChildConnector extends AsyncDisposable {
  readonly bench: ConnectorBench;
  readonly operate: Operate;
  readonly gateway: string;
  /** The end of what it said last, its log included. */
  readonly said: () => string;
  /** Resolves when the program says that it is ready. */
  readonly start: () => Promise<void>;
  /** Begins to start and does not wait: to be killed before it is ready. */
  readonly begin: () => void;
  /** kill -9; resolves when the process is gone. */
  readonly kill: () => Promise<void>;
  /** Lets it end in order. */
  readonly stop: () => Promise<void>;
}

const isReady = (line: string): boolean => {
  try {
    return readyLine.safeParse(JSON.parse(line)).success;
  } catch {
    return false;
  }
};

/** The connector of a bench, at ports that stay the same. */
export const childConnector = async (env: Record<string, string> = {}): Promise<ChildConnector> => {
  const [managementPort, gatewayPort] = [await freePort(), await freePort()];
  const bench = await connectorBench({
    STEKKER_MANAGEMENT_PORT: String(managementPort),
    STEKKER_GATEWAY_PORT: String(gatewayPort),
    STEKKER_LOG_LEVEL: 'error',
    ...env,
  });
  // What is compiled once is kept, or fifty starts would measure the compiler.
  const cache = join(dirname(bench.folder), 'compiled');
  let child: ChildProcess | undefined;
  let ready: Promise<void> = Promise.resolve();
  let said = '';
  const begin = (): void => {
    const started = spawn(process.execPath, ['bin/stekker.ts', 'connector'], {
      cwd: root,
      env: { PATH: process.env.PATH ?? '', NODE_COMPILE_CACHE: cache, ...bench.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child = started;
    running.add(started);
    started.once('exit', () => running.delete(started));
    said = '';
    const hear = (text: string): void => {
      said = `${said}${text}`.slice(-4_000);
    };
    started.stderr.on('data', (chunk: Buffer) => hear(chunk.toString()));
    const told = Promise.withResolvers<void>();
    createInterface(started.stdout).on('line', (line) => {
      if (isReady(line)) told.resolve();
      else hear(`${line}\n`);
    });
    started.once('exit', () => told.reject(new Error(`the connector ended before it was ready: ${said}`)));
    ready = told.promise;
    ready.catch(() => undefined); // whoever waits hears of it
  };
  const end = async (signal: 'SIGKILL' | 'SIGTERM'): Promise<void> => {
    const ending = child;
    child = undefined;
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return;
    const gone = once(ending, 'exit');
    ending.kill(signal);
    await gone;
  };
  const kill = () => end('SIGKILL');
  return {
    bench,
    operate: operatorOf(managementPort),
    gateway: `http://127.0.0.1:${gatewayPort}`,
    said: () => said,
    begin,
    start: () => {
      begin();
      return ready;
    },
    kill,
    stop: () => end('SIGTERM'),
    [Symbol.asyncDispose]: async () => {
      await kill();
      await bench[Symbol.asyncDispose]();
    },
  };
};
