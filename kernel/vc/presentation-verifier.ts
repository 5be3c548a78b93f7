import { z } from 'zod';
import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { dcpMessage, presentationResponseMessage } from '../../contracts/dcp/messages.ts';
import { scopeOfType } from '../../contracts/dcp/scope.ts';
import { AppError, type ErrorCode, isAppError } from '../../contracts/errors.ts';
import { type Did, isDid } from '../../contracts/ids.ts';
import { type Json, parseJson } from '../../contracts/json.ts';
import { bad, type Checked, check, good } from '../../contracts/ledger/forms.ts';
import {
  type Credential,
  type CredentialFacts,
  type CredentialType,
  factsOf,
  typeOf,
} from '../../contracts/vc/credential.ts';
import { maxPresented, presentedJwts, verifiablePresentation } from '../../contracts/vc/presentation.ts';
import { leewayMs, type TokenService, type UsedTokenStore, type VerifiedCaller } from '../auth.ts';
import type { Clock } from '../clock.ts';
import { nodeCrypto } from '../crypto.ts';
import type { DidResolver } from '../did.ts';
import type { GuardedClient } from '../http/client.ts';
import { repeated } from '../http/repeated.ts';
import { type ReadJwt, readJwt, verifyByJose } from '../jwt.ts';
import { presentationJwtType } from './present.ts';
import type { PresentationVerifier } from './presentations.ts';
import { createStatusLists, type StatusLists } from './status.ts';
import { readJwtCredential, type UnverifiedJwt, verifyReadCredential } from './verify.ts';

/**
 * The verifier's side of dcp §7. Shapes of everything come first, then the presentations' own proofs, then the credentials
 * (credentials §4 row 8), and whether an issuer counts is asked before anything of it is fetched. Any doubt refuses.
 */

export interface PresentationVerifierOptions {
  /** Our own DID: whom presentations must be made for. */
  readonly did: Did;
  readonly tokens: Pick<TokenService, 'tokenFor'>;
  readonly resolver: DidResolver;
  readonly client: Pick<GuardedClient, 'request'>;
  readonly clock: Clock;
  /** A presentation counts once, like a token. */
  readonly used: UsedTokenStore;
  /** Whose credentials of a type count here. */
  readonly trustedIssuers: (type: CredentialType) => readonly Did[];
  /** Hears who issued a credential that was verified: nobody else's word about it counts from then on (wire §7). */
  readonly learn?: (credential: string, issuer: Did) => void;
}

const queryTimeoutMs = 5_000;
const maxAnswerBytes = 1 << 20;
const maxPresentationLength = 600_000;
const maxLifetimeSeconds = 300;
const maxCacheMs = 300_000;
const maxCached = 10_000;

const refused = (reason: string, cause?: unknown): AppError =>
  new AppError('unauthenticated', { cause: new Error(reason, cause === undefined ? undefined : { cause }) });

const seconds = z.number().int().min(0).max(8_640_000_000_000);
const presentationClaims = verifiablePresentation.extend({
  iss: z.string(),
  aud: z.union([z.string(), z.tuple([z.string()])]),
  jti: z.string().min(1).max(256),
  iat: seconds,
  exp: seconds,
  nbf: seconds.optional(),
});
type PresentationClaims = z.infer<typeof presentationClaims>;

interface ReadPresentation {
  readonly jwt: ReadJwt;
  readonly claims: PresentationClaims;
  /** What of it can be read at all. More than asked for is fine; the rest is ignored. */
  readonly credentials: readonly Checked<UnverifiedJwt<Credential>>[];
}

const whoseFault = (claims: PresentationClaims, holder: Did, us: Did): string | undefined => {
  if (claims.iss !== holder || (claims.holder ?? holder) !== holder) return 'is of another holder';
  return [claims.aud].flat()[0] === us ? undefined : 'was made for another verifier';
};

const timeFault = ({ iat, exp, nbf = 0 }: PresentationClaims, now: number): string | undefined => {
  if (exp * 1_000 + leewayMs <= now) return 'has expired';
  if (Math.max(iat, nbf) * 1_000 > now + leewayMs) return 'is of the future';
  return exp - iat > maxLifetimeSeconds || exp < iat ? 'lives too long' : undefined;
};

const readPresentation = (text: unknown, parties: { holder: Did; us: Did; now: number }): Checked<ReadPresentation> => {
  const jwt = typeof text === 'string' ? readJwt(text, maxPresentationLength) : undefined;
  if (jwt?.typ !== presentationJwtType) return bad(`is no ${presentationJwtType}`);
  const read = check(presentationClaims, jwt.claims);
  if (!read.ok) return read;
  const claims = read.value;
  const fault = whoseFault(claims, parties.holder, parties.us) ?? timeFault(claims, parties.now);
  return fault === undefined
    ? good({ jwt, claims, credentials: presentedJwts(claims).map(readJwtCredential) })
    : bad(fault);
};

interface Cached {
  readonly facts: CredentialFacts;
  readonly until: number;
}

/** What one exchange is about. */
interface Exchange {
  readonly caller: VerifiedCaller & { readonly accessToken: string };
  readonly types: readonly CredentialType[];
}

type Tools = PresentationVerifierOptions & { readonly status: StatusLists };

/** Asks the caller's credential service. */
const query = async ({ tokens, resolver, client }: Tools, { caller, types }: Exchange): Promise<readonly unknown[]> => {
  const endpoint = (await resolver.resolve(caller.did))?.endpoint('CredentialService');
  if (endpoint === undefined) throw refused('the caller has no credential service');
  const body = JSON.stringify(dcpMessage('PresentationQueryMessage', { scope: types.map(scopeOfType) }));
  const answer = await repeated(() =>
    client.request({
      method: 'POST',
      url: `${endpoint.replace(/\/$/, '')}/presentations/query`,
      headers: {
        accept: 'application/json',
        'content-type': 'application/json',
        authorization: tokens.tokenFor({ audience: caller.did, token: caller.accessToken }), // it counts once
      },
      body,
      timeoutMs: queryTimeoutMs,
      maxBytes: maxAnswerBytes,
    }),
  );
  if (answer.status !== 200) throw refused(`the credential service answered ${answer.status}`);
  const read: Json = parseJson(answer.body, { maxBytes: maxAnswerBytes, maxDepth: 16 });
  const parsed = presentationResponseMessage.safeParse(read);
  if (!parsed.success) throw refused('the answer is no presentation response');
  return parsed.data.presentation;
};

const theirFaults: readonly ErrorCode[] = [
  'address-refused',
  'fetch-failed',
  'body-too-large',
  'body-not-json',
  'body-too-deep',
  'body-duplicate-key',
  'body-invalid',
];

/** What goes wrong on the caller's side refuses the caller; what goes wrong here is a fault of ours. */
const queryOrRefuse = async (tools: Tools, exchange: Exchange): Promise<readonly unknown[]> => {
  try {
    return await query(tools, exchange);
  } catch (error) {
    throw theirFaults.some((code) => isAppError(error, code))
      ? refused('the credential service cannot be asked', error)
      : error;
  }
};

/** The signature by a key the holder authenticates with, and the single use. */
const proveHolder = async (
  { resolver, used }: Tools,
  holder: Did,
  { jwt, claims }: ReadPresentation,
): Promise<void> => {
  const kid = jwt.kid?.startsWith('#') === true ? `${holder}${jwt.kid}` : jwt.kid;
  if (kid !== undefined && !kid.startsWith(`${holder}#`)) throw refused('the presentation is signed by another');
  const key = await resolver.key(holder, kid, 'authentication');
  if (key === undefined) throw refused('the presentation names no authentication key of the holder');
  if (!(await verifyByJose(jwt, key.jwk))) throw refused('the signature of the presentation does not hold');
  const token = { issuer: holder, jti: `vp ${claims.jti}`, expiresAt: claims.exp * 1_000 + leewayMs };
  if (!(await used.claim(token))) throw refused('the presentation was used before');
};

/** One credential: whom it is about and whose it is, before anything is fetched for it; then proof, time and status. */
const judge = async (tools: Tools, holder: Did, read: UnverifiedJwt<Credential>): Promise<Checked<number>> => {
  const { value } = read;
  if (value.credentialSubject.id !== holder) return bad('is about another');
  const { issuer } = value;
  if (!isDid(issuer) || !tools.trustedIssuers(typeOf(value)).includes(issuer))
    return bad('is of an issuer not trusted');
  const verified = await verifyReadCredential(read, { resolver: tools.resolver, now: tools.clock.now() });
  if (!verified.ok) return verified;
  tools.learn?.(value.id, issuer);
  return tools.status.check(value);
};

type Judged = readonly { readonly credential: Credential; readonly result: Checked<number> }[];

/** Every type that was asked for must be there and hold; what does not hold is left out. */
const collect = (judged: Judged, types: readonly CredentialType[], unread: readonly string[]): Cached => {
  const held = judged.flatMap(({ credential, result }) => (result.ok ? [{ credential, until: result.value }] : []));
  const missing = types.find((type) => !held.some(({ credential }) => typeOf(credential) === type));
  if (missing !== undefined) {
    const reasons = judged.flatMap(({ credential, result }) =>
      result.ok ? [] : [`${credential.id} ${result.reason}`],
    );
    throw refused([`no ${missing} that holds`, ...reasons, ...unread].join('; '));
  }
  const facts = factsOf(held.map(({ credential }) => credential));
  return { facts, until: Math.min(facts.validUntil, ...held.map(({ until }) => until)) };
};

const ask = async (tools: Tools, exchange: Exchange): Promise<Cached> => {
  const { caller, types } = exchange;
  const answered = await queryOrRefuse(tools, exchange);
  const parties = { holder: caller.did, us: tools.did, now: tools.clock.now() };
  const presentations = answered.map((text) => {
    const read = readPresentation(text, parties);
    if (!read.ok) throw refused(`a presentation ${read.reason}`);
    return read.value;
  });
  const shown = presentations.flatMap(({ credentials }) => credentials);
  if (shown.length > maxPresented) throw refused(`more than ${maxPresented} credentials were shown`);
  for (const presentation of presentations) await proveHolder(tools, caller.did, presentation);
  const asked = shown.flatMap((read) => (read.ok && types.includes(typeOf(read.value.value)) ? [read.value] : []));
  const judged = await Promise.all(
    asked.map(async (read) => ({ credential: read.value, result: await judge(tools, caller.did, read) })),
  );
  const unread = shown.flatMap((read) => (read.ok ? [] : [`a credential ${read.reason}`]));
  const { facts, until } = collect(judged, types, unread);
  return { facts, until: Math.min(until, parties.now + maxCacheMs) };
};

/** Asks callers for credentials and keeps what was checked, as long as everything it rests on holds (dcp §7). */
export const createPresentationVerifier = (options: PresentationVerifierOptions): PresentationVerifier => {
  const { clock } = options;
  const tools: Tools = { ...options, status: createStatusLists(options) };
  const cache = new Map<string, Cached>();
  const running = new Map<string, Promise<Cached>>();
  let revocations = 0;

  const start = (key: string, exchange: Exchange): Promise<Cached> => {
    const before = revocations;
    const work = ask(tools, exchange)
      .then((result) => {
        if (cache.size >= maxCached) cache.clear();
        if (before === revocations) cache.set(key, result); // what was checked during a revocation is checked again
        return result;
      })
      .finally(() => {
        if (running.get(key) === work) running.delete(key);
      });
    running.set(key, work);
    return work;
  };

  return {
    factsOf: async (caller, types) => {
      const { accessToken } = caller;
      if (accessToken === undefined) throw refused('no access token for credentials');
      const wanted = [...new Set(types)].sort();
      const key = `${caller.did} ${wanted.join(' ')} ${toBase64Url(nodeCrypto.sha256(utf8(accessToken)))}`;
      const known = cache.get(key);
      if (known !== undefined && clock.now() < known.until) return known.facts;
      cache.delete(key);
      const exchange = { caller: { ...caller, accessToken }, types: wanted };
      return (await (running.get(key) ?? start(key, exchange))).facts;
    },
    forget: (credentialId) => {
      revocations += 1;
      running.clear();
      tools.status.forget();
      for (const [key, { facts }] of cache) if (facts.credentials.includes(credentialId)) cache.delete(key);
    },
  };
};
