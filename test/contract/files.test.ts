import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { textOf, utf8 } from '../../contracts/bytes.ts';
import { type FilePort, nodeFiles } from '../../kernel/files.ts';
import { seededRandom } from '../../kernel/random.ts';
import { Crash, type TornFiles, tornFiles } from '../support/torn-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'stekker-files-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const write = async (files: FilePort, path: string, text: string): Promise<void> => {
  const file = await files.open(path);
  await file.append(utf8(text));
  await file.sync();
  await file.close();
};
const readText = async (files: FilePort, path: string) => {
  const bytes = await files.read(path);
  return bytes && textOf(bytes);
};

describe.each([
  ['node', () => nodeFiles, folder],
  ['torn', tornFiles, '/data'],
])('FilePort: %s', (_name, make, root) => {
  test('appends, reads, lists, replaces and removes', async () => {
    const files: FilePort = make();
    const at = (name: string) => `${root}/plain/${name}`;
    expect(await files.read(at('one'))).toBeUndefined();
    expect(await files.list(at('nothing'))).toEqual([]);
    await write(files, at('one'), 'a');
    await write(files, at('one'), 'b');
    await write(files, at('two.tmp'), 'c');
    expect(await files.list(`${root}/plain`)).toEqual(['one', 'two.tmp']);
    await files.makeFolder(`${root}/plain`);
    await files.rename(at('two.tmp'), at('one'));
    await files.syncFolder(`${root}/plain`);
    expect(await readText(files, at('one'))).toBe('c');
    expect(await files.list(`${root}/plain`)).toEqual(['one']);
    await files.remove(`${root}/plain`);
    await files.remove(at('one'));
    expect(await files.list(`${root}/plain`)).toEqual([]);
  });

  test('of several that make one file at once one gets it, and whoever comes later does not', async () => {
    const files: FilePort = make();
    const path = `${root}/made/one`;
    const made = await Promise.all(Array.from({ length: 8 }, () => files.create(path)));
    const [file, ...others] = made.filter((one) => one !== undefined);
    expect(others).toEqual([]);
    await file?.append(utf8('a'));
    await file?.close();
    expect(await files.create(path)).toBeUndefined();
    await write(files, path, 'b');
    expect(await readText(files, path)).toBe('ab');
  });

  test('a fixed file holds zeros until it is written to, and can be cut', async () => {
    const files: FilePort = make();
    const path = `${root}/fixed/one`;
    const file = await files.allocate(path, 3_000_000);
    await files.syncFolder(`${root}/fixed`);
    await file.write(utf8('abc'), 10);
    await file.write(utf8('d'), 2_999_999);
    await file.close();
    const bytes = (await files.read(path)) ?? new Uint8Array(0);
    expect(bytes.length).toBe(3_000_000);
    expect(textOf(bytes.subarray(8, 14))).toBe('\u0000\u0000abc\u0000');
    expect(bytes.reduce((sum, byte) => sum + byte, 0)).toBe(97 + 98 + 99 + 100);
    await files.cut(path, 13);
    expect((await files.read(path))?.length).toBe(13);
    const again = await files.allocate(path, 5);
    await again.close();
    expect([...((await files.read(path)) ?? [])]).toEqual([0, 0, 0, 0, 0]);
    await files.remove(path);
  });

  test('renaming what is not there fails', async () => {
    await expect(make().rename(`${root}/none`, `${root}/other`)).rejects.toMatchObject({ code: 'ENOENT' });
  });
});

describe('FilePort: a full disk', () => {
  test('is said in our own words', async () => {
    const file = await nodeFiles.open('/dev/full');
    await expect(file.append(utf8('x'))).rejects.toMatchObject({ code: 'disk-full' });
    await file.close();
  });
});

describe('torn files lose what was not synced', () => {
  const outcomes = async (
    prepare: (files: TornFiles) => Promise<void>,
    path: string,
  ): Promise<Set<string | undefined>> => {
    const seen = new Set<string | undefined>();
    for (let seed = 0; seed < 60; seed += 1) {
      const files = tornFiles();
      await prepare(files);
      files.restart(seededRandom(`torn ${seed}`));
      seen.add(await readText(files, path));
    }
    return seen;
  };

  test('bytes without sync are dropped, torn or zeros; synced ones stay', async () => {
    const seen = await outcomes(async (files) => {
      await write(files, '/d/file', 'safe');
      await files.syncFolder('/d');
      const file = await files.open('/d/file');
      await file.append(utf8('loose'));
    }, '/d/file');
    expect([...seen].every((text) => text?.startsWith('safe'))).toBe(true);
    expect(seen.has('safe')).toBe(true);
    expect(seen.has('safeloose')).toBe(true);
    expect([...seen].some((text) => text?.includes('\u0000'))).toBe(true);
    expect(seen.size).toBeGreaterThan(4);
  });

  test('a new name without a synced folder may be missing', async () => {
    const seen = await outcomes((files) => write(files, '/d/file', 'safe'), '/d/file');
    expect(seen).toEqual(new Set([undefined, 'safe']));
  });

  test('a rename without a synced folder is the old or the new file, never none', async () => {
    const seen = await outcomes(async (files) => {
      await write(files, '/d/file', 'old');
      await write(files, '/d/file.tmp', 'new');
      await files.syncFolder('/d');
      await files.rename('/d/file.tmp', '/d/file');
    }, '/d/file');
    expect(seen).toEqual(new Set(['old', 'new']));
  });

  test('a write into a fixed file is there when it returned; one under way is there, missing, or in pieces', async () => {
    const text = 'x'.repeat(1_500);
    const seen = await outcomes(async (files) => {
      const file = await files.allocate('/d/fixed', 4_000);
      await files.syncFolder('/d');
      await file.write(utf8('safe'), 0);
      files.crashAt(1);
      await expect(file.write(utf8(text), 100)).rejects.toBeInstanceOf(Crash);
      await expect(file.write(utf8('never'), 3_000)).rejects.toBeInstanceOf(Crash);
    }, '/d/fixed');
    const parts = [...seen].map((found) => found?.slice(100, 1_600) ?? '');
    expect([...seen].every((found) => found?.startsWith('safe') && !found.includes('never'))).toBe(true);
    expect(parts).toContain(text);
    expect(parts.some((part) => part.startsWith('\u0000') && part.includes('x'))).toBe(true);
    expect(parts.some((part) => part.startsWith('x') && part.endsWith('\u0000'))).toBe(true);
  });

  test('the machine goes down at the operation asked for, and old handles are dead after it', async () => {
    const files = tornFiles();
    const file = await files.open('/d/file');
    files.crashAt(2);
    await file.append(utf8('a'));
    await expect(file.sync()).rejects.toBeInstanceOf(Crash);
    await expect(files.syncFolder('/d')).rejects.toBeInstanceOf(Crash);
    files.restart(seededRandom('again'));
    await expect(file.append(utf8('b'))).rejects.toBeInstanceOf(Crash);
    await write(files, '/d/file', 'c');
    expect(files.operations()).toBeGreaterThan(4);
  });
});
