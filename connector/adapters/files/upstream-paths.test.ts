import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readPolicyTemplates } from './policy-templates.ts';
import { createPathCheck } from './upstream-paths.ts';

let folder = '';
const at = (...parts: readonly string[]) => join(folder, ...parts);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'stekker-paths-'));
  for (const name of ['data/keys', 'open']) mkdirSync(at(name), { recursive: true });
  writeFileSync(at('data/keys/main.json'), '{}');
  writeFileSync(at('open/rain.json'), '{}');
  symlinkSync(at('data/keys'), at('open/shortcut'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('paths that are published', () => {
  test('a file and a folder outside of the own data', async () => {
    const check = createPathCheck(at('data'));
    expect(await check('file', at('open/rain.json'))).toBeUndefined();
    expect(await check('folder', at('open'))).toBeUndefined();
  });

  test.each([
    ['the own data', 'folder', ['data'], 'own data'],
    ['a file in it', 'file', ['data/keys/main.json'], 'own data'],
    ['a link into it', 'folder', ['open/shortcut'], 'own data'],
    ['a folder around it', 'folder', ['.'], 'own data'],
    ['a file named as a folder', 'folder', ['open/rain.json'], 'is no folder'],
    ['a folder named as a file', 'file', ['open'], 'is no file'],
    ['what is not there', 'file', ['open/none'], 'is not there'],
  ] as const)('not %s', async (_what, kind, parts, why) => {
    expect(await createPathCheck(at('data'))(kind, at(...parts))).toContain(why);
  });

  test('not a relative path', async () => {
    expect(await createPathCheck(at('data'))('file', 'open/rain.json')).toBe('is not an absolute path');
  });
});

describe('policy templates', () => {
  test('all that come with the program are there by name', () => {
    expect([...readPolicyTemplates().keys()]).toEqual(['accredited', 'count', 'members', 'open', 'purpose', 'until']);
  });
});
