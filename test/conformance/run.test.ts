import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { root, run } from '../support/program.ts';
import { settingsAtFreePorts } from './places.ts';

/** The command as a person or a machine calls it. */

const folder = mkdtempSync(join(tmpdir(), 'stekker-conformance-'));
afterAll(() => rmSync(folder, { recursive: true }));

const conformance = (...args: readonly string[]) =>
  run({ command: [process.execPath, join(root, 'test/conformance/run.ts')], args, env: {} });

describe('npm run conformance', () => {
  let nowhere: string;
  beforeAll(async () => {
    nowhere = join(folder, 'nowhere.properties');
    writeFileSync(nowhere, await settingsAtFreePorts());
  });

  test('names each case, and ends with what passed', async () => {
    const { code, out } = await conformance('MET', 'CAT:01-01', 'CN_C:01-04');
    expect(out.trimEnd().split('\n').toSorted()).toEqual(
      ['passed MET:01-01', 'passed CAT:01-01', 'passed CN_C:01-04', '3 passed, 0 failed'].toSorted(),
    );
    expect(out.trimEnd().split('\n').at(-1)).toBe('3 passed, 0 failed');
    expect(code).toBe(0);
  });

  test('passes nothing where nothing runs, and fails', async () => {
    const { code, out } = await conformance('--properties', nowhere);
    expect(out.trimEnd().split('\n').at(-1)).toBe('0 passed, 65 failed');
    expect(out.match(/^FAILED /gm)).toHaveLength(65);
    expect(code).toBe(1);
  });

  test('does not start with what it cannot do', async () => {
    const empty = join(folder, 'empty.properties');
    writeFileSync(empty, 'dataspacetck.port=8083\n');
    const tries = [
      ['CN:09-09'],
      ['--nothing'],
      ['--properties', empty],
      ['--properties', nowhere, '--official', folder],
    ];
    for (const args of tries) {
      const { code, out, err } = await conformance(...args);
      expect([code, out], args.join(' ')).toEqual([2, '']);
      expect(err).not.toBe('');
    }
  });

  test('fails when there is no official kit in the folder', async () => {
    const { code, out } = await conformance('--official', folder);
    expect(out).not.toContain('passed');
    expect(code).not.toBe(0);
  });
});
