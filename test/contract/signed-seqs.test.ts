import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openSignedSeqs, takeOverSignedSeqs } from '../../connector/adapters/files/signed-seqs.ts';
import type { AccountKey, SignedSeqs } from '../../connector/metering/ports.ts';
import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { isAppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type AppendFile, type FilePort, nodeFiles } from '../../kernel/files.ts';
import { type Random, seededRandom } from '../../kernel/random.ts';
import { diskFull, failingFiles } from '../support/failing-files.ts';
import { digestOf } from '../support/meter-pair.ts';
import { Crash, tornFiles } from '../support/torn-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'stekker-seqs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const key: AccountKey = { participant: 'a b' as ParticipantId, role: 'provider', agreement: digestOf('a') };
const open = (files: FilePort, place: string) => openSignedSeqs({ files, crypto: nodeCrypto }, place);
const takeOver = (files: FilePort, from: string, into: string) =>
  takeOverSignedSeqs({ files, crypto: nodeCrypto }, from, into);

/** Lines as they were written before files had heads. */
const putOld = async (
  files: FilePort,
  path: string,
  lines: readonly (readonly [number, AccountKey, number, string])[],
) => {
  const file = await files.open(path);
  for (const [number, { participant, role, agreement }, seq, digest] of lines) {
    const text = `${number} ${encodeURIComponent(participant)} ${role} ${agreement} ${seq} ${digest}`;
    await file.append(utf8(`\n${text} ${toBase64Url(nodeCrypto.sha256(utf8(text)).subarray(0, 12))}\n`));
  }
  await file.sync();
  await file.close();
};
const oldName = (number: number) => `signed-${String(number).padStart(12, '0')}`;

/** Changes the text of a file. */
const edit = async (files: FilePort, path: string, change: (text: string) => string): Promise<void> => {
  const text = Buffer.from((await files.read(path)) ?? []).toString('latin1');
  expect(change(text)).not.toBe(text);
  await files.remove(path);
  const file = await files.open(path);
  await file.append(utf8(change(text)));
  await file.close();
};
const withoutLine = (number: number) => (text: string) =>
  text
    .split('\n')
    .filter((line) => !line.startsWith(`${number} `))
    .join('\n');

describe.each([
  ['node files', () => nodeFiles, folder],
  ['torn files', tornFiles, '/signed'],
])('SignedSeqs: %s', (_name, make, root) => {
  test('a number is claimed for one digest, and never below the newest', async () => {
    const files: FilePort = make();
    const seqs = await open(files, `${root}/one`);
    expect(seqs.newest(key)).toBeUndefined();
    expect(await seqs.claim(key, 1, digestOf('x'))).toBe(true);
    expect(await seqs.claim(key, 1, digestOf('x'))).toBe(true);
    expect(await seqs.claim(key, 1, digestOf('y'))).toBe(false);
    expect(await seqs.claim(key, 3, digestOf('z'))).toBe(true);
    expect(await seqs.claim(key, 2, digestOf('x'))).toBe(false);
    for (const other of [
      { ...key, role: 'consumer' as const },
      { ...key, participant: 'a' as ParticipantId },
      { ...key, agreement: digestOf('b') },
    ])
      expect(seqs.newest(other)).toBeUndefined();
    const again = await open(files, `${root}/one`);
    expect(again.newest(key)).toEqual({ seq: 3, digest: digestOf('z') });
    expect(await again.claim(key, 3, digestOf('y'))).toBe(false);
    expect(await again.claim(key, 4, digestOf('y'))).toBe(true);
  });

  test('of two digests claimed at once, one gets the number', async () => {
    const seqs = await open(make(), `${root}/race`);
    const answers = await Promise.all(['x', 'y', 'x'].map((name) => seqs.claim(key, 1, digestOf(name))));
    expect(answers).toEqual([true, false, true]);
  });

  test('many starts and many lines are written together, and nothing is forgotten', async () => {
    const files: FilePort = make();
    for (let life = 1; life <= 70; life += 1) {
      const seqs = await open(files, `${root}/many`);
      expect(seqs.newest(key)?.seq ?? 0).toBe(life - 1);
      await seqs.claim(key, life, digestOf(String(life)));
      await seqs.claim({ ...key, agreement: digestOf(`b${life % 7}`) }, life, digestOf('x'));
    }
    const last = await open(files, `${root}/many`);
    expect(last.newest(key)).toEqual({ seq: 70, digest: digestOf('70') });
    expect(last.newest({ ...key, agreement: digestOf('b0') })?.seq).toBe(70);
    expect((await files.list(`${root}/many`)).length).toBeLessThan(66);
  });

  test('a line that is gone is damage', async () => {
    const files: FilePort = make();
    const place = `${root}/damage`;
    const seqs = await open(files, place);
    for (let seq = 1; seq <= 3; seq += 1) await seqs.claim(key, seq, digestOf(String(seq)));
    const [name = ''] = await files.list(place);
    await edit(files, `${place}/${name}`, withoutLine(2));
    await expect(open(files, place)).rejects.toMatchObject({ code: 'data-damaged' });
  });

  test('so is one at the end of a file that a later opener had read, and so is a whole file', async () => {
    const files: FilePort = make();
    const fill = async (place: string) => {
      for (let seq = 1; seq <= 4; seq += 1) await (await open(files, place)).claim(key, seq, digestOf(String(seq)));
      return (await files.list(place)).map((name) => `${place}/${name}`);
    };
    const [, second = ''] = await fill(`${root}/tail`);
    await edit(files, second, withoutLine(2));
    await expect(open(files, `${root}/tail`)).rejects.toMatchObject({ code: 'data-damaged' });
    for (const gone of [0, 1, 2]) {
      const paths = await fill(`${root}/file ${gone}`);
      await files.remove(paths[gone] ?? '');
      await expect(open(files, `${root}/file ${gone}`)).rejects.toMatchObject({ code: 'data-damaged' });
    }
  });

  test.each(['before', 'after'])(
    'who opened it first and goes on is refused, and damages nothing: %s the next one has written',
    async (when) => {
      const files: FilePort = make();
      const place = `${root}/overtaken ${when}`;
      const first = await open(files, place);
      expect(await first.claim(key, 1, digestOf('1'))).toBe(true);
      const second = await open(files, place);
      expect(second.newest(key)?.seq).toBe(1);
      const late = async () => {
        for (const seq of [2, 3])
          await expect(first.claim(key, seq, digestOf('late'))).rejects.toMatchObject({ code: 'data-in-use' });
        const [name = ''] = await files.list(place);
        const text = Buffer.from((await files.read(`${place}/${name}`)) ?? []).toString('latin1');
        expect(text).toContain(digestOf('late')); // it was written all the same
      };
      if (when === 'before') await late();
      expect(await second.claim(key, 2, digestOf('2'))).toBe(true);
      if (when === 'after') await late();
      expect(await second.claim({ ...key, role: 'consumer' }, 1, digestOf('1'))).toBe(true);
      for (const seq of [3, 4]) {
        const again = await open(files, place);
        expect(again.newest(key)).toEqual({ seq: seq - 1, digest: digestOf(String(seq - 1)) });
        expect(again.newest({ ...key, role: 'consumer' })?.seq).toBe(1);
        expect(await again.claim(key, seq, digestOf(String(seq)))).toBe(true);
      }
      await expect(second.claim(key, 5, digestOf('late'))).rejects.toMatchObject({ code: 'data-in-use' });
      const [, gone = ''] = await files.list(place);
      await files.remove(`${place}/${gone}`); // its number stands in a late line of the file before it
      await expect(open(files, place)).rejects.toMatchObject({ code: 'data-damaged' });
    },
  );

  test('what an earlier opener wrote late counts for nothing, though nobody wrote since', async () => {
    const files: FilePort = make();
    const place = `${root}/late`;
    const first = await open(files, place);
    await first.claim(key, 1, digestOf('1'));
    await open(files, place);
    await expect(first.claim(key, 2, digestOf('late'))).rejects.toMatchObject({ code: 'data-in-use' });
    const third = await open(files, place);
    expect(third.newest(key)).toEqual({ seq: 1, digest: digestOf('1') });
    expect(await third.claim(key, 2, digestOf('2'))).toBe(true);
    expect((await open(files, place)).newest(key)).toEqual({ seq: 2, digest: digestOf('2') });
  });

  test('files of before they had heads are read, also after a write that failed', async () => {
    const files: FilePort = make();
    const place = `${root}/old`;
    const other = { ...key, agreement: digestOf('b') };
    await putOld(files, `${place}/${oldName(3)}`, [
      [7, key, 1, digestOf('1')],
      [8, key, 2, digestOf('failed')],
    ]);
    await putOld(files, `${place}/${oldName(5)}`, [
      [8, key, 2, digestOf('2')],
      [9, other, 3, digestOf('3')],
      [10, other, 4, digestOf('4')],
    ]);
    for (const seq of [3, 4]) {
      const seqs = await open(files, place);
      expect(seqs.newest(key)).toEqual({ seq: seq - 1, digest: digestOf(String(seq - 1)) });
      expect(seqs.newest(other)).toEqual({ seq: 4, digest: digestOf('4') });
      expect(await seqs.claim(key, seq, digestOf(String(seq)))).toBe(true);
    }
    await edit(files, `${place}/${oldName(5)}`, withoutLine(9));
    await expect(open(files, place)).rejects.toMatchObject({ code: 'data-damaged' });
  });

  test('numbers of another folder count from now on, and are taken over once', async () => {
    const files: FilePort = make();
    const [from, into] = [`${root}/from`, `${root}/into`];
    const [both, there] = [key, { ...key, agreement: digestOf('b') }];
    await putOld(files, `${from}/${oldName(1)}`, [
      [1, both, 5, digestOf('5')],
      [2, there, 2, digestOf('2')],
    ]);
    await (await files.open(`${from}/provider/journal`)).close();
    const earlier = await open(files, into);
    await earlier.claim(both, 6, digestOf('6'));
    await takeOver(files, from, into);
    expect(await files.list(from)).toEqual(['provider']);
    await expect(earlier.claim(there, 1, digestOf('1'))).rejects.toMatchObject({ code: 'data-in-use' });
    const seqs = await open(files, into);
    expect(seqs.newest(both)).toEqual({ seq: 6, digest: digestOf('6') });
    expect(seqs.newest(there)).toEqual({ seq: 2, digest: digestOf('2') });
    await takeOver(files, from, into);
    expect(await seqs.claim(there, 3, digestOf('3'))).toBe(true); // there was nothing left, so nobody was overtaken
  });
});

describe('SignedSeqs on a full disk', () => {
  test('claims nothing while it cannot be written, and goes on in a new file', async () => {
    const torn = tornFiles();
    const files = failingFiles(torn);
    const seqs = await open(files, '/signed');
    await seqs.claim(key, 1, digestOf('x'));
    files.fault = diskFull();
    await expect(seqs.claim(key, 2, digestOf('y'))).rejects.toMatchObject({ code: 'disk-full' });
    expect(seqs.newest(key)?.seq).toBe(1);
    files.fault = null;
    expect(await seqs.claim(key, 2, digestOf('y'))).toBe(true);
    expect(await torn.list('/signed')).toHaveLength(2);
    expect((await open(torn, '/signed')).newest(key)?.seq).toBe(2);
  });
});

/** Each operation takes a while of its own, so that several openers meet at every step. */
const uneven = (files: FilePort, random: Random): FilePort => {
  const slowly = async <Value>(work: () => Promise<Value>): Promise<Value> => {
    const wait = async () => {
      for (let turns = (random.bytes(1)[0] ?? 0) % 4; turns > 0; turns -= 1) await new Promise(setImmediate);
    };
    await wait();
    const value = await work();
    await wait();
    return value;
  };
  const slowFile = (file: AppendFile): AppendFile => ({
    append: (bytes) => slowly(() => file.append(bytes)),
    sync: () => slowly(file.sync),
    close: file.close,
  });
  return {
    ...files,
    open: async (path) => slowFile(await slowly(() => files.open(path))),
    create: async (path) => {
      const file = await slowly(() => files.create(path));
      return file && slowFile(file);
    },
    read: (path) => slowly(() => files.read(path)),
    list: (place) => slowly(() => files.list(place)),
    rename: (from, to) => slowly(() => files.rename(from, to)),
    remove: (path) => slowly(() => files.remove(path)),
    syncFolder: (place) => slowly(() => files.syncFolder(place)),
  };
};

describe('SignedSeqs of several processes', () => {
  const first = Number(process.env.SEED ?? 1);
  const keys = ['a', 'b'].map((name) => ({ ...key, agreement: digestOf(name) }));
  const isOvertaken = (error: unknown) => isAppError(error, 'data-in-use');

  /** What was allowed: of each number one digest. */
  const createBook = (label: string) => {
    const allowed = new Map<string, string>();
    const highest = new Map<string, number>();
    return {
      allow: ({ agreement }: AccountKey, seq: number, digest: string) => {
        const known = allowed.get(`${agreement} ${seq}`);
        expect(known ?? digest, `${label}: ${agreement} ${seq} was given to two`).toBe(digest);
        allowed.set(`${agreement} ${seq}`, digest);
        highest.set(agreement, Math.max(seq, highest.get(agreement) ?? 0));
      },
      check: (seqs: SignedSeqs) => {
        for (const [agreement, seq] of highest) {
          const newest = seqs.newest({ ...key, agreement });
          expect(newest?.seq, label).toBeGreaterThanOrEqual(seq);
          if (newest?.seq === seq) expect(newest.digest, label).toBe(allowed.get(`${agreement} ${seq}`));
        }
      },
      count: () => allowed.size,
    };
  };
  type Book = ReturnType<typeof createBook>;

  /** Opens and signs, until another has opened it; then again. */
  const sign = async (files: FilePort, book: Book, name: string, terms: number): Promise<void> => {
    for (let term = 0; term < terms; term += 1) {
      try {
        const seqs = await open(files, '/signed');
        for (let round = 0; round < 4; round += 1)
          for (const one of keys) {
            const seq = (seqs.newest(one)?.seq ?? 0) + 1;
            const digest = digestOf(`${name} ${term} ${round}`);
            if (await seqs.claim(one, seq, digest)) book.allow(one, seq, digest);
          }
      } catch (error) {
        if (!isOvertaken(error)) throw error;
      }
    }
  };

  test.each([
    ['few files', 0, 60],
    ['many files, which are written together meanwhile', 62, 15],
  ])('no number is given to two, whenever they meet: %s', async (_name, before, worlds) => {
    let given = 0;
    for (let number = 0; number < worlds; number += 1) {
      const label = `seed ${first} ${number}`;
      const [torn, random, book] = [tornFiles(), seededRandom(label), createBook(label)];
      for (let opened = 0; opened < before; opened += 1) await open(torn, '/signed');
      const files = uneven(torn, random);
      await Promise.all(['x', 'y', 'z'].map((name) => sign(files, book, name, 3)));
      book.check(await open(torn, '/signed'));
      given += book.count();
    }
    expect(given).toBeGreaterThan(4 * worlds);
  });

  test('nor through crashes, and what was given stays', async () => {
    let died = 0;
    for (let number = 0; died < 150; number += 1) {
      const label = `seed ${first} ${number}`;
      const [torn, random, book] = [tornFiles(), seededRandom(label), createBook(label)];
      for (let life = 0; life < 5; life += 1) {
        const files = uneven(torn, random);
        torn.crashAt(1 + ((random.bytes(1)[0] ?? 0) % 160));
        const ends = await Promise.allSettled(['x', 'y'].map((name) => sign(files, book, `${name} ${life}`, 3)));
        for (const end of ends)
          if (end.status === 'rejected') {
            expect(end.reason, label).toBeInstanceOf(Crash);
            died += 1;
          }
        torn.restart(random);
        book.check(await open(torn, '/signed'));
      }
    }
  });

  test('a line that was read before it was on the disk is not missed when it never came there', async () => {
    const torn = tornFiles();
    let isStuck = false;
    const stuck: FilePort = {
      ...torn,
      open: async (path) => {
        const file = await torn.open(path);
        return { ...file, sync: () => (isStuck ? new Promise(() => undefined) : file.sync()) };
      },
    };
    const slow = await open(stuck, '/signed');
    await slow.claim(key, 1, digestOf('1'));
    isStuck = true;
    void slow.claim(key, 2, digestOf('2')); // written, and never synced by whoever wrote it
    await new Promise(setImmediate);
    const next = await open(torn, '/signed');
    expect(next.newest(key)?.seq).toBe(2);
    expect(await next.claim(key, 3, digestOf('3'))).toBe(true);
    torn.restart(seededRandom(`seed ${first}`));
    expect((await open(torn, '/signed')).newest(key)).toEqual({ seq: 3, digest: digestOf('3') });
  });

  test('who reads while a later opener takes files away has been overtaken, and says so', async () => {
    const torn = tornFiles();
    for (let seq = 1; seq <= 64; seq += 1) await (await open(torn, '/signed')).claim(key, seq, digestOf(String(seq)));
    const [listed, halfway] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const waiting: FilePort = {
      ...torn,
      read: async (path) => {
        listed.resolve();
        await halfway.promise;
        return torn.read(path);
      },
    };
    const early = open(waiting, '/signed').catch((error: unknown) => error);
    await listed.promise;
    let removed = 0;
    const removing: FilePort = {
      ...torn,
      remove: async (path) => {
        removed += 1;
        if (removed === 20) {
          halfway.resolve();
          expect(await early).toMatchObject({ code: 'data-in-use' });
        }
        await torn.remove(path);
      },
    };
    expect(await (await open(removing, '/signed')).claim(key, 65, digestOf('65'))).toBe(true);
    expect(removed).toBeGreaterThan(60);
    expect((await open(torn, '/signed')).newest(key)?.seq).toBe(65);
  });

  test('a take-over that another opener did not see is done again', async () => {
    const torn = tornFiles();
    await putOld(torn, `/from/${oldName(1)}`, [[1, key, 5, digestOf('5')]]);
    let others = 0;
    const meeting: FilePort = {
      ...torn,
      rename: async (from, to) => {
        others += 1;
        if (others === 1) await open(torn, '/signed');
        await torn.rename(from, to);
      },
    };
    await takeOver(meeting, '/from', '/signed');
    expect(others).toBe(2);
    expect((await open(torn, '/signed')).newest(key)?.seq).toBe(5);
  });

  test('a take-over that a crash ends anywhere loses nothing, and is done again', async () => {
    const random = seededRandom(`seed ${first}`);
    for (let at = 1, isWhole = false; !isWhole; at += 1) {
      const torn = tornFiles();
      await putOld(torn, `/from/${oldName(1)}`, [
        [1, key, 5, digestOf('5')],
        [2, keys[1] ?? key, 2, digestOf('2')],
      ]);
      await torn.syncFolder('/from');
      await (await open(torn, '/signed')).claim(keys[0] ?? key, 1, digestOf('1'));
      torn.crashAt(at);
      isWhole = await takeOver(torn, '/from', '/signed').then(
        () => true,
        () => false,
      );
      torn.restart(random);
      await takeOver(torn, '/from', '/signed');
      const seqs = await open(torn, '/signed');
      expect(seqs.newest(key), `crash ${at}`).toEqual({ seq: 5, digest: digestOf('5') });
      expect(seqs.newest(keys[1] ?? key)?.seq, `crash ${at}`).toBe(2);
    }
  });
});
