import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';
import type { BenchRow } from './row.ts';

/**
 * `npm run bench [-- NAME…]`: runs the benchmarks one after the other and prints their rows with machine and commit.
 * Exit code 1 when one could not be run; a missed target is a fact to report, not a failure.
 */
interface Benchmark {
  readonly run: () => Promise<readonly BenchRow[]>;
}

const isBenchmark = (module: unknown): module is Benchmark =>
  typeof module === 'object' && module !== null && 'run' in module && typeof module.run === 'function';

const own = new Set(['run.ts', 'row.ts', 'peers.ts', 'beside-edc.ts']);
const wanted = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const names = readdirSync(import.meta.dirname)
  .filter((file) => file.endsWith('.ts') && !own.has(file))
  .map((file) => file.replace(/\.ts$/, ''))
  .filter((name) => wanted.length === 0 || wanted.includes(name));

const number = (value: number): string =>
  value >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));

const line = (row: BenchRow): string => {
  const limit = row.limit === null ? '–' : `${number(row.limit)} ${row.unit}`;
  const ratio = row.ratio === null ? '–' : `${(row.ratio * 100).toFixed(0)} %`;
  const result = row.isHit === null ? '–' : row.isHit ? 'hit' : '**missed**';
  const measured = `${number(row.value)} ${row.unit}`;
  return `| ${row.name} | ${measured} | ${limit} | ${ratio} | ${row.target} | ${result} | ${row.growth} |`;
};

const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
/** What else runs on the machine takes from every figure; ratios within one run stand it best. */
const load = (loadavg()[0] ?? 0).toFixed(1);
const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
console.log(
  `${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}, ${memory}, Node ${process.version}, commit ${commit}, load ${load}\n`,
);
console.log(
  '| what | measured | bare limit, same run | ratio | target | result | growth |\n|---|---|---|---|---|---|---|',
);

let broken = 0;
for (const name of names) {
  try {
    const module: unknown = await import(join(import.meta.dirname, `${name}.ts`));
    if (!isBenchmark(module)) throw new Error(`${name} has no run()`);
    for (const row of await module.run()) console.log(line(row));
  } catch (error) {
    broken += 1;
    console.log(`| ${name} | could not be run: ${error instanceof Error ? error.message : String(error)} ||||||`);
  }
}
if (names.includes('data-plane'))
  console.log(
    '\nNot measured, because the program has neither yet: mTLS-bound tokens, and HMAC sessions after a handshake.',
  );
if (broken > 0 || names.length === 0) process.exitCode = 1;
