#!/usr/bin/env node
import { type AppError, isAppError } from '../contracts/errors.ts';
import { type Command, helpOf, parseCommandLine, type Terminal } from './command.ts';

/**
 * The one command. Each subcommand is loaded when it is asked for, so that `stekker verify` never loads a server.
 */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  anchor: async () => (await import('./commands/anchor.ts')).anchor,
  health: async () => (await import('./commands/health.ts')).health,
  trust: async () => (await import('./commands/trust.ts')).trust,
  verify: async () => (await import('./commands/verify.ts')).verify,
};

const overview = async (): Promise<string> => {
  const all = await Promise.all(Object.values(commands).map((load) => load()));
  const lines = all.map((command) => `  ${command.name.padEnd(12)} ${command.summary}`);
  return ['stekker COMMAND …', '', 'Commands', ...lines, '', 'More about one: stekker COMMAND --help'].join('\n');
};

/** What to do next, for the faults that people meet most. */
const advice: Readonly<Record<string, string>> = {
  'port-in-use': 'Stop the other program, or choose another port in the settings.',
  'passphrase-wrong': 'Give the passphrase that the keys in this data folder were made with.',
  'data-newer': 'Start the newer version again, or restore the data folder of this one.',
  'data-in-use': 'Stop the other process first; one process works in a data folder.',
  'disk-full': 'Free space on the disk; nothing that was accepted is lost.',
  unauthenticated: 'Check STEKKER_MANAGEMENT_TOKEN: it must be the token that the service was started with.',
};

const printError = (error: AppError, asJson: boolean, terminal: Terminal): void => {
  const { code, title, detail, faults } = error;
  if (asJson) {
    terminal.err(JSON.stringify({ error: { code, title, detail, faults } }));
    return;
  }
  terminal.err(`stekker: ${detail ?? title} (${code})`);
  for (const fault of faults) terminal.err(`  ${fault.path}: ${fault.message}`);
  const next = advice[code];
  if (next !== undefined) terminal.err(next);
};

const execute = async (args: readonly string[], terminal: Terminal): Promise<number> => {
  const [name, ...rest] = args;
  const load = name === undefined ? undefined : commands[name];
  if (load === undefined) {
    const wanted = name === undefined || name === '--help' || name === '-h' || name === 'help';
    (wanted ? terminal.out : terminal.err)(
      wanted ? await overview() : `stekker: there is no command "${name}". See: stekker --help`,
    );
    return wanted ? 0 : 2;
  }
  const command = await load();
  const parsed = parseCommandLine(command, rest);
  if (parsed.flag('help')) {
    terminal.out(helpOf(command));
    return 0;
  }
  return await command.run(parsed, terminal);
};

const usageFaults = new Set(['invalid-request', 'config-invalid']);

/** Runs one command line and returns the exit code; never throws for a fault of the table. */
export const main = async (args: readonly string[], terminal: Terminal): Promise<number> => {
  try {
    return await execute(args, terminal);
  } catch (error) {
    if (!isAppError(error)) throw error;
    printError(error, args.includes('--json'), terminal);
    return usageFaults.has(error.code) ? 2 : 1;
  }
};

if (import.meta.main) {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  process.exitCode = await main(process.argv.slice(2), {
    out: (line) => process.stdout.write(`${line}\n`),
    err: (line) => process.stderr.write(`${line}\n`),
    env: process.env,
    signal: stop.signal,
  });
}
