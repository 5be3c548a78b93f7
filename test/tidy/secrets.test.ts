import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import { createTokenService } from '../../kernel/auth.ts';
import { systemClock } from '../../kernel/clock.ts';
import { systemRandom } from '../../kernel/random.ts';
import { secretIn, secretMarker } from '../../scripts/find-secrets.ts';
import { keysOf } from '../support/identities.ts';
import { markedRandom, secretMarker as markerOfTests, secretText } from '../support/secrets.ts';

const did = 'did:web:connector.example' as Did;

describe('the search for secrets', () => {
  test('finds what the secrets of tests carry, plainly and inside base64 wherever it begins', () => {
    expect(markerOfTests).toBe(secretMarker);
    expect(secretIn(`passphrase ${secretText('x')} is wrong`)).toBe('a marked secret');
    for (const before of ['', 'a', 'ab', 'abc', '{"token":"'])
      for (const form of ['base64', 'base64url'] as const) {
        const inside = Buffer.from(`${before}${secretText('x')}"}`).toString(form);
        expect(secretIn(`line ${inside} end`), before).toBe('a marked secret');
      }
  });

  test('finds what services of tests draw for secrets: join codes, grants, keys of applications', () => {
    for (const length of [24, 32]) {
      const drawn = [markedRandom.bytes(length), markedRandom.bytes(length)].map((bytes) => Buffer.from(bytes));
      for (const secret of drawn) expect(secretIn(`the code ${secret.toString('base64url')}`)).toBe('a marked secret');
      expect(drawn[0]).not.toEqual(drawn[1]);
    }
    expect(secretIn(Buffer.from(markedRandom.bytes(16)).toString('base64url'))).toBeUndefined();
  });

  test('finds tokens and private keys by their form', () => {
    const tokens = createTokenService({ keys: keysOf(did, 7), clock: systemClock, random: systemRandom });
    expect(secretIn(`sent ${tokens.tokenFor({ audience: did })}`)).toBe('a signed token');
    const { privateKey } = generateKeyPairSync('ed25519');
    expect(secretIn(privateKey.export({ format: 'pem', type: 'pkcs8' }).toString())).toBe('a private key');
    expect(secretIn(JSON.stringify(privateKey.export({ format: 'jwk' })))).toBe('a private key');
  });

  test('finds nothing in what may be printed', () => {
    const { publicKey } = generateKeyPairSync('ed25519');
    const text = `${JSON.stringify(publicKey.export({ format: 'jwk' }))} ${did} sha256:${'ab'.repeat(32)} eyJhbGciOiJub25lIn0`;
    expect(secretIn(text)).toBeUndefined();
  });
});
