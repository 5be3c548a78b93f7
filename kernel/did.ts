import { createPublicKey } from 'node:crypto';
import { z } from 'zod';
import { concat, textOf } from '../contracts/bytes.ts';
import { AppError } from '../contracts/errors.ts';
import { type Did, isDid } from '../contracts/ids.ts';
import { parseJson } from '../contracts/json.ts';
import { ed25519Spki, isEd25519Spki } from '../contracts/ledger/forms.ts';
import { parsePeerTime } from '../contracts/time.ts';
import type { Clock } from './clock.ts';
import type { GuardedClient } from './http/client.ts';
import { repeated } from './http/repeated.ts';
import type { ParticipantKeys, PublicJwk, SigningKey } from './keys.ts';

/** `did:web` documents: building ours (wire §1), resolving others' (dcp §4, credentials §5). */

const didWeb =
  /^did:web:[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?(%3A[1-9]\d{0,4})?(:[A-Za-z0-9_-][A-Za-z0-9._~-]{0,62}){0,8}$/;

/** A did:web in its one form: lower-case host, `%3A` before a port, no other escapes. Variants are other strings (credentials §5). */
export const isDidWeb = (text: string): text is Did => didWeb.test(text) && isDid(text);

/** The DID that follows from an origin and a tenant (wire §1). @throws AppError `config-invalid`. */
export const didOf = (origin: string, tenant?: string): Did => {
  const { host } = new URL(origin);
  const did = `did:web:${host.replace(':', '%3A')}${tenant === undefined ? '' : `:t:${tenant}`}`;
  if (!isDidWeb(did)) throw new AppError('config-invalid', { detail: `${origin} gives no DID` });
  return did;
};

/** The `<root>` of a did:web (wire §1); undefined for any other DID. Plain HTTP only to localhost, and only where allowed. */
export const rootOfDid = (did: string, allowLoopbackHttp: boolean): string | undefined => {
  if (!isDidWeb(did)) return undefined;
  const [host = '', ...path] = did.slice('did:web:'.length).split(':');
  const isLocal = /^localhost(%3A\d+)?$/.test(host);
  const origin = `${isLocal && allowLoopbackHttp ? 'http' : 'https'}://${host.replace('%3A', ':')}`;
  return [origin, ...path].join('/');
};

/** Where the document of a did:web is served; undefined for any other DID. */
export const documentUrl = (did: string, allowLoopbackHttp: boolean): string | undefined => {
  const root = rootOfDid(did, allowLoopbackHttp);
  if (root === undefined) return undefined;
  return new URL(root).pathname === '/' ? `${root}/.well-known/did.json` : `${root}/did.json`;
};

const base58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';

const toBase58 = (bytes: Uint8Array): string => {
  let number = bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
  let out = '';
  for (; number > 0n; number /= 58n) out = `${base58[Number(number % 58n)]}${out}`;
  for (const byte of bytes) {
    if (byte !== 0) break;
    out = `1${out}`;
  }
  return out;
};

const fromBase58 = (text: string): Uint8Array | undefined => {
  let number = 0n;
  for (const character of text) {
    const value = base58.indexOf(character);
    if (value < 0) return undefined;
    number = number * 58n + BigInt(value);
  }
  const hex = number.toString(16);
  return Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
};

const ed25519Multicodec = Uint8Array.of(0xed, 0x01);

/** `z6Mk…`: an Ed25519 key as Multikey. */
export const multikeyOf = (spki: Uint8Array): string => `z${toBase58(concat(ed25519Multicodec, spki.subarray(12)))}`;

/** The SPKI behind a Multikey; undefined unless it is a safe Ed25519 key. */
export const spkiOfMultikey = (text: string): Uint8Array | undefined => {
  const bytes = /^z[1-9A-HJ-NP-Za-km-z]{47}$/.test(text) ? fromBase58(text.slice(1)) : undefined;
  if (bytes?.length !== 34 || bytes[0] !== 0xed || bytes[1] !== 0x01) return undefined;
  const spki = ed25519Spki(bytes.subarray(2));
  return isEd25519Spki(spki) ? spki : undefined;
};

export type Relationship = 'authentication' | 'assertionMethod' | 'capabilityInvocation' | 'keyAgreement';

export interface DocumentOptions {
  readonly keys: ParticipantKeys;
  /** Type → endpoint: `CredentialService`, `DataService`, `CatalogService`, `IssuerService`, `StekkerExtensions`. */
  readonly services: Readonly<Record<string, string>>;
  /** The DCP conformance run publishes JWKs only. */
  readonly jwkOnly?: boolean;
}

/** Our own document; `verificationMethod` and `service` hold nothing that DCP does not name (dcp §4). */
export const buildDidDocument = ({ keys, services, jwkOnly = false }: DocumentOptions) => {
  const { did, authentication, keyAgreement, assertion, multikeyId } = keys;
  const asJwk = ({ kid, publicJwk }: SigningKey) => ({
    id: kid,
    type: 'JsonWebKey',
    controller: did,
    publicKeyJwk: publicJwk,
  });
  const multikey = {
    id: multikeyId,
    type: 'Multikey',
    controller: did,
    publicKeyMultibase: multikeyOf(assertion.spki),
  };
  return {
    '@context': ['https://www.w3.org/ns/did/v1'],
    id: did,
    verificationMethod: [asJwk(authentication), asJwk(keyAgreement), asJwk(assertion), ...(jwkOnly ? [] : [multikey])],
    authentication: [authentication.kid],
    capabilityInvocation: [authentication.kid],
    keyAgreement: [keyAgreement.kid],
    assertionMethod: [assertion.kid, ...(jwkOnly ? [] : [multikeyId])],
    service: Object.entries(services).map(([type, serviceEndpoint]) => ({
      id: `${did}#${type}`,
      type,
      serviceEndpoint,
    })),
  };
};

const publicKeyJwk = z.looseObject({
  kty: z.enum(['EC', 'OKP', 'RSA']),
  crv: z.string().max(20).optional(),
  x: z.string().max(200).optional(),
  y: z.string().max(200).optional(),
  n: z.string().max(2000).optional(),
  e: z.string().max(20).optional(),
});

const method = z.looseObject({
  id: z.string().min(1).max(512),
  type: z.string().max(100),
  controller: z.string().max(512),
  publicKeyJwk: publicKeyJwk.optional(),
  publicKeyMultibase: z.string().max(2000).optional(),
  /** Times of a Multikey after which it is void (credentials §4 row 6). */
  expires: z.string().max(64).optional(),
  revoked: z.string().max(64).optional(),
});

const relationship = z
  .array(z.union([z.string().max(512), method]))
  .max(64)
  .optional();

const didDocument = z.looseObject({
  id: z.string(),
  verificationMethod: z.array(method).max(64).optional(),
  authentication: relationship,
  assertionMethod: relationship,
  capabilityInvocation: relationship,
  keyAgreement: relationship,
  service: z
    .array(
      z.looseObject({
        id: z.string().max(512),
        type: z.union([z.string(), z.array(z.string())]),
        serviceEndpoint: z.unknown(),
      }),
    )
    .max(64)
    .optional(),
});

/** One key of a document, listed under the relationship that was asked for. */
export interface DocumentKey {
  /** Absolute DID URL. */
  readonly kid: string;
  readonly jwk: PublicJwk;
  /** RFC 3339 times, where the method says so. */
  readonly expires: string | undefined;
  readonly revoked: string | undefined;
}

/** A document that was read and whose `id` is the DID asked for. */
export interface DidDocument {
  readonly did: Did;
  /** The exact text as served. */
  readonly text: string;
  readonly keys: (relationship: Relationship) => readonly DocumentKey[];
  readonly endpoint: (serviceType: string) => string | undefined;
}

const jwkOf = (value: z.infer<typeof method>): PublicJwk | undefined => {
  if (value.publicKeyJwk !== undefined) {
    const { kty, crv, x, y, n, e } = value.publicKeyJwk;
    const members = Object.entries({ kty, crv, x, y, n, e }).filter(([, member]) => member !== undefined);
    return 'd' in value.publicKeyJwk ? undefined : (Object.fromEntries(members) as unknown as PublicJwk);
  }
  const spki = spkiOfMultikey(value.publicKeyMultibase ?? '');
  if (spki === undefined) return undefined;
  const { kty, crv, x } = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' }).export({
    format: 'jwk',
  });
  return { kty: kty ?? '', crv: crv ?? '', x: x ?? '' };
};

/** Reads a document; undefined unless it is one of exactly this DID. */
export const readDidDocument = (did: Did, text: string): DidDocument | undefined => {
  let value: unknown;
  try {
    value = parseJson(new TextEncoder().encode(text), { maxBytes: maxDocumentBytes, maxDepth: 12 });
  } catch {
    return undefined;
  }
  const parsed = didDocument.safeParse(value);
  if (!parsed.success || parsed.data.id !== did) return undefined;
  const document = parsed.data;
  const absolute = (id: string) => (id.startsWith('#') ? `${did}${id}` : id);
  const toKey = (one: z.infer<typeof method>): DocumentKey[] => {
    const jwk = jwkOf(one);
    const kid = absolute(one.id);
    const isOurs = kid.startsWith(`${did}#`) && one.controller === did;
    return jwk === undefined || !isOurs ? [] : [{ kid, jwk, expires: one.expires, revoked: one.revoked }];
  };
  const methods = document.verificationMethod ?? [];
  const keysOf = (name: Relationship): readonly DocumentKey[] =>
    (document[name] ?? []).flatMap((entry) => {
      if (typeof entry !== 'string') return toKey(entry);
      const named = methods.filter((one) => absolute(one.id) === absolute(entry));
      return named.length === 1 ? named.flatMap(toKey) : []; // an id that stands twice names nobody
    });
  /** Each message asks for a key: they are the same objects for as long as the document is kept. */
  const found = new Map<Relationship, readonly DocumentKey[]>();
  return {
    did,
    text,
    keys: (name) => {
      const known = found.get(name);
      if (known !== undefined) return known;
      const keys = keysOf(name);
      found.set(name, keys);
      return keys;
    },
    endpoint: (type) => {
      const service = (document.service ?? []).find(
        (one) => one.type === type || (Array.isArray(one.type) && one.type.includes(type)),
      );
      return typeof service?.serviceEndpoint === 'string' ? service.serviceEndpoint : undefined;
    },
  };
};

/** Whether a key is neither expired nor revoked; a time that cannot be read voids it. */
const isKeyInForce = ({ expires, revoked }: DocumentKey, now: number): boolean =>
  [expires, revoked].every((time) => time === undefined || (parsePeerTime(time) ?? 0) > now);

const maxDocumentBytes = 65_536;
const maxLifetimeMs = 300_000;
const minLifetimeMs = 30_000;
const negativeMs = 10_000;
const forcedRefreshMs = 60_000;
const fetchTimeoutMs = 2_000;
const maxCached = 10_000;

export interface DidResolver {
  /** The document, from the cache while it is fresh; undefined when it cannot be had or is not one of this DID. */
  readonly resolve: (did: Did) => Promise<DidDocument | undefined>;
  /** The key under a relationship; an unknown `kid` forces one refresh for each DID a minute. Without `kid`: the only one. */
  readonly key: (did: Did, kid: string | undefined, relationship: Relationship) => Promise<DocumentKey | undefined>;
  /** Fetches now, whatever is cached (joining, key events). */
  readonly refresh: (did: Did) => Promise<DidDocument | undefined>;
}

export interface DidResolverOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  readonly clock: Clock;
  readonly allowLoopbackHttp: boolean;
  /** Milliseconds for one fetch in a decision; 2 s by default. */
  readonly timeoutMs?: number;
}

interface Cached {
  readonly document: DidDocument | undefined;
  readonly until: number;
}

const lifetimeOf = (cacheControl: string | undefined): number => {
  if (/no-store|no-cache/i.test(cacheControl ?? '')) return minLifetimeMs;
  const age = /max-age=(\d{1,9})/i.exec(cacheControl ?? '')?.[1];
  const wanted = age === undefined ? maxLifetimeMs : Number(age) * 1_000;
  return Math.max(minLifetimeMs, Math.min(maxLifetimeMs, wanted));
};

const documentTypes = /^application\/(did\+ld\+json|did\+json|did|json|ld\+json)\s*(;|$)/i;

/** Resolves did:web documents through the guarded client, with the cache rules of credentials §5. */
export const createDidResolver = (options: DidResolverOptions): DidResolver => {
  const { client, clock, allowLoopbackHttp, timeoutMs = fetchTimeoutMs } = options;
  const cache = new Map<Did, Cached>();
  const inFlight = new Map<Did, Promise<DidDocument | undefined>>();
  const forcedAt = new Map<Did, number>();

  const remember = (did: Did, document: DidDocument | undefined, lifetimeMs: number): void => {
    if (cache.size >= maxCached) cache.clear();
    cache.set(did, { document, until: clock.now() + lifetimeMs });
  };

  const fetchDocument = async (did: Did): Promise<DidDocument | undefined> => {
    const url = documentUrl(did, allowLoopbackHttp);
    if (url === undefined) return undefined;
    try {
      const headers = { accept: 'application/did+json, application/json' };
      const answer = await repeated(() =>
        client.request({ method: 'GET', url, headers, timeoutMs, maxBytes: maxDocumentBytes }),
      );
      const isDocument = answer.status === 200 && documentTypes.test(answer.headers['content-type'] ?? '');
      const document = isDocument ? readDidDocument(did, textOf(answer.body) ?? '') : undefined;
      remember(did, document, document === undefined ? negativeMs : lifetimeOf(answer.headers['cache-control']));
      return document;
    } catch {
      remember(did, undefined, negativeMs); // unreachable, too large, slow, or not to be called
      return undefined;
    }
  };

  const refresh = (did: Did): Promise<DidDocument | undefined> => {
    const running = inFlight.get(did);
    if (running !== undefined) return running;
    const started = fetchDocument(did).finally(() => inFlight.delete(did));
    inFlight.set(did, started);
    return started;
  };

  const resolve = (did: Did): Promise<DidDocument | undefined> => {
    const cached = cache.get(did);
    return cached !== undefined && cached.until > clock.now() ? Promise.resolve(cached.document) : refresh(did);
  };

  const pick = (document: DidDocument | undefined, kid: string | undefined, name: Relationship) => {
    const keys = document?.keys(name) ?? [];
    const found = kid === undefined && keys.length === 1 ? keys[0] : keys.find((key) => key.kid === kid);
    return found !== undefined && isKeyInForce(found, clock.now()) ? found : undefined;
  };

  const mayForce = (did: Did): boolean => {
    const last = forcedAt.get(did) ?? Number.NEGATIVE_INFINITY;
    if (clock.now() - last < forcedRefreshMs) return false;
    if (forcedAt.size >= maxCached) forcedAt.clear();
    forcedAt.set(did, clock.now());
    return true;
  };

  return {
    resolve,
    refresh,
    key: async (did, kid, name) => {
      const found = pick(await resolve(did), kid, name);
      if (found !== undefined || kid === undefined || !mayForce(did)) return found;
      return pick(await refresh(did), kid, name);
    },
  };
};
