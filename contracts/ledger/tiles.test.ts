import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { ed25519FromByte } from '../../test/support/keys.ts';
import { orNothing, toBase64, toHex, utf8 } from '../bytes.ts';
import { buildVerifierKey, readNote, readPolicy } from './note.ts';
import { inclusionFromTiles } from './tile-proofs.ts';
import { bundlePath, decodeBundle, encodeBundle, subtreesFromTiles, tilePath, tilesOf } from './tiles.ts';
import { emptyRoot, subtreesOf } from './tree.ts';

describe('tiles', () => {
  test('numbers are written in groups of three', () => {
    expect(tilePath({ level: 0, index: 7, width: 256 })).toBe('tile/0/007');
    expect(tilePath({ level: 1, index: 1_234_067, width: 3 })).toBe('tile/1/x001/x234/067.p/3');
    expect(bundlePath(1_000, 256)).toBe('tile/entries/x001/000');
    expect(tilesOf(0)).toEqual([]);
  });

  test('a bundle gives back its entries, and nothing when it ends too early', () => {
    const entries = [utf8('one'), utf8(''), utf8('x'.repeat(300))];
    const bundle = encodeBundle(entries);
    expect(decodeBundle(bundle)).toEqual({ ok: true, value: entries });
    for (let length = 1; length < bundle.length; length += 1) {
      const cut = decodeBundle(bundle.subarray(0, length));
      expect(cut.ok).toBe(length === 5 || length === 7);
    }
  });

  test('a tile that is needed and missing is named, full or partial', async () => {
    const root = subtreesFromTiles(nodeCrypto, 300, () => undefined);
    expect(() => root(0, 256)).toThrow('tile/1/000.p/1 is needed and missing');
    const tile = new Uint8Array(32 * 256);
    const fetch = async (path: string) =>
      path === 'tile/0/000' ? undefined : tile.subarray(0, path.includes('.p/44') ? 32 * 44 : 32);
    expect(await inclusionFromTiles(nodeCrypto, { index: 3, size: 300 }, fetch)).toEqual({
      ok: false,
      reason: 'tile/0/000 is not there',
    });
  });

  test('no leaves have the empty root', () => {
    expect(toHex(subtreesOf(nodeCrypto, [])(0, 0))).toBe(toHex(emptyRoot(nodeCrypto)));
    expect(orNothing(undefined)).toHaveLength(0);
    expect(orNothing(utf8('a'))).toHaveLength(1);
  });
});

describe('notes and policies at their edges', () => {
  test('a size that is no exact number is refused', () => {
    const root = toBase64(new Uint8Array(32));
    const note = (size: string) => readNote(`a.example/log\n${size}\n${root}\n\n\u2014 a.example/log AAAAAAAA\n`).ok;
    expect(['0', '9007199254740991', '9007199254740992', '9999999999999999', '01', ''].map(note)).toEqual([
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
  });

  test('a name stands for one witness or group', () => {
    const key = (byte: number, role: 'log' | 'witness') =>
      buildVerifierKey(nodeCrypto, `k${byte}.example`, ed25519FromByte(byte).spki.subarray(12), role);
    const lines = [
      `log ${key(1, 'log')}`,
      `witness w ${key(2, 'witness')}`,
      `witness w ${key(3, 'witness')}`,
      'quorum w',
    ];
    expect(readPolicy(nodeCrypto, `${lines.join('\n')}\n`)).toEqual({
      ok: false,
      reason: 'a name is taken or not possible',
    });
  });
});
