#!/usr/bin/env node
import { isAppError } from '../contracts/errors.ts';
import { helpOf, parseCommandLine } from './command.ts';
import { verify } from './commands/verify.ts';

/** The verifier alone, built into one file that needs nothing but Node: for an auditor's drawer. */
try {
  const parsed = parseCommandLine(verify, process.argv.slice(2));
  const out = (line: string) => void process.stdout.write(`${line}\n`);
  if (parsed.flag('help')) out(helpOf(verify));
  else {
    const err = (line: string) => void process.stderr.write(`${line}\n`);
    process.exitCode = await verify.run(parsed, { out, err, env: {}, signal: new AbortController().signal });
  }
} catch (error) {
  if (!isAppError(error)) throw error;
  process.stderr.write(`${error.detail ?? error.title}\n`);
  process.exitCode = 2;
}
