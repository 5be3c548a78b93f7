import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');

/** Where npm put a program of Foundry for this machine: its own install script is not needed, and not run. */
export const foundryProgram = (name: 'anvil' | 'forge'): string => {
  const processor = process.arch === 'x64' ? 'amd64' : process.arch;
  const path = join(root, `node_modules/@foundry-rs/${name}-${process.platform}-${processor}/bin/${name}`);
  if (!existsSync(path)) throw new Error(`there is no ${name} for ${process.platform} ${process.arch}: run npm ci`);
  return path;
};

/** Runs the forge tests of the anchor contract: thoroughly, or in a hurry as a part of `npm test`. */
export const runForgeTests = (profile: 'default' | 'quick'): { readonly passed: boolean; readonly output: string } => {
  const path = `${join(root, 'node_modules/.bin')}${delimiter}${process.env.PATH ?? ''}`; // the compiler runs on our Node
  const { status, stdout, stderr } = spawnSync(foundryProgram('forge'), ['test'], {
    cwd: join(root, 'contracts/anchor'),
    encoding: 'utf8',
    env: { ...process.env, PATH: path, FOUNDRY_PROFILE: profile, NO_COLOR: '1' },
  });
  return { passed: status === 0, output: `${stdout}${stderr}` };
};

if (import.meta.main) {
  const { passed, output } = runForgeTests('default');
  process.stdout.write(output);
  if (!passed) process.exitCode = 1;
}
