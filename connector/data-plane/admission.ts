import type { IncomingMessage } from 'node:http';
import { AppError } from '../../contracts/errors.ts';
import { isUuidV7, uuidV7Time } from '../../contracts/ids.ts';
import { replayKey, requestTarget } from '../../contracts/ledger/record.ts';
import type { UsageExt, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Claim, ReplayStore } from '../../kernel/replay.ts';
import { decide } from '../../policies/evaluate.ts';
import type { Holder } from './grants.ts';
import type { Standing, UsageMeter } from './ports.ts';
import { type Proof, readProof, readProofKey, verifyProof } from './proof.ts';
import { clockMs, policyRefusal, type Refusal, reservedBytes, splitTarget, type Target } from './rules.ts';

/** Whether a request may be served: the checks of wire §5 in their order, the cheap ones first. */

/** A request as it was sent, read once. */
export interface Asked {
  readonly method: 'GET' | 'HEAD';
  /** The raw request target. */
  readonly raw: string;
  readonly target: Target;
  readonly range: string;
  readonly scheme: 'dpop' | 'bearer';
  readonly token: string;
  readonly proof: string;
  /** `Fsc-Transaction-Id`, or empty. */
  readonly trace: string;
  /** All headers, names in lower case. */
  readonly headers: readonly string[];
}

const maxTokenLength = 8_192;
const single = ['authorization', 'dpop', 'range', 'fsc-transaction-id', 'content-length', 'transfer-encoding'] as const;
type Single = (typeof single)[number];

interface Fields {
  readonly values: Partial<Record<Single, string>>;
  /** A field that stands twice: a platform takes the first, a proxy the last, and whoever signs means one of them. */
  readonly doubled: Single | undefined;
  readonly headers: string[];
}

const isSingle = (name: string): name is Single => single.some((one) => one === name);

const readFields = (raw: readonly string[]): Fields => {
  const values: Partial<Record<Single, string>> = {};
  const headers: string[] = [];
  let doubled: Single | undefined;
  for (let index = 0; index < raw.length; index += 2) {
    const name = (raw[index] ?? '').toLowerCase();
    const value = raw[index + 1] ?? '';
    headers.push(name, value);
    if (!isSingle(name)) continue;
    if (values[name] !== undefined) doubled = name;
    values[name] = value;
  }
  return { values, doubled, headers };
};

const refuse = (code: 'token-invalid' | 'proof-invalid' | 'request-invalid', detail: string): Refusal => ({
  error: new AppError(code, { detail }),
});

const doubledRefusal = (name: Single): Refusal => {
  const code = name === 'authorization' ? 'token-invalid' : name === 'dpop' ? 'proof-invalid' : 'request-invalid';
  return refuse(code, `${name} stands there twice`);
};

/** EDC sends a bearer token as it is, without its scheme (edc-interop §4). */
const credentialsOf = (authorization: string): Pick<Asked, 'scheme' | 'token'> | undefined => {
  const match = /^(?:(DPoP|Bearer) +)?([A-Za-z0-9._~+/-]+=*)$/i.exec(authorization);
  if (match === null || authorization.length > maxTokenLength) return undefined;
  return { scheme: match[1]?.toLowerCase() === 'dpop' ? 'dpop' : 'bearer', token: match[2] ?? '' };
};

/** Reads a request within its limits. */
export const readAsked = (request: Pick<IncomingMessage, 'method' | 'url' | 'rawHeaders'>): Asked | Refusal => {
  const { method, url: raw = '' } = request;
  if (method !== 'GET' && method !== 'HEAD') return { error: new AppError('method-not-allowed') };
  const { values, doubled, headers } = readFields(request.rawHeaders);
  if (doubled !== undefined) return doubledRefusal(doubled);
  if ((values['content-length'] ?? '0') !== '0' || values['transfer-encoding'] !== undefined)
    return refuse('request-invalid', 'a body is not read here');
  const target = splitTarget(raw);
  if (target === undefined) return refuse('request-invalid', 'the path is not one below a transfer');
  const credentials = credentialsOf(values.authorization ?? '');
  if (credentials === undefined) return refuse('token-invalid', 'there is no access token');
  const { dpop = '', range = '' } = values;
  return {
    method,
    raw,
    target,
    range,
    ...credentials,
    proof: dpop,
    trace: values['fsc-transaction-id'] ?? '',
    headers,
  };
};

export interface AdmissionOptions {
  readonly clock: Clock;
  readonly standing: Pick<Standing, 'check'>;
  readonly meter: Pick<UsageMeter, 'count' | 'isReady'>;
  readonly replay: ReplayStore;
  readonly newId: () => string;
  readonly dataOrigin: string;
}

/** What an access that is permitted is recorded as. */
export interface Admitted {
  readonly entry: UsageOpen;
}

/** Whether what the access rests on still stands; the age of the broker's last word goes into the record (wire §7). */
export const standingOf = (standing: Pick<Standing, 'check'>, holder: Holder): { readonly ext: UsageExt } | Refusal => {
  const said = standing.check(holder.subjects, holder.transfer.terms.silence);
  if (said.state === 'good') return { ext: said.statusAge === null ? null : { statusAge: String(said.statusAge) } };
  if (said.state === 'revoked') return { error: new AppError('revoked') };
  return { error: new AppError('status-unknown', { retryAfterSeconds: 5 }) };
};

/** What the proof says, against the request; undefined when all of it fits. */
const faultOfClaims = (
  { claims }: Proof,
  its: {
    readonly asked: Asked;
    readonly ath: string;
    readonly tgt: string;
    readonly htu: string;
    readonly now: number;
  },
): string | undefined => {
  const { asked, now } = its;
  if (claims.htm !== asked.method) return 'htm is another method';
  if (claims.htu !== its.htu) return 'htu is another address';
  if (claims.ath !== its.ath) return 'ath is another token';
  if (claims.tgt !== its.tgt) return 'tgt is another target or range';
  if (Math.abs(now - claims.iat * 1_000) > clockMs) return 'iat is not now';
  if (!isUuidV7(claims.jti) || Math.abs(now - uuidV7Time(claims.jti)) > clockMs) return 'jti is no request id of now';
  return asked.trace === '' || asked.trace === claims.jti ? undefined : 'fsc-transaction-id is another request';
};

/** The key of the proof, if it is the one that the token is bound to; remembered by its header segment. */
const isKeyOf = (holder: Holder, proof: Proof): boolean => {
  if (proof.header === holder.proofHeader) return true;
  const key = readProofKey(proof.header);
  if (key === undefined || key.jkt !== holder.jkt) return false;
  holder.proofHeader = proof.header;
  holder.proofKey = key;
  return true;
};

/** Possession of the key, for this request alone; that it comes once is claimed next. The id of the request, or why not. */
const provenRequest = (
  its: AdmissionOptions,
  asked: Asked,
  holder: Holder,
  proven: { readonly ath: string; readonly tgt: string; readonly now: number },
): string | Refusal => {
  const proof = readProof(asked.proof);
  if (proof === undefined) return refuse('proof-invalid', 'there is no proof of possession that can be read');
  if (!isKeyOf(holder, proof) || holder.proofKey === null)
    return refuse('proof-invalid', 'the key is not the one of the token');
  const htu = `${its.dataOrigin}/${asked.target.first}${asked.target.rest}`;
  const fault = faultOfClaims(proof, { asked, htu, ...proven });
  if (fault !== undefined) return refuse('proof-invalid', fault);
  if (!verifyProof(proof, holder.proofKey)) return refuse('proof-invalid', 'the signature does not hold');
  return proof.claims.jti;
};

/** Nothing is served on a claim that is not known to be the first. */
const claimFault = (claim: Claim): Refusal | undefined => {
  if (claim === 'fresh') return undefined;
  if (claim === 'seen') return { error: new AppError('request-repeated') };
  return { error: new AppError('replay-store-unavailable', claim) };
};

/** What the policy says now, with how often the data was used. */
export const policyFault = (its: Pick<AdmissionOptions, 'meter'>, holder: Holder, now: number): Refusal | undefined => {
  const { atAccess, terms } = holder.transfer;
  const { facts } = holder;
  facts.now = now;
  facts.count = its.meter.count(terms.agreement);
  return decide(atAccess, facts) ? undefined : policyRefusal(atAccess, facts);
};

/** Whether a transfer can be served at all: it is the one of the path, open, and its price is known. */
const transferFault = (asked: Asked, { transfer }: Holder): Refusal | undefined => {
  if (asked.target.first !== transfer.grant.transfer)
    return refuse('token-invalid', 'the token is for another transfer');
  if (!transfer.isOpen) return refuse('token-invalid', 'the transfer was closed');
  const { price, pricePlan } = transfer.terms;
  return price !== '' && pricePlan === null ? { error: new AppError('price-needed') } : undefined;
};

/** What an access rests on before anything is proven: token, standing, transfer. */
const groundOf = (
  its: AdmissionOptions,
  asked: Asked,
  holder: Holder,
  now: number,
): { readonly ext: UsageExt } | Refusal => {
  if (holder.expiresAt <= now) return refuse('token-invalid', 'the token has expired');
  const standing = standingOf(its.standing, holder);
  if ('error' in standing) return standing;
  return transferFault(asked, holder) ?? standing;
};

/** A request that is proven, and comes for the first time; its policy is not asked yet. */
export interface Proven {
  readonly asked: Asked;
  readonly holder: Holder;
  readonly request: string;
  readonly target: string;
  readonly now: number;
  readonly ext: UsageExt;
}

/**
 * The last checks of an access that is proven, and what it is recorded as: it is opened in the same turn. After a wait
 * everything may have changed, so what the access rests on is asked again.
 */
export const permit = (its: AdmissionOptions, proven: Proven, hasWaited: boolean): Admitted | Refusal => {
  const { asked, holder, request, target } = proven;
  const { terms, grant } = holder.transfer;
  const now = hasWaited ? its.clock.now() : proven.now;
  const ground = hasWaited ? groundOf(its, asked, holder, now) : proven;
  if ('error' in ground) return ground;
  const denied = policyFault(its, holder, now);
  if (denied !== undefined) return denied;
  if (!its.meter.isReady()) return { error: new AppError('journal-unavailable', { retryAfterSeconds: 5 }) };
  const entry: UsageOpen = {
    t: 'open',
    agreement: terms.agreement,
    request,
    part: 1,
    at: now,
    asset: terms.asset,
    transfer: grant.transfer,
    application: holder.application,
    method: asked.method,
    purpose: holder.purpose,
    run: holder.run,
    target,
    price: terms.price,
    ext: ground.ext,
    reserved: reservedBytes,
    proof: terms.assurance === 'cosigned' ? asked.proof : '',
  };
  return { entry };
};

/**
 * The checks of wire §5 behind the token, up to the replay claim: revoked set, path, agreement, proof, replay. The policy comes
 * with `permit`; quota and window are the meter's, with `open`. What is refused here leaves no record. The answer is there
 * at once unless the replay store is a shared one.
 */
export const prove = (
  its: AdmissionOptions,
  asked: Asked,
  holder: Holder,
  ath: string,
): Proven | Refusal | Promise<Proven | Refusal> => {
  const now = its.clock.now();
  const { terms } = holder.transfer;
  const ground = groundOf(its, asked, holder, now);
  if ('error' in ground) return ground;
  const { ext } = ground;
  const target = requestTarget(nodeCrypto, { method: asked.method, target: asked.raw, range: asked.range });
  if (terms.assurance !== 'cosigned') return { asked, holder, request: its.newId(), target, now, ext };
  const request = provenRequest(its, asked, holder, { ath, tgt: target, now });
  if (typeof request !== 'string') return request;
  const { agreement } = terms;
  const proven = { asked, holder, request, target, now, ext };
  const claim = its.replay.claim(replayKey(nodeCrypto, agreement, request), uuidV7Time(request), agreement);
  if (claim instanceof Promise) return claim.then((claimed) => claimFault(claimed) ?? proven);
  return claimFault(claim) ?? proven;
};
