import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openSignedSeqs } from '../../connector/adapters/files/signed-seqs.ts';
import type { AccountKey } from '../../connector/metering/ports.ts';
import { utf8 } from '../../contracts/bytes.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type FilePort, nodeFiles } from '../../kernel/files.ts';
import { diskFull, failingFiles } from '../support/failing-files.ts';
import { digestOf } from '../support/meter-pair.ts';
import { tornFiles } from '../support/torn-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'stekker-seqs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const key: AccountKey = { participant: 'a b' as ParticipantId, role: 'provider', agreement: digestOf('a') };
const open = (files: FilePort, place: string) => openSignedSeqs({ files, crypto: nodeCrypto }, place);

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
    const lines = Buffer.from((await files.read(`${place}/${name}`)) ?? [])
      .toString()
      .split('\n');
    await files.remove(`${place}/${name}`);
    const file = await files.open(`${place}/${name}`);
    await file.append(utf8(lines.filter((line) => !line.startsWith('2 ')).join('\n')));
    await file.close();
    await expect(open(files, place)).rejects.toMatchObject({ code: 'data-damaged' });
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
