import { spawn, spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const folders = ['contracts', 'policies', 'kernel', 'connector', 'broker'];
let copy = '';

const run = (command: string, args: readonly string[]): Promise<string> =>
  new Promise((done, fail) => {
    const child = spawn(join(root, 'node_modules/.bin', command), args, {
      cwd: copy,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    child.once('error', fail);
    child.once('close', () => done(output));
  });

/** Puts a file into the copy of the project, runs the checks, and returns the lines that speak of that file. */
const complaints = async (path: string, source: string, project: string): Promise<string> => {
  const file = join(copy, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, source);
  try {
    const [compiler, linter] = await Promise.all([
      run('tsc', ['-b', project, '--pretty', 'false']),
      run('biome', ['lint', '--colors=off', '--max-diagnostics=100', path]),
    ]);
    return `${compiler
      .split('\n')
      .filter((line) => line.includes(path))
      .join('\n')}\n${linter}`;
  } finally {
    rmSync(file);
  }
};

beforeAll(() => {
  copy = mkdtempSync(join(tmpdir(), 'stekker-boundaries-'));
  for (const folder of folders) cpSync(join(root, folder), join(copy, folder), { recursive: true });
  for (const file of ['tsconfig.base.json', 'biome.json', 'package.json']) cpSync(join(root, file), join(copy, file));
  spawnSync('git', ['init', '-q'], { cwd: copy });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
});
afterAll(() => rmSync(copy, { recursive: true, force: true }));

describe('boundaries', () => {
  test('a lawful file passes both checks, so a complaint below is about the import', async () => {
    const source =
      "import { AppError } from '../../contracts/errors.ts';\nexport const fault = () => new AppError('not-found');\n";
    const said = await complaints('connector/catalog/lawful.ts', source, 'connector');
    expect(said).not.toContain('error');
    expect(said).toContain('Checked 1 file');
  });

  test('connector may not import broker', async () => {
    const source = "export { readBrokerConfig } from '../broker/config.ts';\n";
    expect(await complaints('connector/unlawful.ts', source, 'connector')).toContain('TS6307');
  });

  test('broker may not import connector', async () => {
    const source = "export { readConnectorConfig } from '../connector/config.ts';\n";
    expect(await complaints('broker/unlawful.ts', source, 'broker')).toContain('TS6307');
  });

  test('a pure file may not import an adapter', async () => {
    mkdirSync(join(copy, 'connector/adapters/memory'), { recursive: true });
    writeFileSync(join(copy, 'connector/adapters/memory/probe.ts'), 'export const probe = 1;\n');
    const source = "export { probe } from '../adapters/memory/probe.ts';\n";
    const said = await complaints('connector/catalog/unlawful.pure.ts', source, 'connector/tsconfig.pure.json');
    expect(said).toContain('TS6307');
    expect(said).toContain('noRestrictedImports');
  });

  test.each([
    ['setTimeout', 'export const x = setTimeout;\n', 'TS2304'],
    ['process', 'export const x = process;\n', 'TS2591'],
    ['console', "console.log('x');\nexport {};\n", 'TS2584'],
    ['node:crypto', "export { createHash } from 'node:crypto';\n", 'TS'],
    ['Date', 'export const x = () => new Date();\n', 'noRestrictedGlobals'],
  ])('a pure file may not use %s', async (_name, source, code) => {
    expect(await complaints('connector/catalog/unlawful.pure.ts', source, 'connector/tsconfig.pure.json')).toContain(
      code,
    );
  });

  test('contracts may not use Node', async () => {
    expect(await complaints('contracts/unlawful.ts', "export { hash } from 'node:crypto';\n", 'contracts')).toContain(
      'TS',
    );
  });

  test('a slice may not import another slice, nor an adapter', async () => {
    mkdirSync(join(copy, 'connector/transfer'), { recursive: true });
    writeFileSync(join(copy, 'connector/transfer/probe.ts'), 'export const probe = 1;\n');
    const slice = await complaints(
      'connector/catalog/unlawful.ts',
      "export { probe } from '../transfer/probe.ts';\n",
      'connector',
    );
    expect(slice).toContain('noRestrictedImports');
    const adapter = "export { probe } from '../adapters/memory/probe.ts';\n";
    expect(await complaints('connector/catalog/unlawful.ts', adapter, 'connector')).toContain('noRestrictedImports');
  });

  test('the conformance kit may not import anything of what it tests', async () => {
    const places = ['contracts/errors', 'policies/compile', 'kernel/clock', 'connector/config', 'broker/config'];
    const unlawful = [...places.map((place) => `../../../${place}`), '../../support/sites', '../scenario/connector'];
    const source = (paths: readonly string[]) => paths.map((path) => `export * from '${path}.ts';\n`).join('');
    const said = await complaints('test/conformance/dsp/unlawful.ts', source(unlawful), 'contracts');
    expect(said.match(/noRestrictedImports/g)).toHaveLength(unlawful.length);
    const lawful = await complaints('test/conformance/dsp/lawful.ts', source(['./cases', './forms']), 'contracts');
    expect(lawful).not.toContain('noRestrictedImports');
    expect(lawful).toContain('Checked 1 file');
  });

  test('a slice may not read the environment', async () => {
    const source = 'export const home = process.env.HOME;\n';
    expect(await complaints('broker/store/unlawful.ts', source, 'broker')).toContain('noProcessEnv');
  });
});
