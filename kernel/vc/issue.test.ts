import { createPublicKey } from 'node:crypto';
import { jwtVerify } from 'jose';
import { describe, expect, test } from 'vitest';
import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import { stekkerContextDocument } from '../../contracts/vc/credential.ts';
import { accreditationOf, keysOf, membershipOf, start } from '../../test/support/identities.ts';
import { buildDidDocument } from '../did.ts';
import { readJwt, verifyJwt } from '../jwt.ts';
import { issueAsDataIntegrity, issueAsJwt } from './issue.ts';
import { contextDigest, loadLinkedData, pinned, pinnedContexts } from './linked-data.ts';

const issuerKeys = keysOf('did:web:broker.example', 3);
const strangerKeys = keysOf('did:web:stranger.example', 9);
const about = {
  issuer: issuerKeys.did,
  subject: 'did:web:holder.example' as Did,
  list: 'https://broker.example/status/1',
};
const membership = () => membershipOf(about);
const accreditation = () => accreditationOf(about);

const publicKey = (spki: Uint8Array) => createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });

describe('issuing as JWT', () => {
  test('jose and our own reader of tokens both verify it, and its claims are the credential', async () => {
    for (const key of [issuerKeys.assertion, issuerKeys.authentication]) {
      const text = await issueAsJwt(membership(), key);
      const read = readJwt(text);
      expect(read !== undefined && verifyJwt(read, key.publicJwk)).toBe(true);
      const { payload, protectedHeader } = await jwtVerify(text, publicKey(key.spki), {
        algorithms: [key.alg],
        typ: 'vc+jwt',
        issuer: issuerKeys.did,
        currentDate: new Date(start),
      });
      expect(protectedHeader).toEqual({ alg: key.alg, kid: key.kid, typ: 'vc+jwt' });
      const { iss: _iss, jti, sub, iat, nbf, exp, ...claims } = payload;
      expect(claims).toEqual(membership());
      expect([jti, sub]).toEqual([membership().id, membership().credentialSubject.id]);
      expect([iat, nbf]).toEqual([start / 1000, start / 1000]);
      expect(exp).toBe(start / 1000 + 86_400);
    }
  });

  test('nobody signs in the name of another', async () => {
    await expect(issueAsJwt(membership(), strangerKeys.assertion)).rejects.toThrow(AppError);
    await expect(issueAsDataIntegrity(membership(), strangerKeys)).rejects.toThrow(AppError);
  });
});

describe('issuing with Data Integrity', () => {
  test('the stock packages verify both kinds, and nothing is fetched', async () => {
    const { verifyCredential, DataIntegrityProof, cryptosuite, loader } = await loadLinkedData();
    const document = buildDidDocument({ keys: issuerKeys, services: {} });
    const [multikey] = document.verificationMethod.filter(({ type }) => type === 'Multikey');
    const documentLoader = loader(
      new Map<string, object>([
        [issuerKeys.did, document],
        [issuerKeys.multikeyId, { '@context': 'https://w3id.org/security/multikey/v1', ...multikey }],
      ]),
    );
    for (const credential of [membership(), accreditation()]) {
      const issued = await issueAsDataIntegrity(credential, issuerKeys);
      expect(issued).toMatchObject({
        ...credential,
        proof: {
          type: 'DataIntegrityProof',
          cryptosuite: 'eddsa-rdfc-2022',
          proofPurpose: 'assertionMethod',
          verificationMethod: issuerKeys.multikeyId,
        },
      });
      const suite = new DataIntegrityProof({ cryptosuite });
      const options = { suite, documentLoader, now: new Date(start), checkStatus: () => ({ verified: true }) };
      expect((await verifyCredential({ credential: issued, ...options })).error).toBeUndefined();
      const changed = { ...issued, validUntil: '2036-11-24T00:00:00.000Z' };
      expect((await verifyCredential({ credential: changed, ...options })).verified).toBe(false);
    }
  });

  test('the credential that was given stays as it was', async () => {
    const credential = membership();
    await issueAsDataIntegrity(credential, issuerKeys);
    expect(credential).toEqual(membership());
  });

  test('contexts are pinned by hash, and no other name is loaded', async () => {
    const { loader } = await loadLinkedData();
    const urls = Object.keys(pinnedContexts);
    expect(urls).toHaveLength(2);
    for (const url of urls) expect(contextDigest((await loader()(url)).document)).toBe(pinnedContexts[url]);
    await expect(loader()('https://example.org/context')).rejects.toThrow('not loaded');
    await expect(loader()('https://www.w3.org/ns/credentials/examples/v2')).rejects.toThrow('not loaded');
    const other = { '@context': { ...stekkerContextDocument['@context'], level: 'urn:stekker:1:digest' } };
    expect(() => pinned('urn:stekker:1:credentials', other)).toThrow('not the one that was pinned');
    expect(() => pinned('urn:other', stekkerContextDocument)).toThrow('not the one that was pinned');
  });
});
