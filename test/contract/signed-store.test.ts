import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { fileSignedStore } from '../../broker/adapters/files/signed-store.ts';
import type { SignedHead } from '../../broker/ledger/ports.ts';
import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type FilePort, nodeFiles } from '../../kernel/files.ts';
import { seededRandom } from '../../kernel/random.ts';
import { tornFiles } from '../support/torn-files.ts';

const folder = mkdtempSync(join(tmpdir(), 'stekker-signed-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const head = (size: number, name = 'root'): SignedHead => ({
  size,
  root: toBase64Url(nodeCrypto.sha256(utf8(`${name} ${size}`))),
});
const open = (files: FilePort, place: string, token = 'a') =>
  fileSignedStore({ files, crypto: nodeCrypto, token }, place);

describe.each([
  ['node files', () => nodeFiles, folder],
  ['torn files', tornFiles, '/intent'],
])('SignedStore: %s', (_name, make, root) => {
  test('goes from nothing to the first value, and on from there only', async () => {
    const files: FilePort = make();
    const store = open(files, `${root}/one`);
    expect(await store.read()).toBeUndefined();
    expect(await store.swap(head(1), head(2))).toBe(false);
    expect(await store.swap(undefined, head(1))).toBe(true);
    expect(await store.swap(undefined, head(2))).toBe(false);
    expect(await store.swap(head(1, 'other'), head(2))).toBe(false);
    expect(await store.swap(head(1), head(2))).toBe(true);
    expect(await open(files, `${root}/one`, 'b').read()).toEqual(head(2));
  });

  test('of many that swap from one value exactly one wins, and all later reads agree', async () => {
    const files: FilePort = make();
    let from: SignedHead | undefined;
    for (let round = 1; round <= 70; round += 1) {
      const contenders = ['a', 'b', 'c'].map((token) => ({
        store: open(files, `${root}/race`, token),
        to: head(round, round % 5 === 0 ? 'same' : token),
      }));
      const won = await Promise.all(contenders.map(({ store, to }) => store.swap(from, to)));
      expect(won.filter(Boolean)).toHaveLength(1);
      from = contenders[won.indexOf(true)]?.to;
      expect(await open(files, `${root}/race`, 'reader').read()).toEqual(from);
    }
    expect((await files.list(`${root}/race`)).length).toBeLessThanOrEqual(4);
  });

  test('a line that goes on from nothing is damage, and is said so', async () => {
    const files: FilePort = make();
    const place = `${root}/damage`;
    const store = open(files, place);
    for (let size = 1; size <= 3; size += 1) await store.swap(size === 1 ? undefined : head(size - 1), head(size));
    const [name = ''] = await files.list(place);
    const lines = Buffer.from((await files.read(`${place}/${name}`)) ?? [])
      .toString()
      .split('\n');
    await files.remove(`${place}/${name}`);
    const file = await files.open(`${place}/${name}`);
    await file.append(utf8(lines.filter((line) => !line.startsWith('1:')).join('\n')));
    await file.close();
    await expect(store.read()).rejects.toMatchObject({ code: 'data-damaged' });
  });
});

describe('SignedStore through crashes', () => {
  test('what was answered yes is never lost, and nothing is decided twice for one value', async () => {
    let crashes = 0;
    for (let seed = 0; seed < 1_000; seed += 1) {
      const random = seededRandom(`signed ${seed}`);
      const files = tornFiles();
      const length = 1 + ((random.bytes(1)[0] ?? 0) % 80);
      let confirmed: SignedHead | undefined;
      for (let size = 1; size <= length; size += 1) {
        const to = head(size);
        if (size === length) files.crashAt(1 + ((random.bytes(1)[0] ?? 0) % 6));
        const won = await open(files, '/intent')
          .swap(confirmed, to)
          .catch(() => 'crashed' as const);
        if (won === 'crashed') {
          crashes += 1;
          files.restart(random);
          const found = await open(files, '/intent').read();
          expect([confirmed, to], `seed ${seed}`).toContainEqual(found);
          const next = head(size, 'after');
          expect(await open(files, '/intent').swap(found, next), `seed ${seed}`).toBe(true);
          expect(await open(files, '/intent').read()).toEqual(next);
        } else {
          confirmed = to;
          expect(won).toBe(true);
        }
      }
    }
    expect(crashes).toBeGreaterThan(500);
  });
});
