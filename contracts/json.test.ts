import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { utf8 } from './bytes.ts';
import { isAppError } from './errors.ts';
import { canonicalize, type Json, parseCanonical, parseJson } from './json.ts';

const faultOf = (text: string, limits = { maxBytes: 1000, maxDepth: 5 }) => {
  try {
    parseJson(utf8(text), limits);
  } catch (error) {
    if (isAppError(error)) return { code: error.code, faults: error.faults };
    throw error;
  }
  return undefined;
};

describe('canonical JSON', () => {
  test.each<[Json, string]>([
    [{ b: '1', a: [true, null] }, '{"a":[true,null],"b":"1"}'],
    [{ '10': '', '9': '', a: '' }, '{"10":"","9":"","a":""}'],
    [
      { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\u{1f600}': 5, '\u0080': 6, '\u00f6': 7 },
      '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\u{1f600}":5,"\ufb33":3}',
    ],
    [[1e30, 4.5, 2e-3, 1e-27, 333333333.3333333], '[1e+30,4.5,0.002,1e-27,333333333.3333333]'],
  ])('writes %j', (value, text) => {
    expect(canonicalize(value)).toBe(text);
    expect(parseCanonical(text)).toEqual(value);
  });

  test('any value has one form, and only that form is read back', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6, noUnicodeString: false }), (value) => {
        const json = JSON.parse(JSON.stringify(value)) as Json;
        const text = canonicalize(json);
        expect(parseCanonical(text)).toEqual(json);
        expect(parseCanonical(` ${text}`)).toBeUndefined();
        expect(canonicalize(JSON.parse(text) as Json)).toBe(text);
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    ['keys out of order', '{"b":1,"a":2}'],
    ['a key twice', '{"a":1,"a":1}'],
    ['white space', '{"a": 1}'],
    ['another escape', '{"a":"\\u0041"}'],
    ['a lone surrogate', '{"a":"\\ud800"}'],
    ['a lone surrogate as a key', '{"\\udfff":1}'],
    ['another number form', '[1.0]'],
    ['no JSON', '{'],
    ['too deep', `${'['.repeat(100)}${']'.repeat(100)}`],
  ])('refuses %s', (_what, text) => {
    expect(parseCanonical(text)).toBeUndefined();
  });

  test('refuses to write what JSON cannot hold', () => {
    expect(() => canonicalize({ b: '\ud800', a: '' })).toThrow('half a character');
    expect(() => canonicalize([Number.NaN])).toThrow('cannot hold');
    expect(() => canonicalize({ a: undefined } as unknown as Json)).toThrow('without a value');
    let deep: Json = 1;
    for (let level = 0; level < 80; level += 1) deep = [deep];
    expect(() => canonicalize(deep)).toThrow('deeper');
  });
});

describe('JSON of others', () => {
  test('reads what is well formed', () => {
    expect(parseJson(utf8('{"a":{"x":1},"b":[{"x":1},{"x":2}],"c":"x\\"y,{"}'))).toEqual({
      a: { x: 1 },
      b: [{ x: 1 }, { x: 2 }],
      c: 'x"y,{',
    });
  });

  test('names every key that stands twice, escaped or not', () => {
    expect(faultOf('{"a":1,"\\u0061":2,"b":[{"c":1,"c":2}]}')).toEqual({
      code: 'body-duplicate-key',
      faults: [
        { path: '/a', message: 'stands twice' },
        { path: '/b/0/c', message: 'stands twice' },
      ],
    });
  });

  test.each([
    ['no JSON', 'nil', 'body-not-json'],
    ['too large', `"${'x'.repeat(1000)}"`, 'body-too-large'],
    ['too deep', '[[[[[[1]]]]]]', 'body-too-deep'],
    ['a prototype', '{"__proto__":{"admin":true}}', 'body-invalid'],
    ['a lone surrogate', '["\\ud83d"]', 'body-invalid'],
    ['a lone surrogate as a key', '{"\\ud83d":1}', 'body-invalid'],
  ])('refuses %s', (_what, text, code) => {
    expect(faultOf(text)?.code).toBe(code);
  });

  test('refuses bytes that are not UTF-8', () => {
    expect(() => parseJson(Uint8Array.of(0x22, 0xff, 0x22))).toThrow('not UTF-8');
  });

  test('deep nesting stops at the limit, whatever its length', () => {
    expect(faultOf('['.repeat(100_000) + ']'.repeat(100_000), { maxBytes: 1 << 20, maxDepth: 32 })?.code).toBe(
      'body-too-deep',
    );
  });
});
