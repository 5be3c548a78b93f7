import { z } from 'zod';
import { AppError } from '../contracts/errors.ts';
import { type Did, isDid } from '../contracts/ids.ts';
import type { Clock } from './clock.ts';
import type { DidResolver } from './did.ts';
import { type ReadJwt, readJwt, signJwt, verifyJwt } from './jwt.ts';
import type { ParticipantKeys } from './keys.ts';
import type { Random } from './random.ts';
import { uuidV7 } from './random.ts';
import type { PeerRate } from './rate-limits.ts';
import { rateFault } from './rate-limits.ts';

/** Self-issued ID tokens (dcp §2) and the access tokens that travel in them (dcp §3). */

/** Clocks may differ by this much, and no more: with 60 s the official kit's tests fail. */
export const leewayMs = 30_000;
const tokenLifetimeSeconds = 60;
const maxLifetimeSeconds = 300;
const accessLifetimeSeconds = 300;
const accessReuseMs = 240_000;
const maxAccessTokens = 10_000;
const accessType = 'stekker-dcp-access+jwt';

/** A token that counts once: kept until `expiresAt`, ms. */
export interface UsedToken {
  readonly issuer: string;
  readonly jti: string;
  readonly expiresAt: number;
}

/** Durable and atomic: of all that claim one (`issuer`, `jti`), on whatever process, exactly one gets true. */
export interface UsedTokenStore {
  readonly claim: (token: UsedToken) => Promise<boolean>;
}

/** A caller whose token was verified in everything but its single use. */
export interface VerifiedCaller {
  readonly did: Did;
  readonly used: UsedToken;
  /** Access token for the caller's credential service; opaque to us. */
  readonly accessToken: string | undefined;
  /** Thumbprint of the DPoP key for which the caller speaks (wire §4). */
  readonly jkt: string | undefined;
  /** The token itself, for those who must keep it as evidence (wire §4). */
  readonly text: string;
}

const seconds = z.number().int().min(0).max(8_640_000_000_000);
const siClaims = z.looseObject({
  iss: z.string().refine(isDid),
  sub: z.string(),
  aud: z.union([z.string(), z.array(z.string()).max(16)]),
  jti: z.string().min(1).max(256),
  iat: seconds,
  exp: seconds,
  nbf: seconds.optional(),
  token: z.string().min(1).max(8192).optional(),
  cnf: z
    .looseObject({
      jkt: z
        .string()
        .regex(/^[A-Za-z0-9_-]{43}$/)
        .optional(),
    })
    .optional(),
});
type SiClaims = z.infer<typeof siClaims>;

/** One reason each for the log; the caller hears only that it is not authenticated. */
const refused = (reason: string): AppError => new AppError('unauthenticated', { cause: new Error(reason) });

const bearerOf = (authorization: string | null): string => {
  const match = /^Bearer ([A-Za-z0-9._~+/=-]{1,16384})$/i.exec(authorization ?? '');
  if (match?.[1] === undefined) throw refused('not exactly one bearer token');
  return match[1];
};

const readClaims = (jwt: ReadJwt, audience: Did): SiClaims => {
  const read = siClaims.safeParse(jwt.claims);
  if (!read.success) throw refused(`claims: ${read.error.issues.map(({ path }) => path.join('.')).join(', ')}`);
  const { iss, sub, aud } = read.data;
  if (iss !== sub) throw refused('iss and sub differ');
  if (!(Array.isArray(aud) ? aud : [aud]).includes(audience)) throw refused('aud is somebody else');
  return read.data;
};

const checkTimes = ({ iat, exp, nbf }: SiClaims, now: number): void => {
  if (exp * 1_000 + leewayMs <= now) throw refused('expired');
  if (iat * 1_000 > now + leewayMs || (nbf ?? 0) * 1_000 > now + leewayMs) throw refused('of the future');
  if (exp - iat > maxLifetimeSeconds || exp < iat) throw refused('lives too long');
};

export interface VerifyOptions {
  readonly audience: Did;
  readonly resolver: DidResolver;
  readonly now: number;
}

/**
 * Checks 1 to 6 of dcp §2 in their order, the cheap ones first. Check 7, single use, is the caller's: `used` goes into the
 * transaction of what the message does, or to `UsedTokenStore.claim`.
 *
 * @throws AppError `unauthenticated`; the reason is its cause.
 */
export const verifySiToken = async (
  headers: Pick<Headers, 'get'>,
  { audience, resolver, now }: VerifyOptions,
): Promise<VerifiedCaller> => {
  const text = bearerOf(headers.get('authorization'));
  const jwt = readJwt(text);
  if (jwt === undefined) throw refused('no compact JWS of an algorithm that is accepted');
  const claims = readClaims(jwt, audience);
  checkTimes(claims, now);
  const did = claims.iss as Did;
  const kid = jwt.kid?.startsWith('#') ? `${did}${jwt.kid}` : jwt.kid;
  if (kid !== undefined && kid.split('#')[0] !== did) throw refused('kid of another DID');
  const key = await resolver.key(did, kid, 'capabilityInvocation');
  if (key === undefined) throw refused('no such key under capabilityInvocation');
  if (!verifyJwt(jwt, key.jwk)) throw refused('signature');
  return {
    did,
    used: { issuer: did, jti: claims.jti, expiresAt: claims.exp * 1_000 + leewayMs },
    accessToken: claims.token,
    jkt: claims.cnf?.jkt,
    text,
  };
};

export interface AuthenticatorOptions {
  readonly did: Did;
  readonly resolver: DidResolver;
  readonly clock: Clock;
  readonly used: UsedTokenStore;
  /** How often callers may come; without it as often as they like. */
  readonly rate?: PeerRate | undefined;
}

/** Finds out who calls. */
export interface Authenticator {
  /** Everything but single use, which the caller's transaction records. @throws AppError `unauthenticated`, `too-many-requests`. */
  readonly verify: (headers: Pick<Headers, 'get'>) => Promise<VerifiedCaller>;
  /** The same, and the token is used up when it returns. @throws AppError `unauthenticated`, `too-many-requests`. */
  readonly authenticate: (headers: Pick<Headers, 'get'>) => Promise<VerifiedCaller>;
}

/** Authentication of callers of one participant. */
export const createAuthenticator = ({ did, resolver, clock, used, rate }: AuthenticatorOptions): Authenticator => {
  const verify = async (headers: Pick<Headers, 'get'>): Promise<VerifiedCaller> => {
    const caller = await verifySiToken(headers, { audience: did, resolver, now: clock.now() });
    // Counted by who it is, so that nobody uses up what is another's; a refused token may be shown again.
    const fault = rate === undefined ? undefined : rateFault(await rate(did, caller.did));
    if (fault !== undefined) throw fault;
    return caller;
  };
  return {
    verify,
    authenticate: async (headers) => {
      const caller = await verify(headers);
      if (!(await used.claim(caller.used))) throw refused('jti used before');
      return caller;
    },
  };
};

export interface TokenRequest {
  readonly audience: Did;
  /** An access token for these scopes goes along, as far as the consent rules allow. */
  readonly scopes?: readonly string[];
  /** A token to pass on as it is (the verifier's answer to the holder, an issuer's echo). */
  readonly token?: string;
  /** Thumbprint of the DPoP key that this token vouches for. */
  readonly jkt?: string;
}

/** The secure token service of a participant (dcp §3), as a function. */
export interface TokenService {
  /**
   * An access token to our credential service for this audience and these scopes, as far as the consent rules allow: the
   * same one for about four of its five minutes, so that what a verifier checked under it stays checked.
   */
  readonly accessTokenFor: (audience: Did, scopes: readonly string[]) => string;
  /** The `Authorization` header value for one request. */
  readonly tokenFor: (request: TokenRequest) => string;
  /** What an access token of ours allows this verifier; undefined when it is not ours, expired, or for somebody else. */
  readonly readAccessToken: (token: string | undefined, verifier: Did) => readonly string[] | undefined;
}

export interface TokenServiceOptions {
  readonly keys: ParticipantKeys;
  readonly clock: Clock;
  readonly random: Random;
  /** Which scopes this audience may get; everything, unless the operator says otherwise. */
  readonly consent?: (audience: Did, scopes: readonly string[]) => readonly string[];
}

const accessClaims = z.looseObject({
  iss: z.string(),
  aud: z.string(),
  scope: z.string().max(8192),
  exp: seconds,
});

/** Builds the token service. Access tokens are signed with a key of their own and bound to audience, scopes and expiry. */
export const createTokenService = ({ keys, clock, random, consent }: TokenServiceOptions): TokenService => {
  const made = new Map<string, { readonly token: string; readonly at: number }>();

  const makeAccessToken = (audience: Did, scope: string): string => {
    const iat = Math.floor(clock.now() / 1_000);
    const exp = iat + accessLifetimeSeconds;
    const jti = uuidV7(clock.now(), random);
    return signJwt(keys.accessToken, accessType, { iss: keys.did, aud: audience, scope, iat, exp, jti });
  };

  const accessTokenFor = (audience: Did, asked: readonly string[]): string => {
    const scopes = consent === undefined ? asked : consent(audience, asked).filter((scope) => asked.includes(scope));
    const scope = [...new Set(scopes)].sort().join(' ');
    const key = `${audience} ${scope}`;
    const now = clock.now();
    const known = made.get(key);
    if (known !== undefined && now >= known.at && now - known.at < accessReuseMs) return known.token;
    if (made.size >= maxAccessTokens) made.clear();
    const token = makeAccessToken(audience, scope);
    made.set(key, { token, at: now });
    return token;
  };

  return {
    accessTokenFor,
    tokenFor: ({ audience, scopes, token, jkt }) => {
      const iat = Math.floor(clock.now() / 1_000);
      const sent = token ?? (scopes === undefined ? undefined : accessTokenFor(audience, scopes));
      const claims = {
        iss: keys.did,
        sub: keys.did,
        aud: audience,
        jti: uuidV7(clock.now(), random),
        iat,
        exp: iat + tokenLifetimeSeconds,
        ...(sent === undefined ? {} : { token: sent }),
        ...(jkt === undefined ? {} : { cnf: { jkt } }),
      };
      return `Bearer ${signJwt(keys.authentication, 'JWT', claims)}`;
    },
    readAccessToken: (token, verifier) => {
      const jwt = token === undefined ? undefined : readJwt(token);
      const read = accessClaims.safeParse(jwt?.claims);
      if (jwt === undefined || jwt.typ !== accessType || !read.success) return undefined;
      const { iss, aud, scope, exp } = read.data;
      if (iss !== keys.did || aud !== verifier || exp * 1_000 <= clock.now()) return undefined;
      return verifyJwt(jwt, keys.accessToken.publicJwk) ? scope.split(' ').filter((one) => one !== '') : undefined;
    },
  };
};
