import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  scrypt,
  sign,
} from 'node:crypto';
import { SignJWT } from 'jose';
import { z } from 'zod';
import { toBase64Url, utf8 } from '../contracts/bytes.ts';
import { AppError } from '../contracts/errors.ts';
import type { Did } from '../contracts/ids.ts';
import { canonicalize } from '../contracts/json.ts';
import { nodeCrypto } from './crypto.ts';
import { type FilePort, writeWhole } from './files.ts';
import type { Random } from './random.ts';

/**
 * Private keys: made on first start, at rest under a passphrase (scrypt, AES-256-GCM), one file for each participant. The
 * private halves stay in closures and `KeyObject`s, which print nothing.
 */

export type KeyKind = 'P-256' | 'Ed25519' | 'secret';

/** What is needed, by name. A secret is 32 random bytes. */
export type KeyNeeds = Readonly<Record<string, KeyKind>>;

/** The keys of every participant (wire §1): tokens and presentations, agreement, assertions, access tokens. */
export const participantKeyNeeds = {
  authentication: 'P-256',
  keyAgreement: 'P-256',
  assertion: 'Ed25519',
  accessToken: 'P-256',
} as const satisfies KeyNeeds;

/** Opened keys, by name. */
export interface KeySet {
  /** @throws AppError `invariant-broken` for a name that was not asked for. */
  readonly key: (name: string) => KeyObject;
  readonly secret: (name: string) => Uint8Array;
}

/** At least 2^15 rounds of scrypt: about 50 ms and 32 MiB, once at start. */
const scryptCost = { N: 32_768, r: 8, p: 1, maxmem: 64 << 20 } as const;
const maxFileBytes = 262_144;

const sealedFile = z.strictObject({
  v: z.literal(1),
  kdf: z.literal('scrypt'),
  N: z.literal(scryptCost.N),
  r: z.literal(scryptCost.r),
  p: z.literal(scryptCost.p),
  salt: z.base64(),
  nonce: z.base64(),
  tag: z.base64(),
  sealed: z.base64(),
});
const storedKeys = z.record(
  z.string(),
  z.strictObject({ kind: z.enum(['P-256', 'Ed25519', 'secret']), value: z.string() }),
);
type StoredKeys = z.infer<typeof storedKeys>;

const derive = (passphrase: string, salt: Uint8Array): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    scrypt(passphrase.normalize('NFKC'), salt, 32, scryptCost, (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });

/** Binds the sealed text to its file format, so that no other file can be put in its place. */
const label = Buffer.from('stekker keys 1');

const seal = async (keys: StoredKeys, passphrase: string, random: Random): Promise<Uint8Array> => {
  const salt = random.bytes(16);
  const nonce = random.bytes(12);
  const cipher = createCipheriv('aes-256-gcm', await derive(passphrase, salt), nonce).setAAD(label);
  const sealed = Buffer.concat([cipher.update(JSON.stringify(keys), 'utf8'), cipher.final()]);
  const { N, r, p } = scryptCost;
  const b64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
  const file = {
    v: 1,
    kdf: 'scrypt',
    N,
    r,
    p,
    salt: b64(salt),
    nonce: b64(nonce),
    tag: b64(cipher.getAuthTag()),
    sealed: b64(sealed),
  };
  return utf8(`${JSON.stringify(file)}\n`);
};

const damaged = (cause?: unknown): AppError =>
  new AppError('data-damaged', { detail: 'the file of keys cannot be read', cause });

const readFile = (bytes: Uint8Array): z.infer<typeof sealedFile> => {
  if (bytes.length > maxFileBytes) throw damaged();
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    throw damaged();
  }
  const parsed = sealedFile.safeParse(value);
  if (!parsed.success) throw damaged();
  return parsed.data;
};

const unseal = async (bytes: Uint8Array, passphrase: string): Promise<StoredKeys> => {
  const file = readFile(bytes);
  const key = await derive(passphrase, Buffer.from(file.salt, 'base64'));
  const decipher = createDecipheriv('aes-256-gcm', key, Buffer.from(file.nonce, 'base64'), { authTagLength: 16 });
  try {
    decipher.setAAD(label).setAuthTag(Buffer.from(file.tag, 'base64'));
    const text = Buffer.concat([decipher.update(Buffer.from(file.sealed, 'base64')), decipher.final()]);
    return storedKeys.parse(JSON.parse(text.toString('utf8')));
  } catch {
    // No cause: it could hold what was opened.
    throw new AppError('passphrase-wrong', { detail: 'the passphrase does not open the file of keys' });
  }
};

const makeKey = (kind: KeyKind, random: Random): StoredKeys[string] => {
  if (kind === 'secret') return { kind, value: Buffer.from(random.bytes(32)).toString('base64') };
  const { privateKey } =
    kind === 'P-256' ? generateKeyPairSync('ec', { namedCurve: 'P-256' }) : generateKeyPairSync('ed25519');
  return { kind, value: privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64') };
};

const toKeySet = (stored: StoredKeys): KeySet => {
  const keys = new Map<string, KeyObject>();
  const secrets = new Map<string, Uint8Array>();
  for (const [name, { kind, value }] of Object.entries(stored)) {
    const bytes = Buffer.from(value, 'base64');
    if (kind === 'secret') secrets.set(name, bytes);
    else keys.set(name, createPrivateKey({ key: bytes, format: 'der', type: 'pkcs8' }));
  }
  const found = <Value>(value: Value | undefined, name: string): Value => {
    if (value === undefined) throw new AppError('invariant-broken', { detail: `there is no key named ${name}` });
    return value;
  };
  return { key: (name) => found(keys.get(name), name), secret: (name) => found(secrets.get(name), name) };
};

export interface OpenKeysOptions {
  readonly files: FilePort;
  /** With a folder in it: `<data>/keys/<participant>.json`. */
  readonly path: string;
  readonly passphrase: string;
  readonly random: Random;
  readonly needs: KeyNeeds;
}

/**
 * Opens the keys of a participant, and makes those that are not there yet.
 *
 * @throws AppError `passphrase-wrong`, `data-damaged`, `disk-full`.
 */
export const openKeys = async ({ files, path, passphrase, random, needs }: OpenKeysOptions): Promise<KeySet> => {
  const bytes = await files.read(path);
  const stored = bytes === undefined ? {} : await unseal(bytes, passphrase);
  const missing = Object.entries(needs).filter(([name]) => stored[name] === undefined);
  const all = { ...stored, ...Object.fromEntries(missing.map(([name, kind]) => [name, makeKey(kind, random)])) };
  for (const [name, kind] of Object.entries(needs)) if (all[name]?.kind !== kind) throw damaged();
  if (missing.length > 0) await writeWhole(files, path, await seal(all, passphrase, random));
  return toKeySet(all);
};

/** A public key as JWK, with nothing but what its kind needs. */
export interface PublicJwk {
  readonly kty: string;
  readonly crv?: string;
  readonly x?: string;
  readonly y?: string;
  readonly n?: string;
  readonly e?: string;
}

/** A key that signs, under its DID URL. */
export interface SigningKey {
  /** `did#fragment` */
  readonly kid: string;
  readonly alg: 'ES256' | 'EdDSA';
  readonly publicJwk: PublicJwk;
  readonly spki: Uint8Array;
  /** r||s for ES256 (JWS form), 64 bytes. */
  readonly sign: (message: Uint8Array) => Uint8Array;
  /** The same by jose, for a compact JWT: the library meets the key in here, and nobody else does. */
  readonly signJwt: (
    header: { readonly kid: string; readonly typ: string },
    claims: { readonly [name: string]: unknown },
  ) => Promise<string>;
}

/** RFC 7638 thumbprint, b64u. */
export const thumbprint = (jwk: PublicJwk): string => {
  const { kty, crv, x, y, n, e } = jwk;
  const members = kty === 'RSA' ? { e, kty, n } : { crv, kty, x, ...(y === undefined ? {} : { y }) };
  return toBase64Url(nodeCrypto.sha256(utf8(canonicalize(members as Record<string, string>))));
};

/** A signing key under a DID; its fragment is the use and the beginning of its thumbprint, so that a new key has a new id. */
export const signingKey = (did: Did, use: string, key: KeyObject): SigningKey => {
  const publicKey = createPublicKey(key);
  const { kty, crv, x, y } = publicKey.export({ format: 'jwk' });
  const publicJwk = { kty: kty ?? '', crv: crv ?? '', x: x ?? '', ...(y === undefined ? {} : { y }) };
  const isEc = kty === 'EC';
  const alg = isEc ? 'ES256' : 'EdDSA';
  return {
    kid: `${did}#${use}-${thumbprint(publicJwk).slice(0, 8)}`,
    alg,
    publicJwk,
    spki: publicKey.export({ format: 'der', type: 'spki' }),
    sign: (message) => (isEc ? sign('sha256', message, { key, dsaEncoding: 'ieee-p1363' }) : sign(null, message, key)),
    signJwt: (header, claims) => new SignJWT({ ...claims }).setProtectedHeader({ alg, ...header }).sign(key),
  };
};

/** The keys of one participant, each for its use alone (wire §1, credentials §5). */
export interface ParticipantKeys {
  readonly did: Did;
  /** P-256: SI tokens and presentations. */
  readonly authentication: SigningKey;
  /** P-256: nothing is signed with it. */
  readonly keyAgreement: SigningKey;
  /** Ed25519: statements, agreements, credentials. */
  readonly assertion: SigningKey;
  /** P-256: access tokens of data plane and credential service; not in the DID document. */
  readonly accessToken: SigningKey;
  /** The same Ed25519 key under the id it has as a Multikey (Data Integrity). */
  readonly multikeyId: string;
}

/** Names opened keys under a DID. */
export const participantKeys = (did: Did, keys: KeySet): ParticipantKeys => {
  const assertion = signingKey(did, 'assertion', keys.key('assertion'));
  return {
    did,
    authentication: signingKey(did, 'authentication', keys.key('authentication')),
    keyAgreement: signingKey(did, 'agreement', keys.key('keyAgreement')),
    assertion,
    accessToken: signingKey(did, 'access', keys.key('accessToken')),
    multikeyId: `${did}#multikey-${thumbprint(assertion.publicJwk).slice(0, 8)}`,
  };
};
