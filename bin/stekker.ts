#!/usr/bin/env node
import { type AppError, isAppError } from '../contracts/errors.ts';
import { type Command, helpOf, parseCommandLine, type Terminal } from './command.ts';
import { plain } from './text.ts';

/**
 * The one command. Each subcommand is loaded when it is asked for, so that `stekker verify` never loads a server.
 */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  broker: async () => (await import('./commands/broker.ts')).broker,
  connector: async () => (await import('./commands/connector.ts')).connector,
  join: async () => (await import('./commands/join.ts')).join,
  application: async () => (await import('./commands/application.ts')).application,
  publish: async () => (await import('./commands/publish.ts')).publish,
  withdraw: async () => (await import('./commands/withdraw.ts')).withdraw,
  offers: async () => (await import('./commands/offers.ts')).offers,
  fetch: async () => (await import('./commands/fetch.ts')).fetchData,
  usage: async () => (await import('./commands/usage.ts')).usage,
  amend: async () => (await import('./commands/amend.ts')).amend,
  end: async () => (await import('./commands/end.ts')).end,
  receipt: async () => (await import('./commands/receipt.ts')).receipt,
  invite: async () => (await import('./commands/invite.ts')).invite,
  accredit: async () => (await import('./commands/accredit.ts')).accredit,
  revoke: async () => (await import('./commands/revoke.ts')).revoke,
  anchor: async () => (await import('./commands/anchor.ts')).anchor,
  demo: async () => (await import('./commands/demo.ts')).demo,
  health: async () => (await import('./commands/health.ts')).health,
  trust: async () => (await import('./commands/trust.ts')).trust,
  verify: async () => (await import('./commands/verify.ts')).verify,
};

/** Every command, in the order of the help. */
export const loadCommands = (): Promise<Command[]> => Promise.all(Object.values(commands).map((load) => load()));

const overview = async (): Promise<string> => {
  const all = await loadCommands();
  const lines = all.map((command) => `  ${command.name.padEnd(12)} ${command.summary}`);
  return ['stekker COMMAND …', '', 'Commands', ...lines, '', 'More about one: stekker COMMAND --help'].join('\n');
};

/** What to do next, for the faults that people meet most. */
const advice: Readonly<Record<string, string>> = {
  'port-in-use': 'Stop the other program, or choose another port in the settings.',
  'passphrase-wrong': 'Give the passphrase that the keys in this data folder were made with.',
  'data-newer': 'Start the newer version again, or restore the data of this one.',
  'database-unavailable': 'Look whether the database runs and can be reached; nothing that was accepted is lost.',
  'data-in-use': 'Stop the other process first; one process works in a data folder.',
  'disk-full': 'Free space on the disk; nothing that was accepted is lost.',
  'not-yet': 'Ask again later; nothing is lost.',
  'peer-refused': 'The other side decided. See what fits you, and why not the rest, with: stekker offers',
  'policy-denied': 'Name the purpose with --purpose, and use an application that is accredited for it.',
  'version-conflict': 'Choose another id, or publish other terms under the same one with --replace.',
  unauthenticated: 'Check STEKKER_MANAGEMENT_TOKEN: it must be the token that the service was started with.',
};

const printError = (error: AppError, asJson: boolean, terminal: Terminal): void => {
  const { code, title, detail, faults } = error;
  if (asJson) {
    terminal.err(JSON.stringify({ error: { code, title, detail, faults } }));
    return;
  }
  terminal.err(plain(`stekker: ${detail ?? title} (${code})`));
  for (const { path, message } of faults) terminal.err(plain(`  ${path === '' ? '/' : path}: ${message}`));
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
    write: (bytes) =>
      new Promise((resolve, reject) => {
        process.stdout.write(bytes, (error) => (error ? reject(error) : resolve()));
      }),
    env: process.env,
    signal: stop.signal,
  });
}
