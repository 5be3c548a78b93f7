import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Reporter, TestModule } from 'vitest/node';
import { readPromises, unproven } from './acceptance.ts';

const root = resolve(import.meta.dirname, '..');

/** A run of everything, as `npm test` makes it; only then must every promise have been tested. */
const isWholeRun = process.env.npm_lifecycle_event === 'test' && process.argv.length <= 3;

/**
 * Ends a run with `N passed, N failed`. A run without tests fails, and so does a whole run in which a promise of
 * docs/acceptance.md names a test that did not run and pass. The names of the tests go to `dist/tests-ran.json`.
 */
export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const inState = (state: string) => tests.filter((test) => test.result().state === state);
    const passed = inState('passed').map((test) => test.fullName);
    const skipped = inState('skipped').map((test) => test.fullName);
    const broken = modules.filter((module) => module.state() === 'failed' && module.errors().length > 0);
    for (const name of skipped) console.log(`left out: ${name}`);
    // Where a tool is missing its tests are named as left out; in CI nothing may be missing, and only what passed is proof.
    const ran = new Set(process.env.CI === undefined ? [...passed, ...skipped] : passed);
    const missing = isWholeRun ? unproven(readPromises(root), ran) : [];
    for (const { page, promise, test } of missing) console.log(`not proven (${page}): ${promise} [${test}]`);
    const faults = missing.length + broken.length + unhandled.length + (passed.length === 0 ? 1 : 0);
    if (faults > 0) process.exitCode = 1;
    mkdirSync(resolve(root, 'dist'), { recursive: true });
    writeFileSync(resolve(root, 'dist/tests-ran.json'), JSON.stringify(passed, null, 1));
    const left = skipped.length > 0 ? `, ${skipped.length} skipped` : '';
    console.log(`${passed.length} passed, ${inState('failed').length + faults} failed${left}`);
  }
}
