import { describe, expect, test } from 'vitest';
import { announced, canCosign, extensionIds, extensionsText } from './extensions.ts';

describe('extensions', () => {
  test('are all, none, or those that are named', () => {
    expect(extensionsText.parse(undefined)).toEqual(extensionIds);
    expect(extensionsText.parse('all')).toEqual(extensionIds);
    expect(extensionsText.parse('none')).toEqual([]);
    expect(extensionsText.parse('tokens,statements, agreements')).toEqual(['tokens', 'statements', 'agreements']);
  });

  test('a name that is none, and half of what goes together, are faults', () => {
    for (const text of ['', 'prices', 'none catalog', 'all catalog'])
      expect(extensionsText.safeParse(text).error?.issues[0]?.message).toMatch(/neither all, none nor names/);
    for (const text of ['catalog', 'agreements catalog', 'tokens statements'])
      expect(extensionsText.safeParse(text).error?.issues[0]?.message).toMatch(/^lacks .*go together/);
  });

  test('are announced with id, version and path', () => {
    expect(announced(['catalog', 'agreements']).extensions).toEqual([
      { id: 'agreements', version: '1', path: '/ext/1/agreements' },
      { id: 'catalog', version: '1', path: '/ext/1/catalog' },
    ]);
    expect(canCosign(['catalog'])).toBe(false);
    expect(canCosign(extensionIds)).toBe(true);
  });
});
