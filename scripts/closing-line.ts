import { writeFileSync } from 'node:fs';
import type { Reporter, TestModule } from 'vitest/node';

/**
 * Ends a run with `N passed, N failed` and writes the names of the tests that ran to `dist/tests-ran.json`,
 * for the check that every promise of docs/acceptance.md names a test that ran. A run without tests fails.
 */
export default class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const tests = modules.flatMap((module) => [...module.children.allTests()]);
    const count = (state: string) => tests.filter((test) => test.result().state === state).length;
    const brokenModules = modules.filter((module) => module.state() === 'failed' && module.errors().length > 0);
    const failed = count('failed') + brokenModules.length + unhandled.length;
    const skipped = count('skipped');
    const ran = tests.filter((test) => test.result().state === 'passed').map((test) => test.fullName);
    writeFileSync(new URL('../dist/tests-ran.json', import.meta.url), JSON.stringify(ran, null, 1));
    for (const test of tests) if (test.result().state === 'skipped') console.log(`left out: ${test.fullName}`);
    const none = ran.length === 0 ? 1 : 0;
    if (none > 0) process.exitCode = 1;
    console.log(`${ran.length} passed, ${failed + none} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  }
}
