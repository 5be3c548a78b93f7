import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { textOf, utf8 } from '../../contracts/bytes.ts';
import { type FilePort, nodeFiles } from '../../kernel/files.ts';
import { seededRandom } from '../../kernel/random.ts';
import { Crash, tornFiles } from '../support/torn-files.ts';

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
    prepare: (files: FilePort) => Promise<void>,
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
