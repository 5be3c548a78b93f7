import { generateKeyPairSync, sign } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { Crypto } from '../contracts/crypto.ts';
import { nodeCrypto } from './crypto.ts';
import { createVerifyPool } from './verify-pool.ts';

const ed25519 = generateKeyPairSync('ed25519');
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const spkiOf = (key: { export(options: { format: 'der'; type: 'spki' }): Buffer }) =>
  key.export({ format: 'der', type: 'spki' });
const message = Buffer.from('what was signed');
const good = {
  first: sign(null, message, ed25519.privateKey),
  der: sign('sha256', message, p256.privateKey),
  jws: sign('sha256', message, { key: p256.privateKey, dsaEncoding: 'ieee-p1363' }),
};
const flip = (bytes: Buffer) => Buffer.from(bytes.map((byte, index) => (index === 9 ? byte ^ 1 : byte)));

const checkAll = (signatures: typeof good) => (crypto: Crypto) => {
  if (!crypto.verify('Ed25519', spkiOf(ed25519.publicKey), message, signatures.first)) return 'first';
  if (!crypto.verify('ES256-DER', spkiOf(p256.publicKey), message, signatures.der)) return 'der';
  if (!crypto.verify('ES256', spkiOf(p256.publicKey), message, signatures.jws)) return 'jws';
  return 'all hold';
};

describe('verify pool', () => {
  const inPool = createVerifyPool(nodeCrypto);

  test('gives the answer that the synchronous check gives, and says which signature fails', async () => {
    const cases = [
      good,
      { ...good, first: flip(good.first) },
      { ...good, der: flip(good.der) },
      { ...good, jws: flip(good.jws) },
      { ...good, der: Buffer.alloc(0) },
      { first: flip(good.first), der: flip(good.der), jws: flip(good.jws) },
    ];
    const answers = await Promise.all(cases.map((one) => inPool(checkAll(one))));
    expect(answers).toEqual(cases.map((one) => checkAll(one)(nodeCrypto)));
    expect(answers).toEqual(['all hold', 'first', 'der', 'jws', 'der', 'first']);
  });

  test('a key of another kind, or none, verifies nothing', async () => {
    const under = (spki: Uint8Array) => inPool((crypto) => crypto.verify('Ed25519', spki, message, good.first));
    expect(await under(spkiOf(p256.publicKey))).toBe(false);
    expect(await under(new Uint8Array(0))).toBe(false);
    const other = sign('sha256', message, p384.privateKey);
    const verdict = await inPool((crypto) => crypto.verify('ES256-DER', spkiOf(p384.publicKey), message, other));
    expect(verdict).toBe(false);
  });
});
