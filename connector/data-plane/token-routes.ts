import { Hono } from 'hono';
import { textOf } from '../../contracts/bytes.ts';
import { AppError, type Fault, isAppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { CredentialFacts, CredentialType } from '../../contracts/vc/credential.ts';
import type { Authenticator, UsedTokenStore, VerifiedCaller } from '../../kernel/auth.ts';
import type { Clock } from '../../kernel/clock.ts';
import { readBytes } from '../../kernel/http/body.ts';
import { asAppError } from '../../kernel/http/problem.ts';
import type { Logger } from '../../kernel/log.ts';
import { type PeerRate, rateFault } from '../../kernel/rate-limits.ts';
import type { PresentationVerifier } from '../../kernel/vc/presentations.ts';
import { decide } from '../../policies/evaluate.ts';
import { type Grants, type OpenTransfer, secretHashOf } from './grants.ts';
import type { Standing, Terms } from './ports.ts';
import { readProof, readProofKey, verifyProof } from './proof.ts';
import { clockMs, factsFor, isApplicationId, isIri, isRun, policyRefusal, type Refusal } from './rules.ts';
import type { Tokens } from './tokens.ts';

/** `POST <root>/ext/1/tokens` (wire §4): everything is asked again for each token, and refresh is the same call. */

export interface TokenRouteOptions {
  /** The participant whose root the path lies under; undefined when there is none. */
  readonly participantOf: (request: Request) => ParticipantId | undefined;
  readonly authenticator: (participant: ParticipantId) => Pick<Authenticator, 'authenticate'>;
  readonly presentations: (participant: ParticipantId) => Pick<PresentationVerifier, 'factsOf'>;
  readonly grants: Pick<Grants, 'findBySecret'>;
  readonly terms: Terms;
  readonly tokens: Pick<Tokens, 'issue'>;
  /** Proofs count once here, too. */
  readonly used: UsedTokenStore;
  readonly standing: Pick<Standing, 'check'>;
  /** How many tokens a consumer may have: each of them is a row that is kept. */
  readonly rate: PeerRate;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tokenEndpoint: (participant: ParticipantId) => string;
}

const maxFormBytes = 16_384;
const grantType = 'urn:stekker:1:transfer';

/** Thrown with the sentences of the policy that refused. */
class Denied extends Error {
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    super(refusal.error.message);
    this.refusal = refusal;
  }
}

interface TokenForm {
  readonly grant: string;
  readonly application: string;
  readonly purpose: string;
  readonly run: string;
}

const formType = /^application\/x-www-form-urlencoded\s*(;|$)/i;

const readFields = async (request: Request): Promise<URLSearchParams> => {
  if (!formType.test(request.headers.get('content-type') ?? ''))
    throw new AppError('invalid-request', { detail: 'a form is read here: application/x-www-form-urlencoded' });
  const text = textOf(await readBytes(request, maxFormBytes));
  if (text === undefined) throw new AppError('invalid-request', { detail: 'the form is not UTF-8' });
  return new URLSearchParams(text);
};

/** The fields of the form, each at most once (RFC 6749 §3.2); all faults at once. */
const readForm = async (request: Request): Promise<TokenForm> => {
  const fields = await readFields(request);
  if (fields.get('grant_type') !== null && fields.get('grant_type') !== grantType)
    throw new AppError('unsupported-grant-type', { detail: `the grant type here is ${grantType}` });
  const value = (name: string): string => fields.get(name) ?? '';
  const checks: readonly (readonly [name: string, isGood: boolean, message: string])[] = [
    ['grant_type', value('grant_type') === grantType, 'is missing'],
    ['grant', /^[A-Za-z0-9_-]{1,200}$/.test(value('grant')), 'is no grant'],
    ['client_id', isApplicationId(value('client_id')), 'is no <application id>@<version>'],
    ['purpose', isIri(value('purpose')), 'is no IRI'],
    ['run', isRun(value('run')), 'is too long or has control characters'],
  ];
  const faults: Fault[] = checks.flatMap(([name, isGood, message]) => {
    if (fields.getAll(name).length > 1) return [{ path: `/${name}`, message: 'stands there twice' }];
    return isGood ? [] : [{ path: `/${name}`, message }];
  });
  if (faults.length > 0) {
    const detail = faults.map(({ path, message }) => `${path.slice(1)} ${message}`).join('; ');
    throw new AppError('invalid-request', { detail, faults });
  }
  return { grant: value('grant'), application: value('client_id'), purpose: value('purpose'), run: value('run') };
};

const badProof = (reason: string): AppError =>
  new AppError('invalid-dpop-proof', { detail: reason, cause: new Error(reason) });

/** The proof for this endpoint: its key is the one that the token will be bound to. */
const readKeyProof = (request: Request, its: { readonly endpoint: string; readonly now: number }) => {
  const text = request.headers.get('dpop') ?? '';
  const proof = readProof(text);
  const key = proof === undefined ? undefined : readProofKey(proof.header);
  if (proof === undefined || key === undefined) throw badProof('there is not exactly one proof that can be read');
  const { claims } = proof;
  if (claims.htm !== 'POST' || claims.htu !== its.endpoint) throw badProof('the proof is for another request');
  if (Math.abs(its.now - claims.iat * 1_000) > clockMs) throw badProof('the proof is not of now');
  if (!verifyProof(proof, key)) throw badProof('the signature of the proof does not hold');
  return { text, jkt: key.jkt, jti: claims.jti, expiresAt: claims.iat * 1_000 + 2 * clockMs };
};
type KeyProof = ReturnType<typeof readKeyProof>;

const authenticate = async (
  its: TokenRouteOptions,
  participant: ParticipantId,
  request: Request,
  { jkt }: KeyProof,
): Promise<VerifiedCaller> => {
  const caller = await its
    .authenticator(participant)
    .authenticate(request.headers)
    .catch((cause: unknown) => {
      throw isAppError(cause, 'unauthenticated') ? new AppError('invalid-client', { cause }) : cause;
    });
  if (caller.jkt !== jkt)
    throw new AppError('invalid-client', { detail: 'the caller does not say that this key speaks for it' });
  return caller;
};

/** The open transfer of this caller behind a grant; a grant of somebody else is as good as none. */
const findTransfer = async (
  its: TokenRouteOptions,
  participant: ParticipantId,
  caller: Did,
  grant: string,
): Promise<OpenTransfer> => {
  const transfer = its.grants.findBySecret(secretHashOf(grant));
  const isTheirs = transfer?.grant.participant === participant && transfer.grant.consumer === caller;
  if (transfer === undefined || !isTheirs || transfer.terms.assurance !== 'cosigned')
    throw new AppError('invalid-grant');
  const terms = await its.terms.find(participant, transfer.grant.agreementId);
  if (terms === undefined || terms === 'ended')
    throw new AppError('invalid-grant', { detail: 'the agreement is not in force' });
  return transfer;
};

const checkStanding = (its: TokenRouteOptions, transfer: OpenTransfer, credentials: readonly string[]): void => {
  const { consumer, agreement, silence } = transfer.terms;
  const { state } = its.standing.check([...credentials, consumer, agreement], silence);
  if (state === 'revoked') throw new AppError('revoked');
  if (state === 'unknown') throw new AppError('status-unknown', { retryAfterSeconds: 5 });
};

const typesFor = ({ needsAccreditation }: OpenTransfer): readonly CredentialType[] =>
  needsAccreditation ? ['MembershipCredential', 'ApplicationAccreditationCredential'] : ['MembershipCredential'];

const credentialsOf = async (
  its: TokenRouteOptions,
  transfer: OpenTransfer,
  caller: VerifiedCaller,
): Promise<CredentialFacts> => {
  const { participant } = transfer.grant;
  try {
    return await its.presentations(participant).factsOf(caller, typesFor(transfer));
  } catch (cause) {
    if (!isAppError(cause, 'unauthenticated')) throw cause;
    const detail = `shown must be: ${typesFor(transfer).join(', ')}`;
    throw new AppError('invalid-client', { detail, cause });
  }
};

const checkPolicy = (its: TokenRouteOptions, transfer: OpenTransfer, credentials: CredentialFacts, form: TokenForm) => {
  const facts = { ...factsFor(transfer.terms, credentials, form), now: its.clock.now() };
  if (!decide(transfer.atToken, facts)) throw new Denied(policyRefusal(transfer.atToken, facts));
};

const give = async (its: TokenRouteOptions, request: Request) => {
  const participant = its.participantOf(request);
  if (participant === undefined) throw new AppError('not-found');
  const form = await readForm(request);
  const proof = readKeyProof(request, { endpoint: its.tokenEndpoint(participant), now: its.clock.now() });
  const caller = await authenticate(its, participant, request, proof);
  const fault = rateFault(await its.rate(participant, caller.did));
  if (fault !== undefined) throw fault;
  const transfer = await findTransfer(its, participant, caller.did, form.grant);
  const claim = { issuer: `dpop:${proof.jkt}`, jti: proof.jti, expiresAt: proof.expiresAt };
  if (!(await its.used.claim(claim))) throw badProof('the proof was used before');
  checkStanding(its, transfer, []);
  const facts = await credentialsOf(its, transfer, caller);
  checkStanding(its, transfer, facts.credentials);
  checkPolicy(its, transfer, facts, form);
  if (!transfer.isOpen) throw new AppError('invalid-grant');
  const { application, purpose, run } = form;
  const award = { transfer, application, purpose, run, jkt: proof.jkt, facts, siToken: caller.text, proof: proof.text };
  return its.tokens.issue(award);
};

const json = (status: number, body: object, retryAfterSeconds?: number): Response =>
  new Response(JSON.stringify(body), {
    status,
    headers: {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
    },
  });

/** An error in the form of RFC 6749 §5.2, with the policy's reasons in both languages. */
const oauthError = (thrown: unknown): Response => {
  const { error, reasons = [] } = thrown instanceof Denied ? thrown.refusal : { error: asAppError(thrown) };
  const description = error.expose ? (error.detail ?? error.title) : error.title;
  return json(
    error.status,
    {
      error: error.code.replaceAll('-', '_'),
      // Only what RFC 6749 allows in it: printable ASCII without quotes and backslashes.
      error_description: description.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, '?'),
      ...(reasons.length === 0 ? {} : { reasons }),
    },
    error.retryAfterSeconds,
  );
};

/** The token endpoint, mounted under `<root>/ext/1`. */
export const createTokenRoutes = (options: TokenRouteOptions): Hono => {
  const app = new Hono();
  app.post('/tokens', async (c) => {
    try {
      const { token, expiresIn } = await give(options, c.req.raw);
      return json(200, { access_token: token, token_type: 'DPoP', expires_in: expiresIn });
    } catch (thrown) {
      const error = thrown instanceof Denied ? thrown.refusal.error : asAppError(thrown);
      const level = error.status >= 500 && error.status !== 503 ? 'error' : 'info';
      options.log[level]({ error, code: error.code }, 'a token was refused');
      return oauthError(thrown);
    }
  });
  return app;
};
