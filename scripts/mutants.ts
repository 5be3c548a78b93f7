import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
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

interface Outcome {
  readonly red: boolean;
  readonly output: string;
}

const timeoutMs = 300_000;

const runTests = (copy: string, tests: readonly string[]): Promise<Outcome> =>
  new Promise((done, fail) => {
    const child = spawn(
      join(root, 'node_modules/.bin/node'),
      [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--bail', '1', ...tests],
      { cwd: copy, timeout: timeoutMs, env: { ...process.env, CI: 'true' }, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    child.once('error', fail);
    child.once('close', (code) => done({ red: code !== 0, output }));
  });

const ranSomething = (output: string): boolean => /\b[1-9]\d* failed\b/.test(output);

const tryMutant = async (copy: string, mutant: Mutant): Promise<string | undefined> => {
  const path = join(copy, mutant.file);
  const source = readFileSync(path, 'utf8');
  const places = source.split(mutant.find).length - 1;
  if (places !== 1) return `its text stands ${places} times in ${mutant.file}, once is needed`;
  writeFileSync(
    path,
    source.replace(mutant.find, () => mutant.replace),
  );
  try {
    const { red, output } = await runTests(copy, mutant.tests);
    if (!red) return 'SURVIVED: its tests stayed green';
    return ranSomething(output) ? undefined : `no test failed, the run broke:\n${output.slice(-2000)}`;
  } finally {
    writeFileSync(path, source);
  }
};

/** A copy of the project in which one mutant after the other is put and taken out again. */
const makeCopy = (place: string): string => {
  cpSync(root, place, {
    recursive: true,
    filter: (path) => !skipped.has(path.slice(root.length + 1).split('/')[0] ?? ''),
  });
  symlinkSync(join(root, 'node_modules'), join(place, 'node_modules'));
  return place;
};

/** Tries mutants of a list until none is left; several do that at once, each in its own copy. Answers how many stayed alive. */
const tryAll = async (copy: string, waiting: Mutant[]): Promise<number> => {
  let alive = 0;
  for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
    const fault = await tryMutant(copy, mutant);
    if (fault !== undefined) alive += 1;
    process.stdout.write(`${fault === undefined ? 'killed  ' : 'ALIVE   '} ${mutant.name} (${mutant.rule})\n`);
    if (fault !== undefined) process.stdout.write(`  ${mutant.why}\n  ${fault}\n`);
  }
  return alive;
};

const maxCopies = 4;

if (import.meta.main) {
  const place = mkdtempSync(join(tmpdir(), 'stekker-mutants-'));
  try {
    const mutants = readMutants(process.argv.slice(2));
    const count = Math.min(availableParallelism(), maxCopies, Math.max(1, mutants.length));
    const copies = Array.from({ length: count }, (_, number) => makeCopy(join(place, String(number))));
    const tests = [...new Set(mutants.flatMap((mutant) => mutant.tests))];
    const whole = await runTests(copies[0] ?? root, tests);
    if (whole.red) throw new Error(`the tests must be green before a mutant is tried:\n${whole.output.slice(-4000)}`);
    const waiting = [...mutants];
    const counts = await Promise.all(copies.map((copy) => tryAll(copy, waiting)));
    const alive = counts.reduce((sum, one) => sum + one, 0);
    process.stdout.write(`${mutants.length - alive} mutants killed, ${alive} alive\n`);
    if (alive > 0 || mutants.length === 0) process.exitCode = 1;
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}
