import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  concat,
  fromBase64,
  fromBase64Url,
  fromHex,
  sameBytes,
  textOf,
  toBase64,
  toBase64Url,
  toHex,
  u16,
  u64,
  utf8,
} from './bytes.ts';

describe('bytes', () => {
  test('base64 and hex agree with the platform and come back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 70 }), (bytes) => {
        const platform = Buffer.from(bytes);
        expect(toBase64(bytes)).toBe(platform.toString('base64'));
        expect(toBase64Url(bytes)).toBe(platform.toString('base64url'));
        expect(toHex(bytes)).toBe(platform.toString('hex'));
        for (const back of [fromBase64(toBase64(bytes)), fromBase64Url(toBase64Url(bytes)), fromHex(toHex(bytes))]) {
          expect(back && sameBytes(back, bytes)).toBe(true);
        }
      }),
    );
  });

  test.each(['A', 'AB=', 'AAA', 'AB==C', 'AR==', 'AAF=', 'A-A=', 'AA A', '====', 'AA\n='])(
    'base64 refuses %j',
    (text) => {
      expect(fromBase64(text)).toBeUndefined();
    },
  );

  test.each(['A', 'AR', 'AAF', 'AAA=', 'A+AA', 'A/AA', 'AA é'])('base64url refuses %j', (text) => {
    expect(fromBase64Url(text)).toBeUndefined();
  });

  test.each(['0', 'AB', 'zz'])('hex refuses %j', (text) => expect(fromHex(text)).toBeUndefined());

  test('text, numbers and parts', () => {
    expect(textOf(utf8('é'))).toBe('é');
    expect(textOf(Uint8Array.of(0xc3))).toBeUndefined();
    expect(toHex(concat(u16(258), u64(2n ** 40n + 1n)))).toBe('01020000010000000001');
    expect(sameBytes(utf8('a'), utf8('b'))).toBe(false);
    expect(sameBytes(utf8('a'), utf8('aa'))).toBe(false);
  });
});
