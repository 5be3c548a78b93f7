import { generateKeyPairSync, sign } from 'node:crypto';
import { expect, test } from 'vitest';
import { nodeCrypto } from './crypto.ts';

test('crypto verifies both encodings of ES256 and refuses a key of another kind', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ format: 'der', type: 'spki' });
  const message = new TextEncoder().encode('stekker');
  const der = sign('sha256', message, privateKey);
  const raw = sign('sha256', message, { key: privateKey, dsaEncoding: 'ieee-p1363' });
  expect(nodeCrypto.verify('ES256-DER', spki, message, der)).toBe(true);
  expect(nodeCrypto.verify('ES256', spki, message, raw)).toBe(true);
  expect(nodeCrypto.verify('ES256', spki, message, der)).toBe(false);
  expect(nodeCrypto.verify('Ed25519', spki, message, raw)).toBe(false);
});
