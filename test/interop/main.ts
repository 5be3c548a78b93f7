import { consuming } from './scenarios/consuming.ts';
import { ending } from './scenarios/ending.ts';
import { many } from './scenarios/many.ts';
import { providing } from './scenarios/providing.ts';
import { openWorld, type Scenarios } from './world.ts';

/**
 * `npm run interop [-- WORD…]`: a connector of ours and two of EDC, over the Dataspace Protocol 2025-1. Prints every scenario,
 * and ends with how many passed; the exit code is 0 when none failed. Words choose scenarios by what is in their names.
 */

const scenarios: Scenarios = { ...consuming, ...providing, ...ending, ...many };

const words = process.argv.slice(2);
const chosen = Object.entries(scenarios).filter(
  ([name]) => words.length === 0 || words.some((word) => name.includes(word)),
);

const failureOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

let passed = 0;
{
  await using world = await openWorld();
  for (const [name, run] of chosen) {
    const start = performance.now();
    const took = () => `${((performance.now() - start) / 1_000).toFixed(1)} s`;
    try {
      const note = await run(world);
      passed += 1;
      console.log(`passed  ${name} (${took()})${note === undefined ? '' : `: ${note}`}`);
    } catch (error) {
      console.log(`failed  ${name} (${took()}): ${failureOf(error)}`);
    }
  }
}
const failed = chosen.length - passed;
console.log(`${passed} passed, ${failed} failed`);
if (failed > 0 || passed === 0) process.exitCode = 1;
