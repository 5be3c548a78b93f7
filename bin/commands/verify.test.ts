import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import vectors from '../../contracts/ledger/vectors.json' with { type: 'json' };
import { buildVerifier } from '../../scripts/build-verifier.ts';
import { main } from '../stekker.ts';

let folder = '';
const at = (name: string) => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'stekker-verify-'));
  writeFileSync(at('receipt.json'), vectors.receipt.jcs);
  writeFileSync(at('trust.json'), vectors.trust.jcs);
  writeFileSync(at('nobody.json'), '{"chains":[],"logs":[],"type":"trust","v":1}');
  writeFileSync(at('flipped.json'), vectors.receipt.jcs.replace('"bytes":"4"', '"bytes":"5"'));
  writeFileSync(at('other.json'), '{"type":"invoice","v":1}');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const run = async (...args: string[]) => {
  const out: string[] = [];
  const err: string[] = [];
  const code = await main(['verify', ...args], {
    out: (line) => void out.push(line),
    err: (line) => void err.push(line),
    env: {},
    signal: new AbortController().signal,
  });
  return { code, out: out.join('\n'), err: err.join('\n') };
};

describe('stekker verify', () => {
  test('prints every step, the verdict and what was not checked', async () => {
    const { code, out } = await run(at('receipt.json'), '--trust', at('trust.json'));
    expect(code).toBe(0);
    for (const step of [
      '1 record',
      '2 signatures',
      '3 one agreement',
      '4 log entries',
      '5 entries in the log',
      '6 anchor',
      'VALID',
      'Not checked:',
    ]) {
      expect(out).toContain(step);
    }
    expect(out.match(/^ {2}- /gm)).toHaveLength(7);
  });

  test('speaks Dutch', async () => {
    const { out } = await run(at('receipt.json'), '--trust', at('trust.json'), '--lang', 'nl');
    expect(out).toContain('GELDIG');
    expect(out).toContain('Niet gecontroleerd:');
  });

  test.each([
    ['a changed field', 'flipped.json', 'trust.json', 1],
    ['another kind of file', 'other.json', 'trust.json', 2],
    ['a file that is not there', 'missing.json', 'trust.json', 2],
    ['nobody to trust', 'receipt.json', 'nobody.json', 3],
  ])('exit code for %s', async (_what, file, trust, code) => {
    expect((await run(at(file), '--trust', at(trust))).code).toBe(code);
  });

  test('of several files the gravest counts, and --json gives all verdicts', async () => {
    const { code, out } = await run(at('receipt.json'), at('flipped.json'), '--trust', at('trust.json'), '--json');
    expect(code).toBe(1);
    expect(JSON.parse(out).files.map((file: { code: number }) => file.code)).toEqual([0, 1]);
  });

  test('without trust file, or with a broken one, it says how to make one', async () => {
    expect(await run(at('receipt.json'))).toMatchObject({ code: 2, err: expect.stringContaining('--trust is needed') });
    expect((await run(at('receipt.json'), '--trust', at('receipt.json'))).err).toContain('stekker trust --broker URL');
    expect((await run('--trust', at('trust.json'))).err).toContain('a receipt file is needed');
  });

  test('is also one file that runs in an empty folder', async () => {
    const program = at('stekker-verify.mjs');
    await buildVerifier(program);
    const result = spawnSync(process.execPath, [program, 'receipt.json', '--trust', 'trust.json'], {
      cwd: folder,
      encoding: 'utf8',
      env: {},
    });
    expect(result.stdout).toContain('VALID');
    expect(result.status).toBe(0);
    const refused = spawnSync(process.execPath, [program, 'flipped.json', '--trust', 'trust.json'], {
      cwd: folder,
      encoding: 'utf8',
      env: {},
    });
    expect(refused.status).toBe(1);
    const wrong = spawnSync(process.execPath, [program, '--what'], { cwd: folder, encoding: 'utf8', env: {} });
    expect(wrong.status).toBe(2);
    expect(spawnSync(process.execPath, [program, '--help'], { encoding: 'utf8', env: {} }).stdout).toContain(
      '--trust FILE',
    );
  });
});
