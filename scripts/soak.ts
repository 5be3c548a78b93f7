import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';

/**
 * The simulations of negotiation, transfer and crash with far more seeds than a test run has time for:
 * `npm run soak` plays a million on the pure machines and twenty thousand on the services over SQLite;
 * `npm run soak -- 5000000 100000` plays more. A seed that diverges is printed, and the run fails.
 */

const [seeds = '1000000', serviceSeeds = '20000'] = process.argv.slice(2);
const root = resolve(import.meta.dirname, '..');

const play = (test: string, env: Readonly<Record<string, string>>): Promise<number> =>
  new Promise((done, fail) => {
    const began = process.hrtime.bigint();
    const child = spawn(join(root, 'node_modules/.bin/vitest'), ['run', test], {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: 'inherit',
    });
    child.once('error', fail);
    child.once('close', (code) => {
      console.log(`${test}: ${Number((process.hrtime.bigint() - began) / 1_000_000_000n)} s`);
      done(code ?? 1);
    });
  });

const codes = [
  await play('test/simulation/processes.test.ts', { SEEDS: seeds }),
  await play('test/simulation/services.test.ts', { SERVICE_SEEDS: serviceSeeds }),
];
process.exitCode = codes.every((code) => code === 0) ? 0 : 1;
