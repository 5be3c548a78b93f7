import type { z } from 'zod';
import { type Finished, ProcessFailed, root, runProgram } from './processes.ts';
import type { Report } from './report.ts';

/** The demo's people at their terminals: everything they do is a command line of `stekker`. */

export interface Operator {
  /** The name before the prompt. */
  readonly who: string;
  /** Which service the commands speak to, and the token for it. */
  readonly env: Readonly<Record<string, string>>;
}

export interface Terminal {
  /** Runs a command, reads its `--json`, and fails with what it said. */
  readonly run: <Value>(who: Operator, args: readonly string[], schema: z.ZodType<Value>) => Promise<Value>;
  /** Runs a command as it is, whatever its exit code. */
  readonly attempt: (who: Operator, args: readonly string[]) => Promise<Finished>;
}

/** This Node runs the command line too. */
export const stekker = [process.execPath, `${root}/bin/stekker.ts`] as const;

const shownSecrets = new Set(['join']);

/** A join code is shown nowhere: it works once, but not before it was used. */
const shown = (args: readonly string[]): readonly string[] =>
  shownSecrets.has(args[0] ?? '') ? [args[0] ?? '', '<code>', ...args.slice(2)] : args;

export interface TerminalOptions {
  readonly report: Report;
  readonly signal: AbortSignal;
  /** Folder for what Node has compiled: some thirty commands run in a demo, and each would do it again. */
  readonly cache: string;
}

export const createTerminal = ({ report, signal, cache }: TerminalOptions): Terminal => {
  const [node, program] = stekker;
  const attempt: Terminal['attempt'] = (who, args) => {
    report.command(who.who, shown(args));
    return runProgram(node, [program, ...args, '--json'], { env: { ...who.env, NODE_COMPILE_CACHE: cache }, signal });
  };
  return {
    attempt,
    run: async (who, args, schema) => {
      const { code, out, err } = await attempt(who, args);
      if (code !== 0)
        throw new ProcessFailed(`${who.who}: stekker ${shown(args).join(' ')} ended with ${code}: ${err.trim()}`);
      return schema.parse(JSON.parse(out));
    },
  };
};
