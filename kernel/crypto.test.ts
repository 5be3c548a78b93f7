import { generateKeyPairSync, sign } from 'node:crypto';
import { expect, test } from 'vitest';
import { nodeCrypto, spkiOf } from './crypto.ts';

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

test.each([
  ['P-256', () => generateKeyPairSync('ec', { namedCurve: 'P-256' })],
  ['Ed25519', () => generateKeyPairSync('ed25519')],
  ['P-384', () => generateKeyPairSync('ec', { namedCurve: 'P-384' })],
  ['RSA', () => generateKeyPairSync('rsa', { modulusLength: 2048 })],
])('the SPKI of a key is the one that OpenSSL writes: %s', (name, make) => {
  // Of five hundred points some have a coordinate that begins with a zero.
  for (let times = name === 'RSA' ? 1 : 500; times > 0; times -= 1) {
    const { publicKey, privateKey } = make();
    const spki = publicKey.export({ format: 'der', type: 'spki' });
    expect(Buffer.from(spkiOf(publicKey)).equals(spki)).toBe(true);
    expect(Buffer.from(spkiOf(privateKey)).equals(spki)).toBe(true);
  }
});
