import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { type Operate, operatorOf } from './chain-world.ts';

/** A connector as its operator starts it, `stekker connector`: a process of its own. */

const ready = z.object({ ready: z.literal('connector'), managementPort: z.number(), gatewayPort: z.number() });
const source = join(import.meta.dirname, '../../bin/stekker.ts');

export interface ConnectorProcess extends AsyncDisposable {
  readonly operate: Operate;
  readonly managementPort: number;
  readonly gateway: string;
  readonly pid: number;
  /** From its start until it said that it is ready. */
  readonly readyMs: number;
}

export interface ProcessOptions {
  /** What is run: the source unless said otherwise. */
  readonly program?: string;
  /** Options of Node itself. */
  readonly execArgv?: readonly string[];
}

/** Also when the process that started it ends before it. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

const readyLine = async (child: ChildProcess): Promise<z.infer<typeof ready>> => {
  if (child.stdout === null) throw new Error('the connector has no output');
  for await (const line of createInterface({ input: child.stdout }))
    if (line.startsWith('{"ready"')) return ready.parse(JSON.parse(line));
  throw new Error('the connector ended before it was ready');
};

/** Starts it with these settings alone, and without its log. */
export const startConnectorProcess = async (
  env: Readonly<Record<string, string>>,
  { program = source, execArgv = [] }: ProcessOptions = {},
): Promise<ConnectorProcess> => {
  const start = performance.now();
  const child = spawn(process.execPath, [...execArgv, program, 'connector'], {
    env: { ...env, STEKKER_LOG_LEVEL: 'silent' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.add(child);
  const ended = once(child, 'exit').then(() => void running.delete(child));
  const { managementPort, gatewayPort } = await readyLine(child);
  const readyMs = performance.now() - start;
  child.stdout?.resume();
  return {
    operate: operatorOf(managementPort),
    managementPort,
    gateway: `http://127.0.0.1:${gatewayPort}`,
    pid: child.pid ?? 0,
    readyMs,
    [Symbol.asyncDispose]: async () => {
      if (running.has(child)) child.kill('SIGTERM');
      await ended;
    },
  };
};
