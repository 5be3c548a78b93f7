import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../../kernel/random.ts';
import { createSecretSeal } from './secret-seal.ts';

describe('sealed secrets', () => {
  const random = seededRandom('seal');
  const key = random.bytes(32);
  const seal = createSecretSeal(key, random);

  test('opens what it sealed, and the text is not to be seen in it', () => {
    const sealed = seal.seal('Basic dXNlcjpwYXNz');
    expect(sealed).not.toContain('dXNlcjpwYXNz');
    expect(seal.unseal(sealed)).toBe('Basic dXNlcjpwYXNz');
    expect(seal.seal('Basic dXNlcjpwYXNz')).not.toBe(sealed);
  });

  test('refuses a changed text, another key, and what was never sealed', () => {
    const sealed = seal.seal('secret');
    const changed = `${sealed.slice(0, -2)}${sealed.endsWith('AA') ? 'BB' : 'AA'}`;
    const other = createSecretSeal(random.bytes(32), random);
    for (const open of [() => seal.unseal(changed), () => other.unseal(sealed), () => seal.unseal('short')])
      expect(open).toThrow(expect.objectContaining({ code: 'data-damaged' }));
  });
});
