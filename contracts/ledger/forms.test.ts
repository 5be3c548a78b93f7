import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { fromBase64, fromBase64Url, toBase64, toBase64Url } from '../bytes.ts';
import { base64, base64Url } from './forms.ts';

describe('base64 in signed things', () => {
  test('takes exactly what decodes and encodes back to itself', () => {
    const alphabet = [...'ABQgwxyz01489+/-_= \n'];
    const text = fc.string({ unit: fc.constantFrom(...alphabet), maxLength: 12 });
    fc.assert(
      fc.property(text, (given) => {
        expect(base64.safeParse(given).success).toBe(fromBase64(given) !== undefined);
        expect(base64Url.safeParse(given).success).toBe(fromBase64Url(given) !== undefined);
      }),
      { numRuns: 5_000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        expect(base64.safeParse(toBase64(bytes)).success).toBe(true);
        expect(base64Url.safeParse(toBase64Url(bytes)).success).toBe(true);
      }),
    );
  });
});
