import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';

/** Every benchmark still runs: seconds each, with figures that mean nothing. */

const folder = join(import.meta.dirname, '../../bench');
const own = new Set(['run.ts', 'row.ts', 'beside-edc.ts']);
/** Needs `npm run build` first; what it starts is started from source elsewhere. */
const built = new Set(['start.ts']);
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.ts') && !own.has(file) && !built.has(file))
  .map((file) => file.replace(/\.ts$/, ''));

const runBench = async (args: readonly string[]) => {
  const env = { ...process.env, BENCH_TINY: '1' };
  return promisify(execFile)(process.execPath, [join(folder, 'run.ts'), ...args], { env });
};

describe('benchmarks', () => {
  test('each prints its rows beside its targets', async () => {
    expect(names.length).toBeGreaterThanOrEqual(7);
    const { stdout } = await runBench(names);
    expect(stdout).not.toContain('could not be run');
    const rows = stdout.split('\n').filter((line) => line.startsWith('| '));
    expect(rows.length).toBeGreaterThan(names.length);
    for (const row of rows) expect(row.split(' | '), row).toHaveLength(7);
    expect(stdout).toContain('Not measured, because the program has neither yet: mTLS');
  });

  test('a name that no benchmark has is a failure', async () => {
    await expect(runBench(['no-such-benchmark'])).rejects.toMatchObject({ code: 1 });
  });
});
