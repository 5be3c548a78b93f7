import { describe, expect, test } from 'vitest';
import { utf8 } from '../contracts/bytes.ts';
import { crc32c } from './crc32c.ts';

/** Bit by bit, as RFC 3720 appendix B.4 describes it. */
const slowly = (bytes: Uint8Array): number => {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
};

describe('crc32c', () => {
  test('known answers of RFC 3720', () => {
    expect(crc32c(utf8('123456789'))).toBe(0xe3069283);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(new Uint8Array(0))).toBe(0);
  });

  test('every length and offset gives what the definition gives', () => {
    const bytes = Uint8Array.from({ length: 70 }, (_, index) => (index * 131 + 7) % 256);
    for (let begin = 0; begin < 9; begin += 1)
      for (let end = begin; end <= bytes.length; end += 1)
        expect(crc32c(bytes.subarray(begin, end))).toBe(slowly(bytes.subarray(begin, end)));
  });
});
