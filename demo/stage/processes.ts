import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** The demo's processes: started one by one, their output kept in files, all of them stopped at the end. */

export const root = resolve(import.meta.dirname, '../..');

export interface Running extends AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** Its standard output so far. */
  readonly output: () => string;
  readonly isAlive: () => boolean;
}

export interface StartOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Folder for `<name>.out` and `<name>.err`. */
  readonly logs: string;
  /** What its standard output must hold before it counts as started. */
  readonly ready: RegExp;
  readonly signal: AbortSignal;
}

/** For a start, on a machine that has much else to do; and for an end. */
const startMs = 60_000;
const stopMs = 20_000;
const pollMs = 20;

/** A process that does not start, or a program that fails, with what it said. */
export class ProcessFailed extends Error {
  override readonly name = 'ProcessFailed';
}

/** Waits; rejects as soon as the demo is told to stop. */
export const pause = async (ms: number, signal: AbortSignal): Promise<void> => {
  await sleep(ms, undefined, { signal });
};

/** Whatever happens to this process, none of its children outlives it. */
const children = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

const isOver = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

const track = (child: ChildProcess): void => {
  children.add(child);
  child.once('exit', () => children.delete(child));
  child.once('error', () => children.delete(child));
};

/** Asks it to end, and ends it when it does not. */
const stop = async (child: ChildProcess): Promise<void> => {
  if (isOver(child) || child.pid === undefined) return;
  const ended = new Promise<void>((done) => child.once('exit', () => done()));
  child.kill('SIGTERM');
  const cut = setTimeout(() => child.kill('SIGKILL'), stopMs);
  await ended;
  clearTimeout(cut);
};

/** Nothing of this shell's own settings reaches a service; what it needs is given. */
const cleanEnv = (more: Readonly<Record<string, string>>): Record<string, string> => {
  const kept = Object.entries(process.env).filter(([key]) => !key.startsWith('STEKKER_'));
  return { ...Object.fromEntries(kept.map(([key, value]) => [key, value ?? ''])), ...more };
};

/** Starts a process and waits until it says that it is ready. */
export const startProcess = async (options: StartOptions): Promise<Running> => {
  const { name, logs, ready, signal } = options;
  signal.throwIfAborted();
  const path = (ending: string) => join(logs, `${name}.${ending}`);
  mkdirSync(dirname(path('out')), { recursive: true });
  const files = [openSync(path('out'), 'a'), openSync(path('err'), 'a')] as const;
  const child = spawn(options.command, [...options.args], {
    cwd: root,
    env: cleanEnv(options.env ?? {}),
    stdio: ['ignore', files[0], files[1]],
  });
  track(child);
  let failure: Error | undefined;
  child.once('error', (error) => {
    failure = error;
  });
  for (const file of files) closeSync(file);
  const output = () => readFileSync(path('out'), 'utf8');
  const deadline = Date.now() + startMs;
  while (!ready.test(output())) {
    if (failure !== undefined || isOver(child) || signal.aborted || Date.now() > deadline) {
      await stop(child);
      const said = `${output()}\n${readFileSync(path('err'), 'utf8')}`.trim().slice(-2_000);
      throw new ProcessFailed(`${name} did not start: ${failure?.message ?? said}`);
    }
    await sleep(pollMs);
  }
  return {
    name,
    pid: child.pid ?? 0,
    output,
    isAlive: () => !isOver(child),
    [Symbol.asyncDispose]: () => stop(child),
  };
};

export interface Finished {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a program to its end; ends it when the demo is told to stop. */
export const runProgram = async (
  command: string,
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly signal: AbortSignal },
): Promise<Finished> => {
  const { env = {}, signal } = options;
  signal.throwIfAborted();
  const child = spawn(command, [...args], { cwd: root, env: cleanEnv(env), stdio: ['ignore', 'pipe', 'pipe'] });
  track(child);
  const onStop = () => void stop(child);
  signal.addEventListener('abort', onStop, { once: true });
  const parts = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    parts.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    parts.err += text;
  });
  try {
    const code = await new Promise<number>((done, fail) => {
      child.once('error', fail);
      child.once('close', (status) => done(status ?? 1));
    });
    signal.throwIfAborted();
    return { code, ...parts };
  } finally {
    signal.removeEventListener('abort', onStop);
  }
};

/** Asks again and again until there is an answer. */
export const eventually = async <Value>(
  look: () => Promise<Value | undefined>,
  its: { readonly what: string; readonly signal: AbortSignal },
): Promise<Value> => {
  const deadline = Date.now() + startMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`${its.what}: waited in vain`);
    await pause(100, its.signal);
  }
};

/** Below those that systems give to outgoing calls: one of these could take a port before its service starts. */
const servicePorts = { least: 12_000, most: 32_000 };

const isFree = (port: number): Promise<boolean> =>
  new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });

/** Free ports of loopback, all different. */
export const freePorts = async (count: number): Promise<readonly number[]> => {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = randomInt(servicePorts.least, servicePorts.most);
    if (!ports.has(port) && (await isFree(port))) ports.add(port);
  }
  return [...ports];
};
