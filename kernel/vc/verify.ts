import { verify as verifyBytes } from 'node:crypto';
import { z } from 'zod';
import { utf8 } from '../../contracts/bytes.ts';
import { type Did, isDid } from '../../contracts/ids.ts';
import { type Json, parseJson } from '../../contracts/json.ts';
import { bad, type Checked, check, good, isEd25519Spki } from '../../contracts/ledger/forms.ts';
import { formatTime, parsePeerTime } from '../../contracts/time.ts';
import {
  accreditationCredential,
  type Credential,
  membershipCredential,
  type StatusListCredential,
  statusListCredential,
} from '../../contracts/vc/credential.ts';
import { spkiOf } from '../crypto.ts';
import { type DidResolver, multikeyOf } from '../did.ts';
import { importJwk, type ReadJwt, readJwt, verifyByJose } from '../jwt.ts';
import { credentialJwtType } from './issue.ts';
import { loadLinkedData } from './linked-data.ts';

/**
 * The hardened verifier (credentials §3, §4): shape and limits first, then whose key it is, then the signature. It says who
 * signed what and when; whether that issuer counts, and whether the credential was revoked, are questions of their own.
 */

export interface Verifying {
  readonly resolver: Pick<DidResolver, 'key'>;
  readonly now: number;
}

/** JSON-LD is quadratic in the length of arrays, and deep nesting overflows the stack (credentials §4 rows 13, 15). */
const limits = { maxBytes: 32_768, maxDepth: 12 };
const maxItems = 100;
/** A JWT of a credential within the limits, in base64url, with its signature. */
const maxJwtLength = 44_500;
/** A whole status list in base64url, twice. */
const maxListJwtLength = 2 << 20;
const skewMs = 60_000;

/** Why a value is larger than what is looked at, or undefined. */
const excessOf = (value: Json, depth = 1): string | undefined => {
  if (typeof value !== 'object' || value === null) return undefined;
  if (depth > limits.maxDepth) return `is deeper than ${limits.maxDepth} levels`;
  const items: readonly Json[] = Array.isArray(value) ? value : Object.values(value);
  if (items.length > maxItems) return `has more than ${maxItems} items in one place`;
  for (const item of items) {
    const excess = excessOf(item, depth + 1);
    if (excess !== undefined) return excess;
  }
  return undefined;
};

/** A broker speaks for its own membership, an accreditor for its own accreditations (wire §8). */
const isOwnWord = ({ issuer, credentialSubject }: Credential): boolean =>
  issuer === ('memberOf' in credentialSubject ? credentialSubject.memberOf : credentialSubject.accreditor);

const typed = z.looseObject({ type: z.tuple([z.literal('VerifiableCredential'), z.string().max(100)]) });

/** By its own type, so that a refusal names what is wrong. */
const schemaFor = (type: string): z.ZodType<Credential> | undefined => {
  switch (type) {
    case 'MembershipCredential':
      return membershipCredential;
    case 'ApplicationAccreditationCredential':
      return accreditationCredential;
    default:
      return undefined;
  }
};

const checkCredential = (value: unknown): Checked<Credential> => {
  const type = check(typed, value);
  if (!type.ok) return type;
  const schema = schemaFor(type.value.type[1]);
  if (schema === undefined) return bad('is of a type that is not known here');
  const read = check(schema, value);
  return read.ok && !isOwnWord(read.value) ? bad('speaks in the name of another than its issuer') : read;
};

const seconds = z.number().int().min(0).max(8_640_000_000_000);
const registeredClaims = z.strictObject({
  iss: z.string().optional(),
  jti: z.string().optional(),
  sub: z.string().optional(),
  iat: seconds.optional(),
  nbf: seconds.optional(),
  exp: seconds.optional(),
});
type Registered = z.infer<typeof registeredClaims>;

type Signed = Credential | StatusListCredential;

/** A credential in its JWT: form and names fit, the signature is not verified yet. */
export interface UnverifiedJwt<Value extends Signed> {
  readonly value: Value;
  readonly registered: Registered;
  readonly jwt: ReadJwt;
  readonly kid: string;
}

const names = ['iss', 'jti', 'sub', 'iat', 'nbf', 'exp'] as const;

const split = (claims: ReadJwt['claims']): { registered: Json; rest: Json } => {
  const isRegistered = ([name]: readonly [string, Json]) => names.some((one) => one === name);
  const entries = Object.entries(claims);
  return {
    registered: Object.fromEntries(entries.filter(isRegistered)),
    rest: Object.fromEntries(entries.filter((entry) => !isRegistered(entry))),
  };
};

const readVcJwt = <Value extends Signed>(
  text: string,
  maxLength: number,
  checkValue: (value: unknown) => Checked<Value>,
): Checked<UnverifiedJwt<Value>> => {
  const jwt = readJwt(text, maxLength);
  if (jwt === undefined) return bad('is no JWT that is read here');
  if (jwt.typ !== credentialJwtType) return bad(`is of type ${jwt.typ} and not ${credentialJwtType}`);
  const excess = excessOf(jwt.claims);
  if (excess !== undefined) return bad(excess);
  const { registered, rest } = split(jwt.claims); // what is left must be the credential: a `vc` claim is refused too
  const plain = check(registeredClaims, registered);
  if (!plain.ok) return plain;
  const read = checkValue(rest);
  if (!read.ok) return read;
  const { value } = read;
  const { iss = value.issuer, jti = value.id, sub = value.credentialSubject.id } = plain.value;
  if (iss !== value.issuer || jti !== value.id || sub !== value.credentialSubject.id)
    return bad('has claims that differ from the credential');
  if (jwt.kid?.startsWith(`${value.issuer}#`) !== true) return bad('names a key of another than its issuer');
  return good({ value, registered: plain.value, jwt, kid: jwt.kid });
};

/** Reads a credential in its JWT form without verifying it. */
export const readJwtCredential = (text: string): Checked<UnverifiedJwt<Credential>> =>
  readVcJwt(text, maxJwtLength, checkCredential);

/** Why a credential does not hold at this moment, or undefined. */
const outOfTime = ({ validFrom, validUntil }: Signed, { iat = 0, nbf = 0, exp }: Registered, now: number) => {
  const from = Math.max(parsePeerTime(validFrom) ?? Number.POSITIVE_INFINITY, nbf * 1_000, iat * 1_000);
  const until = Math.min(parsePeerTime(validUntil) ?? 0, (exp ?? Number.POSITIVE_INFINITY) * 1_000);
  if (from > now + skewMs) return 'is not valid yet';
  return until <= now ? 'has expired' : undefined;
};

const verifyRead = async <Value extends Signed>(
  { value, registered, jwt, kid }: UnverifiedJwt<Value>,
  { resolver, now }: Verifying,
): Promise<Checked<Value>> => {
  const late = outOfTime(value, registered, now);
  if (late !== undefined) return bad(late);
  if (!isDid(value.issuer)) return bad('has an issuer that is no DID');
  const key = await resolver.key(value.issuer, kid, 'assertionMethod');
  if (key === undefined) return bad(`${kid} is no assertion key of its issuer`);
  return (await verifyByJose(jwt, key.jwk)) ? good(value) : bad('has a signature that does not hold');
};

/** Verifies a credential that was read: time, key and signature. */
export const verifyReadCredential = (read: UnverifiedJwt<Credential>, by: Verifying): Promise<Checked<Credential>> =>
  verifyRead(read, by);

/** Verifies a credential as JWT (credentials §3): the algorithm that fits the key, a key that its issuer asserts with. */
export const verifyJwtCredential = async (text: string, by: Verifying): Promise<Checked<Credential>> => {
  const read = readJwtCredential(text);
  return read.ok ? verifyRead(read.value, by) : read;
};

/** The same for the credential that carries a status list. */
export const verifyStatusList = async (text: string, by: Verifying): Promise<Checked<StatusListCredential>> => {
  const read = readVcJwt(text, maxListJwtLength, (value) => check(statusListCredential, value));
  return read.ok ? verifyRead(read.value, by) : read;
};

const dateTime = z.string().refine((text) => parsePeerTime(text) !== undefined, 'is no time of RFC 3339');

/** The one proof that the access path takes: no set, no chain, nothing that is not known (credentials §4 row 7). */
const dataIntegrityProof = z.strictObject({
  type: z.literal('DataIntegrityProof'),
  cryptosuite: z.literal('eddsa-rdfc-2022'),
  created: dateTime.optional(),
  expires: dateTime.optional(),
  verificationMethod: z.string().max(512),
  proofPurpose: z.literal('assertionMethod'),
  proofValue: z.string().regex(/^z[1-9A-HJ-NP-Za-km-z]{1,100}$/, 'is no signature'),
});
type DataIntegrityProof = z.infer<typeof dataIntegrityProof>;

interface SecuredCredential {
  readonly credential: Credential;
  readonly proof: DataIntegrityProof;
}

const readSecured = (text: string): Checked<SecuredCredential> => {
  let value: Json;
  try {
    value = parseJson(utf8(text), limits);
  } catch (error) {
    return bad(error instanceof Error ? error.message : 'cannot be read');
  }
  const excess = excessOf(value);
  if (excess !== undefined) return bad(excess);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return bad('is no object');
  const { proof, ...rest } = value as { readonly [member: string]: Json };
  const readProof = check(dataIntegrityProof, proof);
  if (!readProof.ok) return readProof;
  const read = checkCredential(rest);
  return read.ok ? good({ credential: read.value, proof: readProof.value }) : read;
};

const proofOutOfTime = ({ created, expires }: DataIntegrityProof, now: number): string | undefined => {
  if (created !== undefined && (parsePeerTime(created) ?? Number.POSITIVE_INFINITY) > now + skewMs)
    return 'has a proof made in the future';
  if (expires !== undefined && (parsePeerTime(expires) ?? 0) <= now - skewMs) return 'has a proof that has expired';
  return undefined;
};

/** The SPKI of the issuer's key that a proof names; undefined unless it is an Ed25519 key it asserts with. */
const proofKey = async (issuer: Did, { verificationMethod }: DataIntegrityProof, { resolver }: Verifying) => {
  const key = await resolver.key(issuer, verificationMethod, 'assertionMethod');
  const imported = key === undefined ? undefined : importJwk(key.jwk);
  const spki = imported === undefined ? undefined : spkiOf(imported);
  return imported !== undefined && spki !== undefined && isEd25519Spki(spki) ? { imported, spki } : undefined;
};

/** The proof itself, by the packages: they get our loader, our key, and the two documents they ask for. */
const holdsProof = async (
  { credential: value, proof }: SecuredCredential,
  key: NonNullable<Awaited<ReturnType<typeof proofKey>>>,
  now: number,
): Promise<boolean> => {
  const { verifyCredential, DataIntegrityProof, cryptosuite, loader } = await loadLinkedData();
  const id = proof.verificationMethod;
  const createVerifier = async () => ({
    algorithm: 'Ed25519',
    id,
    verify: async ({ data, signature }: { readonly data: Uint8Array; readonly signature: Uint8Array }) =>
      verifyBytes(null, data, key.imported, signature),
  });
  const documents = new Map<string, object>([
    [value.issuer, { '@context': ['https://www.w3.org/ns/did/v1'], id: value.issuer, assertionMethod: [id] }],
    [
      id,
      {
        '@context': 'https://w3id.org/security/multikey/v1',
        id,
        type: 'Multikey',
        controller: value.issuer,
        publicKeyMultibase: multikeyOf(key.spki),
      },
    ],
  ]);
  const { verified } = await verifyCredential({
    credential: { ...value, proof },
    suite: new DataIntegrityProof({ cryptosuite: { ...cryptosuite, createVerifier } }),
    documentLoader: loader(documents),
    now: formatTime(now),
    checkStatus: async () => ({ verified: true }), // our own step: the packages' passes revoked credentials (row 1)
  });
  return verified;
};

/**
 * Verifies a credential with a Data Integrity proof. `text` is what was received: the bytes that are parsed are the bytes
 * that are verified.
 */
export const verifyDataIntegrity = async (text: string, by: Verifying): Promise<Checked<Credential>> => {
  const read = readSecured(text);
  if (!read.ok) return read;
  const { credential: value, proof } = read.value;
  const { issuer } = value;
  if (!isDid(issuer) || !proof.verificationMethod.startsWith(`${issuer}#`))
    return bad('names a key of another than its issuer'); // before anything is loaded (row 2)
  const late = outOfTime(value, {}, by.now) ?? proofOutOfTime(proof, by.now);
  if (late !== undefined) return bad(late);
  const key = await proofKey(issuer, proof, by);
  if (key === undefined) return bad(`${proof.verificationMethod} is no assertion key of its issuer`);
  return (await holdsProof(read.value, key, by.now)) ? good(value) : bad('has a proof that does not hold');
};
