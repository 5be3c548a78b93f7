import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { fileLogFiles } from '../../broker/adapters/files/log-files.ts';
import { textOf, utf8 } from '../../contracts/bytes.ts';
import { type FilePort, nodeFiles } from '../../kernel/files.ts';
import { seededRandom } from '../../kernel/random.ts';
import { tornFiles } from '../support/torn-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'stekker-log-files-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const paths = ['checkpoint', 'tile/0/x001/234.p/7', 'tile/0/x001/233', 'tile/entries/000.p/3', 'tile/1/000.p/12'];

describe.each([
  ['node files', () => nodeFiles, folder],
  ['torn files', tornFiles, '/log'],
])('LogFiles: %s', (_name, make, root) => {
  test('writes whole files, replaces them, drops partial forms, and reads nothing outside', async () => {
    const port: FilePort = make();
    const files = fileLogFiles(port, `${root}/a`, 'a');
    expect(await files.read('checkpoint')).toBeUndefined();
    await files.write(paths.map((path) => ({ path, bytes: utf8(`1 ${path}`) })));
    await files.write([{ path: 'checkpoint', bytes: utf8('2') }]);
    expect(textOf((await files.read('checkpoint')) ?? utf8(''))).toBe('2');
    expect(textOf((await files.read('tile/0/x001/234.p/7')) ?? utf8(''))).toBe('1 tile/0/x001/234.p/7');
    await files.dropPartials('tile/0/x001/234');
    expect(await files.read('tile/0/x001/234.p/7')).toBeUndefined();
    expect(await files.read('tile/0/x001/233')).toBeDefined();
    await expect(files.read('../secret')).rejects.toMatchObject({ code: 'invariant-broken' });
  });

  test('tidies what a crash left under temporary names', async () => {
    const port: FilePort = make();
    const files = fileLogFiles(port, `${root}/b`, 'a');
    await files.write([{ path: 'tile/0/x001/234.p/7', bytes: utf8('kept') }]);
    const half = await port.open(`${root}/b/.new/1`);
    await half.append(utf8('half'));
    await half.close();
    await files.tidy();
    expect(await port.list(`${root}/b`)).toEqual(['tile']);
    await files.write([{ path: 'checkpoint', bytes: utf8('whole') }]);
    expect(textOf((await files.read('checkpoint')) ?? utf8(''))).toBe('whole');
  });
});

describe('LogFiles through crashes', () => {
  test('each file is old or new and never half; after the answer all are new', async () => {
    let crashes = 0;
    for (let seed = 0; seed < 600; seed += 1) {
      const random = seededRandom(`log files ${seed}`);
      const port = tornFiles();
      const files = fileLogFiles(port, '/log', 'a');
      await files.write(paths.map((path) => ({ path, bytes: utf8(`old ${path}`) })));
      port.crashAt(1 + ((random.bytes(1)[0] ?? 0) % 48));
      const isDone = await files.write(paths.map((path) => ({ path, bytes: utf8(`new ${path}`) }))).then(
        () => true,
        () => false,
      );
      if (!isDone) crashes += 1;
      port.restart(random);
      for (const path of paths) {
        const text = textOf((await fileLogFiles(port, '/log', 'a').read(path)) ?? utf8('none'));
        expect(isDone ? [`new ${path}`] : [`old ${path}`, `new ${path}`], `seed ${seed}`).toContain(text);
      }
    }
    expect(crashes).toBeGreaterThan(300);
  });
});
