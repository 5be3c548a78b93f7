import { AppError } from '../../contracts/errors.ts';
import type { Json } from '../../contracts/json.ts';
import { parsePeerTime } from '../../contracts/time.ts';
import type { Credential, StatusListCredential } from '../../contracts/vc/credential.ts';
import { signByJose } from '../jwt.ts';
import type { ParticipantKeys, SigningKey } from '../keys.ts';
import { loadLinkedData } from './linked-data.ts';

/** Issues one canonical JSON credential in both forms (credentials §3). */

export const credentialJwtType = 'vc+jwt';

/** Nobody signs in another's name, whatever a caller puts together. */
const assertOwn = (issuer: string, kid: string): void => {
  if (!kid.startsWith(`${issuer}#`)) throw new AppError('invariant-broken', { detail: "the key is not the issuer's" });
};

const secondsOf = (time: string): number => Math.floor((parsePeerTime(time) ?? 0) / 1_000);

/**
 * The wire form: a JWT whose claims are the credential, with the registered claims beside it so that plain JWT verifiers
 * see the same dates. The algorithm follows from the key.
 */
export const issueAsJwt = async (credential: Credential | StatusListCredential, key: SigningKey): Promise<string> => {
  const { id, issuer, validFrom, validUntil, credentialSubject } = credential;
  assertOwn(issuer, key.kid);
  const from = secondsOf(validFrom);
  const registered = { iss: issuer, jti: id, sub: credentialSubject.id, iat: from, nbf: from };
  return signByJose(key, credentialJwtType, { ...credential, ...registered, exp: secondsOf(validUntil) });
};

/**
 * The same credential with a Data Integrity proof (`eddsa-rdfc-2022`) by the assertion key under its Multikey id. The
 * proof's time is the credential's `validFrom`: an issuer signs when validity begins.
 */
export const issueAsDataIntegrity = async (
  credential: Credential,
  keys: ParticipantKeys,
): Promise<{ readonly [member: string]: Json }> => {
  assertOwn(credential.issuer, keys.multikeyId);
  const { issue, DataIntegrityProof, cryptosuite, loader } = await loadLinkedData();
  const signer = {
    id: keys.multikeyId,
    algorithm: 'Ed25519',
    sign: async ({ data }: { readonly data: Uint8Array }) => keys.assertion.sign(data),
  };
  const suite = new DataIntegrityProof({ signer, cryptosuite, date: credential.validFrom });
  // The package writes the proof into what it is given, so it gets a copy.
  const issued = await issue({ credential: structuredClone(credential), suite, documentLoader: loader() });
  return issued as { readonly [member: string]: Json }; // the credential, which is JSON, and a proof of strings
};
