import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { utf8 } from '../../../contracts/bytes.ts';
import { ed25519Spki } from '../../../contracts/ledger/forms.ts';
import { readVerifierKey } from '../../../contracts/ledger/note.ts';
import { nodeCrypto } from '../../../kernel/crypto.ts';
import { seededRandom } from '../../../kernel/random.ts';
import { aesArtifactSeal } from './artifact-seal.ts';
import { nodeLogKeys } from './log-keys.ts';

describe('sealed artifacts', () => {
  const key = seededRandom('key').bytes(32);
  const seal = aesArtifactSeal(key, seededRandom('nonces'));

  test('open with the same key and label, and with nothing else', () => {
    const sealed = seal.seal('een afspraak ✓', 'digest');
    expect(sealed).not.toContain('afspraak');
    expect(seal.open(sealed, 'digest')).toBe('een afspraak ✓');
    expect(seal.open(sealed, 'other')).toBeUndefined();
    expect(aesArtifactSeal(seededRandom('other').bytes(32), seededRandom('n')).open(sealed, 'digest')).toBeUndefined();
    expect(seal.seal('een afspraak ✓', 'digest')).not.toBe(sealed);
  });

  test('any changed byte is noticed', () => {
    const bytes = Buffer.from(seal.seal('text', 'digest'), 'base64');
    for (const place of bytes.keys()) {
      const changed = Buffer.from(bytes.map((byte, at) => (at === place ? byte ^ 1 : byte)));
      expect(seal.open(changed.toString('base64'), 'digest')).toBeUndefined();
    }
    expect(seal.open('', 'digest')).toBeUndefined();
  });

  test('a key of another length is refused', () => {
    expect(() => aesArtifactSeal(new Uint8Array(16), seededRandom('n'))).toThrow('32 bytes');
  });
});

describe('log keys', () => {
  const ed25519 = generateKeyPairSync('ed25519').privateKey;
  const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;

  test('sign what their public halves verify', async () => {
    const keys = nodeLogKeys('broker.example/log/2026', { log: ed25519, registry: p256 });
    const vkey = readVerifierKey(nodeCrypto, keys.vkey);
    const message = utf8('message');
    if (!vkey.ok) throw new Error(vkey.reason);
    const asLog = await keys.signAsLog(message);
    expect(nodeCrypto.verify('Ed25519', ed25519Spki(vkey.value.publicKey), message, asLog)).toBe(true);
    const der = await keys.signAsRegistry(message, 'der');
    expect(nodeCrypto.verify('ES256-DER', keys.registryKey, message, der)).toBe(true);
    const jws = await keys.signAsRegistry(message, 'jws');
    expect(nodeCrypto.verify('ES256', keys.registryKey, message, jws)).toBe(true);
  });

  test('must be of the right kinds', () => {
    expect(() => nodeLogKeys('a.example/log', { log: p256, registry: p256 })).toThrow('Ed25519');
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey;
    expect(() => nodeLogKeys('a.example/log', { log: ed25519, registry: p384 })).toThrow('P-256');
  });
});
