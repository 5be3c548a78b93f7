import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { manualClock, systemClock } from '../../kernel/clock.ts';
import { type FilePort, nodeFiles } from '../../kernel/files.ts';
import { silentLogger } from '../../kernel/log.ts';
import { seededRandom } from '../../kernel/random.ts';
import { diskFull, failingFiles } from '../../test/support/failing-files.ts';
import { type TornFiles, tornFiles } from '../../test/support/torn-files.ts';
import { Journal, type JournalOptions } from './journal.ts';
import { segmentOf, segmentPath } from './segments.ts';

const folder = mkdtempSync(join(tmpdir(), 'stekker-journal-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Found {
  readonly text: string;
  readonly place: number;
}

const open = async (files: FilePort, changes: Partial<JournalOptions> = {}) => {
  const found: Found[] = [];
  const journal = await Journal.open({
    files,
    folder: '/journal',
    clock: systemClock,
    log: silentLogger,
    segmentBytes: 4_096,
    replay: (text, place) => found.push({ text, place }),
    ...changes,
  });
  return { journal, found };
};

const add = (journal: Journal, text: string): Promise<number | undefined> =>
  new Promise((resolve) => journal.append(text, resolve));

const texts = (found: readonly Found[]): string[] => found.map(({ text }) => text);

const bytesOf = async (files: FilePort, number: number): Promise<Buffer> =>
  Buffer.from((await files.read(segmentPath('/journal', number))) ?? []);

/** Puts other bytes in the place of a segment. */
const overwrite = async (files: FilePort, number: number, bytes: Uint8Array): Promise<void> => {
  const file = await files.allocate(segmentPath('/journal', number), bytes.length);
  await file.write(bytes, 0);
  await files.syncFolder('/journal');
};

const lines = (count: number, from = 0): string[] =>
  Array.from({ length: count }, (_, index) => `{"line":${from + index},"filler":"${'é'.repeat(40)}"}`);

describe('journal', () => {
  test.each([
    ['node files', () => nodeFiles, join(folder, 'plain')],
    ['torn files', () => tornFiles(), '/journal'],
  ])('gives back every line in order, over many segments: %s', async (_name, make, place) => {
    const files = make();
    const written = lines(300);
    const first = await open(files, { folder: place });
    const places = await Promise.all(written.map((line) => add(first.journal, line)));
    await first.journal[Symbol.asyncDispose]();
    const second = await open(files, { folder: place });
    expect(texts(second.found)).toEqual(written);
    expect(second.found.map((one) => one.place)).toEqual(places);
    expect(new Set(places.map((one) => segmentOf(one ?? 0))).size).toBeGreaterThan(5);
    expect(places.toSorted((a = 0, b = 0) => a - b)).toEqual(places);
    await second.journal[Symbol.asyncDispose]();
  });

  test('lines of one turn of the loop go in one write, those that come while it runs in the next', async () => {
    const files = tornFiles();
    const { journal } = await open(files);
    const before = files.operations();
    const first = ['a', 'b', 'c'].map((text) => add(journal, text));
    await new Promise((resolve) => setImmediate(resolve));
    const second = ['d', 'e', 'f'].map((text) => add(journal, text));
    await Promise.all([...first, ...second]);
    expect(files.operations() - before).toBe(2);
  });

  test('a line that is too long for a segment is refused, and the others go on', async () => {
    const { journal } = await open(tornFiles());
    expect(await add(journal, 'x'.repeat(4_000))).toBeUndefined();
    expect(await add(journal, 'y')).toBeGreaterThan(0);
  });

  test('more lines than may wait are refused at once', async () => {
    const { journal } = await open(tornFiles(), { maxWaiting: 2 });
    const answers = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((text) => add(journal, text)));
    expect(answers.filter((place) => place === undefined)).toHaveLength(3);
  });

  test('a torn tail of the last segment is not there, and a new segment goes on from what is', async () => {
    const files = tornFiles();
    const first = await open(files);
    for (const line of lines(3)) await add(first.journal, line);
    files.crashAt(1);
    expect(await add(first.journal, 'never acknowledged')).toBeUndefined();
    files.restart(seededRandom('torn 7'));
    const second = await open(files);
    expect(texts(second.found).slice(0, 3)).toEqual(lines(3));
    await add(second.journal, 'more');
    const third = await open(files);
    expect(texts(third.found).at(-1)).toBe('more');
  });

  test('a program that is killed again and again leaves segments of what was written, not of what was made ready', async () => {
    const files = tornFiles();
    for (let kills = 0; kills < 5; kills += 1) {
      const { journal, found } = await open(files);
      expect(texts(found)).toEqual(lines(kills));
      await add(journal, lines(1, kills)[0] ?? '');
    }
    await open(files);
    const sizes = await Promise.all([1, 2, 3, 4, 5].map(async (number) => (await bytesOf(files, number)).length));
    expect(Math.max(...sizes)).toBeLessThan(512);
  });

  test('settled segments are not read again, but the chain to them is checked', async () => {
    const files = tornFiles();
    const first = await open(files);
    for (const line of lines(100)) await add(first.journal, line);
    await first.journal[Symbol.asyncDispose]();
    const second = await open(files, { from: 3 });
    expect(second.found.length).toBeGreaterThan(10);
    expect(second.found.every(({ place }) => segmentOf(place) >= 3)).toBe(true);
    await second.journal[Symbol.asyncDispose]();
    const bytes = await bytesOf(files, 2);
    bytes[200] = (bytes[200] ?? 0) ^ 1;
    await overwrite(files, 2, bytes);
    await expect(open(files, { from: 3 })).rejects.toMatchObject({ code: 'data-damaged' });
  });

  test('a journal that began anew keeps what was acknowledged when only the next segment was prepared', async () => {
    const files = tornFiles();
    const first = await open(files);
    for (const line of lines(3)) await add(first.journal, line);
    await files.allocate(segmentPath('/journal', 2), 4_096);
    await files.syncFolder('/journal');
    const second = await open(files);
    expect(texts(second.found)).toEqual(lines(3));
    expect(second.journal.segment).toBe(2);
    await files.allocate(segmentPath('/journal', 3), 4_096);
    const third = await open(files, { from: 3 });
    expect(third.found).toEqual([]);
    expect(third.journal.segment).toBe(3);
  });
});

describe('a damaged journal refuses to start', () => {
  const prepared = async (): Promise<TornFiles> => {
    const files = tornFiles();
    const { journal } = await open(files);
    for (const line of lines(100)) await add(journal, line);
    await journal[Symbol.asyncDispose]();
    return files;
  };
  const damage: readonly (readonly [string, (files: TornFiles) => Promise<void>])[] = [
    ['a byte in the middle of the last segment', async (files) => flip(files, -1)],
    ['a byte of an older segment', async (files) => flip(files, 1)],
    ['a segment that is gone', async (files) => files.remove(segmentPath('/journal', 2))],
    ['the last segment gone while its mark stands', async (files) => files.remove('/journal')],
    ['an older segment that was cut', async (files) => files.cut(segmentPath('/journal', 2), 600)],
    ['two segments changed places', swap],
    ['a first segment that names one before it', async (files) => overwrite(files, 1, await bytesOf(files, 2))],
    ['a last segment without beginning', withoutHead],
  ];
  const numbers = async (files: TornFiles) => (await files.list('/journal')).map((name) => Number(name.slice(8)));
  const flip = async (files: TornFiles, which: number): Promise<void> => {
    const number = which < 0 ? ((await numbers(files)).at(which) ?? 0) : which;
    const bytes = await bytesOf(files, number);
    bytes[250] = (bytes[250] ?? 0) ^ 1;
    await overwrite(files, number, bytes);
  };
  async function swap(files: TornFiles): Promise<void> {
    const [a, b] = [await bytesOf(files, 2), await bytesOf(files, 3)];
    await overwrite(files, 2, b);
    await overwrite(files, 3, a);
  }
  async function withoutHead(files: TornFiles): Promise<void> {
    const last = (await numbers(files)).at(-1) ?? 0;
    const bytes = await bytesOf(files, last);
    bytes[12] = (bytes[12] ?? 0) ^ 1;
    await overwrite(files, last, bytes);
  }

  test.each(damage)('%s', async (_name, harm) => {
    const files = await prepared();
    await harm(files);
    await expect(open(files, { from: 1 })).rejects.toMatchObject({ code: 'data-damaged' });
  });
});

describe('a journal whose writes fail', () => {
  test('refuses every waiting and later line, and goes on in a new segment when it can', async () => {
    const torn = tornFiles();
    const files = failingFiles(torn);
    const clock = manualClock(0);
    let recovered = 0;
    const { journal } = await open(files, {
      clock,
      onRecovered: () => {
        recovered += 1;
      },
    });
    for (const line of lines(3)) await add(journal, line);
    files.fault = diskFull();
    const answers = await Promise.all(['a', 'b', 'c'].map((text) => add(journal, text)));
    expect(answers).toEqual([undefined, undefined, undefined]);
    expect(journal.isReady()).toBe(false);
    expect(await add(journal, 'd')).toBeUndefined();
    clock.advance(1_000);
    await systemClock.sleep(20);
    expect(journal.isReady()).toBe(false);
    files.fault = null;
    clock.advance(2_000);
    await systemClock.sleep(20);
    expect(journal.isReady()).toBe(true);
    expect(recovered).toBe(1);
    expect(journal.segment).toBe(2);
    expect(segmentOf((await add(journal, 'e')) ?? 0)).toBe(2);
    const again = await open(torn);
    expect(texts(again.found)).toEqual([...lines(3), 'e']);
  });

  test('what a failed write left on the disk does not count', async () => {
    const torn = tornFiles();
    const files = failingFiles(torn);
    const clock = manualClock(0);
    const late: FilePort = {
      ...files,
      allocate: async (path, size) => {
        const file = await torn.allocate(path, size);
        return {
          ...file,
          write: async (bytes, offset) => {
            await file.write(bytes, offset); // it reaches the disk, and is reported as failed all the same
            if (files.fault !== null) throw files.fault;
          },
        };
      },
    };
    const { journal } = await open(late, { clock });
    await add(journal, 'a');
    files.fault = diskFull();
    expect(await add(journal, 'refused')).toBeUndefined();
    files.fault = null;
    clock.advance(1_000);
    await systemClock.sleep(20);
    await add(journal, 'b');
    const again = await open(torn);
    expect(texts(again.found)).toEqual(['a', 'b']);
  });

  test('a disk that is full at the start refuses lines, and not the start', async () => {
    const files = failingFiles(tornFiles());
    files.fault = diskFull();
    const clock = manualClock(0);
    const { journal } = await open(files, { clock });
    expect(journal.isReady()).toBe(false);
    expect(await add(journal, 'a')).toBeUndefined();
    files.fault = null;
    clock.advance(1_000);
    await systemClock.sleep(20);
    expect(await add(journal, 'b')).toBeGreaterThan(0);
    await journal[Symbol.asyncDispose]();
    expect(await add(journal, 'c')).toBeUndefined();
  });

  test('closing a journal that failed writes nothing more', async () => {
    const torn = tornFiles();
    const files = failingFiles(torn);
    const { journal } = await open(files, { clock: manualClock(0) });
    await add(journal, 'a');
    files.fault = diskFull();
    const waiting = add(journal, 'b');
    await journal[Symbol.asyncDispose]();
    expect(await waiting).toBeUndefined();
    expect(texts((await open(torn)).found)).toEqual(['a']);
  });
});
