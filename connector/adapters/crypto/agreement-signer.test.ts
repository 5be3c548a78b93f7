import { generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { utf8 } from '../../../contracts/bytes.ts';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import { assembleJws } from '../../../contracts/ledger/jws.ts';
import { systemClock } from '../../../kernel/clock.ts';
import { buildDidDocument, createDidResolver } from '../../../kernel/did.ts';
import { systemRandom } from '../../../kernel/random.ts';
import { freshKeys } from '../../../test/support/identities.ts';
import { createAgreementSigner } from './agreement-signer.ts';

const us = freshKeys('did:web:us.example' as Did);
const peer = freshKeys('did:web:peer.example' as Did);
const documents = new Map(
  [us, peer].map((keys) => [
    `https://${keys.did.slice('did:web:'.length)}/.well-known/did.json`,
    JSON.stringify(buildDidDocument({ keys, services: {} })),
  ]),
);
const resolver = createDidResolver({
  clock: systemClock,
  allowLoopbackHttp: false,
  client: {
    request: async ({ url }) => {
      const text = documents.get(url);
      const headers = { 'content-type': 'application/did+json' };
      return { status: text === undefined ? 404 : 200, headers, body: utf8(text ?? '') };
    },
  },
});
const signer = createAgreementSigner({ keys: () => us, resolver, random: systemRandom });

describe('signatures of agreements', () => {
  const payload = '{"v":1}';
  const typ = 'stekker-agreement-event+jws';

  test('hold under the key that the DID document shows, in their place and type only', async () => {
    const artifact = assembleJws(payload, [await signer.sign('main' as ParticipantId, { typ, payload })]);
    const verify = (changes: object, its = artifact) => signer.verify(its, { typ, index: 0, did: us.did, ...changes });
    expect(await verify({})).toBe(true);
    expect(await verify({ index: 1 })).toBe(false);
    expect(await verify({ did: peer.did })).toBe(false);
    expect(await verify({ typ: 'stekker-agreement+jws' })).toBe(false);
    const [first] = artifact.signatures;
    const forged = { payload: artifact.payload, signatures: [{ protected: first?.protected ?? '', signature: 'AA' }] };
    expect(await verify({}, forged)).toBe(false);
  });

  test('a leaf key is named by its private half, and nothing else is taken for one', () => {
    const leaf = signer.makeLeafKey();
    expect(signer.leafKeyId(leaf.privateJwk)).toBe(leaf.id);
    expect(signer.leafKeyId({ ...leaf.privateJwk, d: '' })).toBeUndefined();
    expect(signer.leafKeyId({})).toBeUndefined();
    const { kty = '', crv = '', x = '', d = '' } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
    expect(signer.leafKeyId({ kty, crv, x, d })).toBeUndefined();
    expect(signer.randomBytes(32)).toHaveLength(32);
  });
});
