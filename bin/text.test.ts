import { describe, expect, test } from 'vitest';
import { isAppError } from '../contracts/errors.ts';
import { pricePlan } from '../contracts/ledger/price-plan.ts';
import { parsePrices } from './price.ts';
import { csv, plain, table } from './text.ts';

describe('text for terminals and spreadsheets', () => {
  test('nothing that others wrote can act on the terminal', () => {
    expect(plain('a\u001b[2Jb\r\nc\u202ed\u200be')).toBe('a·[2Jb··c·d·e');
    expect(plain('Één café 🌊')).toBe('Één café 🌊');
  });

  test('columns line up, also with letters outside of ASCII', () => {
    expect(
      table([
        ['a', 'b'],
        ['één', 'x'],
        ['longer', 'y\u0007'],
      ]),
    ).toEqual(['a       b', 'één     x', 'longer  y·']);
  });

  test('CSV quotes what must be quoted, and no cell is a formula', () => {
    expect(csv([['a,b', 'c"d', '=1+1', '-2', 'e\nf', 'g']])).toEqual(['"a,b","c""d",\'=1+1,\'-2,"e\nf",g']);
  });
});

describe('prices as people write them', () => {
  test.each([
    [['0.25 EUR per request'], 'EUR', '2', [['requests', '1', '25']]],
    [
      ['5 EUR per 1000 items', '0.005 EUR per request'],
      'EUR',
      '3',
      [
        ['items', '1000', '5000'],
        ['requests', '1', '5'],
      ],
    ],
    [['0.02 USD per GB'], 'USD', '2', [['bytes', '1000000000', '2']]],
    [['10 EUR per 2 MB'], 'EUR', '0', [['bytes', '2000000', '10']]],
  ])('%s', (texts, currency, scale, lines) => {
    const price = parsePrices(texts);
    expect(price).toEqual({
      currency,
      scale,
      lines: lines.map(([unit, quantity, value]) => ({ unit, quantity, value })),
    });
    expect(pricePlan.safeParse({ v: 1, type: 'price-plan', ...price, notice: '', free: false }).success).toBe(true);
  });

  test('none is no price plan', () => {
    expect(parsePrices([])).toBeUndefined();
  });

  test.each([
    '0,25 EUR per request',
    '0.25',
    '0.25 eur per request',
    '-1 EUR per request',
    '1 EUR per look',
    '1 EUR per 0 requests',
    '1e3 EUR per request',
  ])('"%s" is none, and an example shows the form', (text) => {
    try {
      parsePrices([text]);
      expect.unreachable();
    } catch (error) {
      if (!isAppError(error, 'invalid-request')) throw error;
      expect(error.detail).toContain('0.25 EUR per request');
    }
  });

  test('two currencies are refused', () => {
    expect(() => parsePrices(['1 EUR per request', '1 USD per item'])).toThrow('one currency');
  });
});
