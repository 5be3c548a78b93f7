import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';

/**
 * Applies each committed mutant (test/mutants/*.json) to a copy of the project and demands that its tests turn red:
 * a rule whose wrong variant stays green is not tested. `npm run mutants -- NAME…` runs only those.
 */
const mutantSchema = z.strictObject({
  rule: z.string().min(1),
  why: z.string().min(1),
  file: z.string(),
  find: z.string().min(1),
  replace: z.string(),
  tests: z.array(z.string()).min(1),
});
type Mutant = z.infer<typeof mutantSchema> & { readonly name: string };

const root = resolve(import.meta.dirname, '..');
const folder = join(root, 'test/mutants');
const skipped = new Set(['node_modules', 'dist', '.git', 'data', '.demo']);

/** The committed mutants of these names, or all of them. */
export const readMutants = (names: readonly string[]): Mutant[] =>
  readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .map((file) => ({
      name: file.replace(/\.json$/, ''),
      ...mutantSchema.parse(JSON.parse(readFileSync(join(folder, file), 'utf8'))),
    }))
    .filter((mutant) => names.length === 0 || names.includes(mutant.name));

const runTests = (copy: string, tests: readonly string[]): { red: boolean; output: string } => {
  const run = spawnSync(
    join(root, 'node_modules/.bin/node'),
    [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--bail', '1', ...tests],
    { cwd: copy, encoding: 'utf8', timeout: 300_000, env: { ...process.env, CI: 'true' } },
  );
  return { red: run.status !== 0, output: `${run.stdout}${run.stderr}` };
};

const ranSomething = (output: string): boolean => /\b[1-9]\d* failed\b/.test(output);

const tryMutant = (copy: string, mutant: Mutant): string | undefined => {
  const path = join(copy, mutant.file);
  const source = readFileSync(path, 'utf8');
  const places = source.split(mutant.find).length - 1;
  if (places !== 1) return `its text stands ${places} times in ${mutant.file}, once is needed`;
  writeFileSync(
    path,
    source.replace(mutant.find, () => mutant.replace),
  );
  try {
    const { red, output } = runTests(copy, mutant.tests);
    if (!red) return 'SURVIVED: its tests stayed green';
    return ranSomething(output) ? undefined : `no test failed, the run broke:\n${output.slice(-2000)}`;
  } finally {
    writeFileSync(path, source);
  }
};

if (import.meta.main) {
  const copy = mkdtempSync(join(tmpdir(), 'stekker-mutants-'));
  try {
    cpSync(root, copy, {
      recursive: true,
      filter: (path) => !skipped.has(path.slice(root.length + 1).split('/')[0] ?? ''),
    });
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    const mutants = readMutants(process.argv.slice(2));
    const tests = [...new Set(mutants.flatMap((mutant) => mutant.tests))];
    const whole = runTests(copy, tests);
    if (whole.red) throw new Error(`the tests must be green before a mutant is tried:\n${whole.output.slice(-4000)}`);
    let alive = 0;
    for (const mutant of mutants) {
      const fault = tryMutant(copy, mutant);
      if (fault !== undefined) alive += 1;
      process.stdout.write(`${fault === undefined ? 'killed  ' : 'ALIVE   '} ${mutant.name} (${mutant.rule})\n`);
      if (fault !== undefined) process.stdout.write(`  ${mutant.why}\n  ${fault}\n`);
    }
    process.stdout.write(`${mutants.length - alive} mutants killed, ${alive} alive\n`);
    if (alive > 0 || mutants.length === 0) process.exitCode = 1;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}
