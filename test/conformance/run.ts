import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createLogger } from '../../kernel/log.ts';
import { type CaseName, caseNames } from './dsp/cases.ts';
import { type CaseResult, runKit } from './dsp/kit.ts';
import { type KitSettings, readSettings, SettingsError } from './dsp/settings.ts';
import { settingsAtFreePorts } from './places.ts';
import { startScenario } from './scenario/connector.ts';

/**
 * `npm run conformance`: the Dataspace Protocol's 65 cases against this connector, or another one.
 *
 * Exit codes: 0 all passed, 1 something failed, 2 the run could not be what was asked for.
 */

const usage = `npm run conformance -- [options] [CASE…]
  --properties FILE   test the connector that runs where this file says, and start none
  --official FOLDER   run the official kit, whose classes and jars are in FOLDER, instead of the project's own
  --extensions WORDS  announce and serve these extensions of ours only: all, none, or names
  --log               print the log of the connector that is started
CASE is the name of a case or of a group: CN:01-03, TP_C. All cases unless said otherwise.`;

class UsageError extends Error {}

const choose = (words: readonly string[]) => {
  const chosen = caseNames.filter(
    (name) => words.length === 0 || words.includes(name) || words.includes(name.split(':')[0] ?? ''),
  );
  const unknown = words.filter((word) => !chosen.some((name) => name === word || name.startsWith(`${word}:`)));
  if (unknown.length > 0) throw new UsageError(`there is no case ${unknown.join(', ')}`);
  return chosen;
};

const print = ({ name, failure }: CaseResult): void =>
  console.log(failure === undefined ? `passed ${name}` : `FAILED ${name}: ${failure}`);

const runOwn = async (settings: KitSettings, names: readonly CaseName[]): Promise<number> => {
  const results = await runKit({ settings, names, onResult: print });
  const failed = results.filter(({ failure }) => failure !== undefined).length;
  console.log(`${results.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
};

/** The official kit's exit code says nothing; that of the runner does (test/conformance/TckRunner.java). */
const runOfficial = async (folder: string, text: string): Promise<number> => {
  const scratch = mkdtempSync(join(tmpdir(), 'stekker-conformance-'));
  const properties = join(scratch, 'dsp.properties');
  writeFileSync(properties, text);
  try {
    const runner = join(import.meta.dirname, 'TckRunner.java');
    const child = spawn('java', ['-cp', `${folder}:${folder}/*`, runner, 'dsp', properties], { stdio: 'inherit' });
    const [code] = await once(child, 'exit');
    return typeof code === 'number' ? code : 1;
  } finally {
    rmSync(scratch, { recursive: true });
  }
};

const main = async (): Promise<number> => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      properties: { type: 'string' },
      official: { type: 'string' },
      extensions: { type: 'string', default: 'all' },
      log: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
  if (values.help === true) {
    console.log(usage);
    return 0;
  }
  if (values.official !== undefined && (values.properties !== undefined || positionals.length > 0))
    throw new UsageError('--official runs all cases against our own connector');
  const names = choose(positionals);
  const text = values.properties === undefined ? await settingsAtFreePorts() : readFileSync(values.properties, 'utf8');
  const settings = readSettings(text, caseNames);
  if (values.properties !== undefined) return runOwn(settings, names);
  const log = createLogger({ name: 'connector', level: values.log === true ? 'info' : 'silent' });
  await using _connector = await startScenario({ settings, log, extensions: values.extensions });
  // Awaited here: the connector stops when this function ends.
  return await (values.official === undefined ? runOwn(settings, names) : runOfficial(values.official, text));
};

try {
  process.exitCode = await main();
} catch (error) {
  const isUsage = error instanceof UsageError || (error instanceof TypeError && 'code' in error);
  if (!isUsage && !(error instanceof SettingsError)) throw error;
  console.error(`${error.message}${isUsage ? `\n${usage}` : ''}`);
  process.exitCode = 2;
}
