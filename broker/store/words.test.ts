import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { termsOf, wordsOf } from './words.pure.ts';

describe('words', () => {
  test.each([
    ['Coördinatie van NEERSLAG', ['coordinatie', 'van', 'neerslag']],
    ['Zuid-Holland: 2,5 m (NAP)', ['zuid', 'holland', 'nap']],
    ['Groß Ærø Łódź ĳsselmeer', ['gross', 'aero', 'lodz', 'ijsselmeer']],
    ['urn:asset:rain_2026', ['urn', 'asset', 'rain', '2026']],
    ['', []],
    ['a b c', []],
    ['water water Water', ['water']],
  ])('of %s', (text, words) => {
    expect(wordsOf([text])).toEqual(words);
  });

  test('are bounded in length and number', () => {
    expect(wordsOf(['x'.repeat(100)])).toEqual(['x'.repeat(40)]);
    expect(wordsOf([Array.from({ length: 500 }, (_, index) => `w${index}`).join(' ')])).toHaveLength(200);
    expect(
      termsOf(Array.from({ length: 20 }, (_, index) => `${String.fromCharCode(97 + index)}${index}x`).join(' ')),
    ).toHaveLength(8);
  });

  test('of a question are those that carry it', () => {
    expect(termsOf('Wateroverlast in mijn wijk')).toEqual(['wateroverlast', 'wijk']);
    expect(termsOf('de het een')).toEqual(['de', 'het', 'een']);
    expect(termsOf('water waterstand')).toEqual(['waterstand']);
    expect(termsOf('  ?! ')).toEqual([]);
  });

  test('whatever is asked for in the words of a text is found in it', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), (text) => {
        const words = wordsOf([text]);
        for (const term of termsOf(text)) expect(words).toContain(term);
      }),
    );
  });
});
