import { describe, expect, test } from 'vitest';
import { systemRandom } from '../../../kernel/random.ts';
import { createSecretSeal } from './secret-seal.ts';

describe('sealed secrets', () => {
  const seal = createSecretSeal(new Uint8Array(32).fill(1), systemRandom);

  test('are opened by the key that sealed them, and look different each time', () => {
    const [one, two] = [seal.seal('geheim'), seal.seal('geheim')];
    expect(one).not.toBe(two);
    expect(one).not.toContain('geheim');
    expect([seal.unseal(one), seal.unseal(two)]).toEqual(['geheim', 'geheim']);
  });

  test('are opened by no other key, nor when a bit was changed', () => {
    const sealed = seal.seal('geheim');
    const other = createSecretSeal(new Uint8Array(32).fill(2), systemRandom);
    const bytes = Buffer.from(sealed, 'base64url');
    bytes[bytes.length - 1] = (bytes[bytes.length - 1] ?? 0) ^ 1;
    for (const open of [
      () => other.unseal(sealed),
      () => seal.unseal(bytes.toString('base64url')),
      () => seal.unseal('x'),
    ])
      expect(open).toThrow(expect.objectContaining({ code: 'data-damaged' }));
  });
});
