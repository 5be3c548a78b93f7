import { type ChildProcess, spawn } from 'node:child_process';
import { join, resolve } from 'node:path';

/** Programs of ours as processes: started, watched, stopped, and everything they printed kept to be looked at. */

export const root = resolve(import.meta.dirname, '../..');
const program = join(root, 'bin/stekker.ts');

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export interface RunningProgram {
  readonly pid: number;
  /** The ports of the ready line. */
  readonly ports: Readonly<Record<string, number>>;
  readonly said: () => string;
  /** Sends the signal, and waits for the end. */
  readonly stop: (signal?: 'SIGTERM' | 'SIGINT' | 'SIGKILL') => Promise<Ended>;
}

export interface StartProgram {
  /** The program and its arguments; `stekker` of this project by default. */
  readonly command?: readonly string[];
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

const patienceMs = 60_000;
const own = [process.execPath, program];

/** What one start compiles is there for the next: most of a short command's time goes there. */
const compiled = join(root, 'node_modules/.cache/stekker-tests');

/** What the machine gives, and none of the settings that somebody has in his shell. */
const envOf = (env: StartProgram['env']): NodeJS.ProcessEnv => {
  const { PATH, HOME, LANG } = process.env;
  return { PATH, HOME, LANG, NODE_COMPILE_CACHE: compiled, ...env };
};

const watch = ({ command = own, args, env, cwd = root }: StartProgram) => {
  const [file = '', ...before] = command;
  const child = spawn(file, [...before, ...args], { cwd, env: envOf(env), stdio: ['ignore', 'pipe', 'pipe'] });
  const parts = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    parts.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    parts.err += text;
  });
  const ended = new Promise<Ended>((done, fail) => {
    child.once('error', fail);
    child.once('close', (code) => done({ code, ...parts }));
  });
  return { child, parts, ended };
};

/** Runs a program to its end. */
export const run = async (options: StartProgram): Promise<Ended> => {
  const { child, ended } = watch(options);
  const cut = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  try {
    return await ended;
  } finally {
    clearTimeout(cut);
  }
};

const readyLine = /^\{"ready":.*\}$/m;

const portsOf = (line: string): Record<string, number> => {
  const { ready: _name, ...ports } = JSON.parse(line);
  return ports;
};

const stopOf =
  (child: ChildProcess, ended: Promise<Ended>): RunningProgram['stop'] =>
  async (signal = 'SIGTERM') => {
    child.kill(signal);
    const cut = setTimeout(() => child.kill('SIGKILL'), patienceMs);
    try {
      return await ended;
    } finally {
      clearTimeout(cut);
    }
  };

/** Starts a service, and waits until it says that it is ready. @throws with what it said, when it ends before. */
export const start = async (options: StartProgram): Promise<RunningProgram> => {
  const { child, parts, ended } = watch(options);
  const said = () => `${parts.out}${parts.err}`;
  const ready = new Promise<string>((done) => {
    const look = () => {
      const line = readyLine.exec(parts.out)?.[0];
      if (line !== undefined) done(line);
    };
    child.stdout?.on('data', look);
  });
  const cut = setTimeout(() => child.kill('SIGKILL'), patienceMs);
  const first = await Promise.race([ready, ended]);
  clearTimeout(cut);
  if (typeof first !== 'string') throw new Error(`it ended with ${first.code} before it was ready: ${said()}`);
  return { pid: child.pid ?? 0, ports: portsOf(first), said, stop: stopOf(child, ended) };
};
