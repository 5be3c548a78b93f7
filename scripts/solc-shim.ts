#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { compileStandard, solcVersion } from './solidity.ts';

/** Stands in for the program `solc`, which forge calls in two ways only: for its version, and with standard JSON. */
const args = process.argv.slice(2);
const valuesOf = (name: string): string[] =>
  args.flatMap((arg, place) => (arg === name && args[place + 1] !== undefined ? [String(args[place + 1])] : []));

if (args.includes('--version')) {
  process.stdout.write(`solc, the solidity compiler commandline interface\nVersion: ${solcVersion()}.Linux.g++\n`);
} else if (args.includes('--standard-json')) {
  const roots = [...valuesOf('--base-path'), ...valuesOf('--include-path'), process.cwd()];
  process.stdout.write(compileStandard(readFileSync(0, 'utf8'), roots));
} else {
  process.stderr.write(`this stands in for solc and does not know: ${args.join(' ')}\n`);
  process.exitCode = 1;
}
