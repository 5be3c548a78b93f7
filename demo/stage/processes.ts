import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';

/** The demo's processes: started one by one, their output kept in files, all of them stopped at the end. */

export const root = resolve(import.meta.dirname, '../..');

export interface Running {
  readonly name: string;
  /** Its standard output so far. */
  readonly output: () => string;
  readonly stop: () => Promise<void>;
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
  readonly timeoutMs?: number;
}

const patience = 20_000;
const pollMs = 20;

export const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

const ended = (child: ChildProcess): Promise<void> =>
  child.exitCode !== null || child.signalCode !== null
    ? Promise.resolve()
    : new Promise((done) => child.once('exit', () => done()));

/** Nothing of this shell's own settings reaches a service; what it needs is given. */
export const cleanEnv = (more: Readonly<Record<string, string>>): Record<string, string> => {
  const kept = Object.entries(process.env).filter(([key]) => !key.startsWith('STEKKER_'));
  return { ...Object.fromEntries(kept.map(([key, value]) => [key, value ?? ''])), ...more };
};

/** Starts a process and waits until it says that it is ready. */
export const startProcess = async (options: StartOptions): Promise<Running> => {
  const path = (ending: string) => join(options.logs, `${options.name}.${ending}`);
  mkdirSync(dirname(path('out')), { recursive: true });
  const files = [openSync(path('out'), 'a'), openSync(path('err'), 'a')] as const;
  const child = spawn(options.command, [...options.args], {
    cwd: root,
    env: cleanEnv(options.env ?? {}),
    stdio: ['ignore', files[0], files[1]],
  });
  let failure: Error | undefined;
  child.once('error', (error) => {
    failure = error;
  });
  for (const file of files) closeSync(file);
  const output = () => readFileSync(path('out'), 'utf8');
  const stop = async () => {
    child.kill('SIGTERM');
    const cut = setTimeout(() => child.kill('SIGKILL'), patience);
    await ended(child);
    clearTimeout(cut);
  };
  const deadline = Date.now() + (options.timeoutMs ?? patience);
  while (!options.ready.test(output())) {
    if (failure !== undefined || child.exitCode !== null || Date.now() > deadline) {
      await stop();
      const said = `${output()}\n${readFileSync(path('err'), 'utf8')}`.trim().slice(-2_000);
      throw new Error(`${options.name} did not start: ${failure?.message ?? said}`);
    }
    await pause(pollMs);
  }
  return { name: options.name, output, stop };
};

export interface Finished {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a program to its end. */
export const runProgram = (
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Finished> =>
  new Promise((done, fail) => {
    const child = spawn(command, [...args], { cwd: root, env: cleanEnv(env), stdio: ['ignore', 'pipe', 'pipe'] });
    const parts = { out: '', err: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      parts.out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      parts.err += text;
    });
    child.once('error', fail);
    child.once('close', (code) => done({ code: code ?? 1, ...parts }));
  });

/** Free ports of loopback, all different. */
export const freePorts = async (count: number): Promise<readonly number[]> => {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((done, fail) => {
          const server = createServer();
          server.once('error', fail);
          server.listen(0, '127.0.0.1', () => done(server));
        }),
    ),
  );
  const ports = servers.map((server) => {
    const address = server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  });
  await Promise.all(servers.map((server) => new Promise<void>((done) => server.close(() => done()))));
  return ports;
};
