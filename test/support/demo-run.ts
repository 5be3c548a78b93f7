import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { resolve } from 'node:path';

/** The demo as a process of its own, in a process group of its own: whoever is left in the group was left behind. */

export const repository = resolve(import.meta.dirname, '../..');

export interface DemoRun extends AsyncDisposable {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly err: () => string;
  /** The exit code, once it ends. */
  readonly ended: Promise<number>;
  /** Waits for words on standard output. @throws when it ends without them. */
  readonly says: (words: RegExp) => Promise<RegExpExecArray>;
  /** Command lines of the processes of its group that are alive. */
  readonly alive: () => readonly string[];
}

const pollMs = 50;

const linesOf = (text: string): readonly string[] => text.split('\n').filter((line) => line.trim() !== '');

/** Starts `node demo/main.ts`, as `npm run demo` does. */
export const startDemo = (args: readonly string[]): DemoRun => {
  const child = spawn(process.execPath, ['demo/main.ts', ...args], {
    cwd: repository,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const parts = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    parts.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    parts.err += text;
  });
  const ended = new Promise<number>((done) => child.once('close', (code) => done(code ?? -1)));
  const group = String(child.pid);
  const alive = () =>
    linesOf(execFileSync('ps', ['-A', '-o', 'pgid=,stat=,args='], { encoding: 'utf8' }))
      .map((line) => /^\s*(\d+)\s+(\S+)\s+(.*)$/.exec(line))
      .filter((found) => found?.[1] === group && !found[2]?.startsWith('Z'))
      .map((found) => found?.[3] ?? '');
  return {
    child,
    out: () => parts.out,
    err: () => parts.err,
    ended,
    says: async (words) => {
      for (;;) {
        const found = words.exec(parts.out);
        if (found !== null) return found;
        if (child.exitCode !== null)
          throw new Error(`the demo ended before it said ${words}: ${parts.out}${parts.err}`);
        await new Promise((done) => setTimeout(done, pollMs));
      }
    },
    alive,
    [Symbol.asyncDispose]: async () => {
      child.kill('SIGTERM');
      await ended;
    },
  };
};
