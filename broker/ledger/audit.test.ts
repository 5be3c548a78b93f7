import { describe, expect, test } from 'vitest';
import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { joinAll, type LogBench, logBench, published } from '../../test/support/log-bench.ts';
import { agreementBody, provider } from '../../test/support/log-parties.ts';
import type { Ledger } from './service.ts';

const entries = 600;

/** A log with two full tiles, a partial one, and a level above. */
const grown = async (): Promise<{ bench: LogBench; ledger: Ledger }> => {
  const bench = logBench();
  const ledger = await bench.start();
  await joinAll(ledger);
  const sent = Array.from({ length: entries - 3 }, (_, place) =>
    ledger.register(agreementBody({ name: `n${place}` }).body, provider.did),
  );
  await Promise.all(sent);
  await published(bench, entries);
  return { bench, ledger };
};

const replace = async ({ files }: LogBench, path: string, bytes: Uint8Array): Promise<void> => {
  await files.remove(path);
  const file = await files.open(path);
  await file.append(bytes);
  await file.sync();
};
const bytesOf = async ({ files }: LogBench, path: string) => (await files.read(path)) ?? new Uint8Array(0);

describe('audit', () => {
  test('finds files that were changed, removed or swapped, and writes them again from the rows', async () => {
    const { bench, ledger } = await grown();
    expect(await ledger.audit({ repair: false })).toEqual({ checked: 7, damaged: [], isRepaired: false });
    const first = await bytesOf(bench, '/log/tile/0/000');
    const second = await bytesOf(bench, '/log/tile/0/001');
    const bundle = await bytesOf(bench, '/log/tile/entries/001');
    await replace(bench, '/log/tile/0/000', second);
    await replace(bench, '/log/tile/0/001', first);
    await expect(ledger.proof(10)).rejects.toMatchObject({ code: 'data-damaged' });
    await replace(
      bench,
      '/log/tile/entries/001',
      bundle.map((byte, place) => (place === 100 ? byte ^ 1 : byte)),
    );
    await bench.files.remove('/log/tile/1/000.p/2');
    const found = await ledger.audit({ repair: false });
    expect(found.damaged.toSorted()).toEqual(['tile/0/000', 'tile/0/001', 'tile/1/000.p/2', 'tile/entries/001']);
    await expect(ledger.proof(10)).rejects.toMatchObject({ code: 'data-damaged' });
    expect((await ledger.audit({ repair: true })).isRepaired).toBe(true);
    expect(await ledger.audit({ repair: true })).toEqual({ checked: 7, damaged: [], isRepaired: false });
    expect(await bytesOf(bench, '/log/tile/0/000')).toEqual(first);
    expect((await ledger.proof(10)).index).toBe('10');
    await ledger.close();
  });

  test('repairs nothing when the rows do not lead to the published root', async () => {
    const { bench, ledger } = await grown();
    await ledger.close();
    let isLying = false;
    const wrongLeaf = toBase64Url(nodeCrypto.sha256(utf8('x')));
    const store = {
      ...bench.store,
      entries: async (origin: string, begin: number, end: number) =>
        (await bench.store.entries(origin, begin, end)).map((row) =>
          isLying && row.index === 5 ? { ...row, leaf: wrongLeaf } : row,
        ),
    };
    const again = await bench.start({ store });
    const tile = await bytesOf(bench, '/log/tile/0/000');
    isLying = true;
    await expect(again.audit({ repair: true })).rejects.toMatchObject({ code: 'data-damaged' });
    expect(await bytesOf(bench, '/log/tile/0/000')).toEqual(tile);
    isLying = false;
    await again.close();
  });
});
