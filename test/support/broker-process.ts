import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import type { Operated } from './broker-bench.ts';

/** A broker as its operator starts it: `stekker broker`, a process of its own, which a test may kill. */

const ready = z.object({ ready: z.literal('broker'), publicPort: z.number(), managementPort: z.number() });
const record = z.record(z.string(), z.unknown());
const program = join(import.meta.dirname, '../../bin/stekker.ts');

export interface BrokerProcess extends AsyncDisposable {
  readonly operate: Operated['operate'];
  /** Ends it as a power cut would. */
  readonly kill: () => Promise<void>;
  /** It stands still until it goes on, as a machine that was suspended. */
  readonly pause: () => void;
  readonly go: () => void;
}

/** Also when the test's process ends before its test does. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

const readyLine = async (child: ChildProcess): Promise<z.infer<typeof ready>> => {
  if (child.stdout === null) throw new Error('the broker has no output');
  for await (const line of createInterface({ input: child.stdout }))
    if (line.startsWith('{"ready"')) return ready.parse(JSON.parse(line));
  throw new Error('the broker ended before it was ready');
};

/** Starts it with these settings alone. */
export const startBrokerProcess = async (env: Readonly<Record<string, string>>): Promise<BrokerProcess> => {
  const child = spawn(process.execPath, [program, 'broker'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  running.add(child);
  const ended = once(child, 'exit').then(() => void running.delete(child));
  const { managementPort } = await readyLine(child);
  child.stdout?.resume();
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (running.has(child)) child.kill(signal);
    await ended;
  };
  return {
    operate: async (method, path, body) => {
      const answer = await fetch(`http://127.0.0.1:${managementPort}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${env.STEKKER_MANAGEMENT_TOKEN}`,
          'content-type': 'application/json',
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: answer.status, body: record.parse(await answer.json()) };
    },
    kill: () => end('SIGKILL'),
    pause: () => void child.kill('SIGSTOP'),
    go: () => void child.kill('SIGCONT'),
    [Symbol.asyncDispose]: () => end('SIGTERM'),
  };
};
