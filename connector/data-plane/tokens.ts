import { z } from 'zod';
import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { canonicalize } from '../../contracts/json.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { readJwt, signJwt, verifyJwt } from '../../kernel/jwt.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import type { Grants, Holder, OpenTransfer } from './grants.ts';
import type { AccessTerms, GrantStore, IssuedToken } from './ports.ts';
import { factsFor, maxTokenMs } from './rules.ts';

/** Access tokens (wire §4): given for one transfer, application, purpose and run, bound to one key, for at most five minutes. */

const type = 'at+jwt';
const maxTokenLength = 8_192;
const maxRemembered = 100_000;

const claims = z.strictObject({
  iss: z.string(),
  sub: z.string(),
  aud: z.string(),
  exp: z.number().int(),
  iat: z.number().int(),
  jti: z.string().min(1).max(256),
  client_id: z.string(),
  purpose: z.string(),
  transfer: z.string().max(768),
  agreement: z.string(),
  asset: z.string(),
  policy: z.string(),
  cnf: z.strictObject({ jkt: z.string() }),
});
type Claims = z.infer<typeof claims>;

/** `b64u H(JCS(rules))` of the agreement. */
const policyDigest = (rules: AccessTerms['rules']): string => toBase64Url(nodeCrypto.sha256(utf8(canonicalize(rules))));

export interface TokensOptions {
  readonly grants: Pick<Grants, 'find'>;
  readonly store: Pick<GrantStore, 'putToken' | 'findToken'>;
  readonly keys: (participant: ParticipantId) => Pick<ParticipantKeys, 'did' | 'accessToken'>;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly dataOrigin: string;
}

/** What a token is given for, after everything was checked. */
export interface Award {
  readonly transfer: OpenTransfer;
  readonly application: string;
  readonly purpose: string;
  readonly run: string;
  readonly jkt: string;
  readonly facts: CredentialFacts;
  readonly siToken: string;
  readonly proof: string;
}

export interface Tokens {
  /** Signs a token and keeps what it rests on, durably, before anybody has it. */
  readonly issue: (award: Award) => Promise<{ readonly token: string; readonly expiresIn: number }>;
  /** By digest, when it was verified before and has not expired. */
  readonly known: (digest: string) => Holder | undefined;
  /** Verifies a token. @throws AppError `token-invalid`. */
  readonly verify: (token: string, digest: string) => Promise<Holder>;
}

const invalid = (reason: string): AppError => new AppError('token-invalid', { cause: new Error(reason) });

const holderOf = (transfer: OpenTransfer, issued: IssuedToken): Holder => {
  const { application, purpose, run, jkt, expiresAt, facts } = issued;
  const { terms } = transfer;
  return {
    transfer,
    application,
    purpose,
    run,
    jkt,
    expiresAt,
    subjects: [...facts.credentials, terms.consumer, terms.agreement],
    facts: factsFor(terms, facts, { application, purpose }),
    proofHeader: '',
    proofKey: null,
  };
};

/** The signature by the participant whose transfer it names, and that it was meant for this data plane. */
const readToken = (its: TokensOptions, token: string): { readonly claims: Claims; readonly transfer: OpenTransfer } => {
  const jwt = readJwt(token, maxTokenLength);
  const read = claims.safeParse(jwt?.claims);
  if (jwt === undefined || jwt.typ !== type || !read.success) throw invalid('no access token');
  const transfer = its.grants.find(read.data.transfer);
  if (transfer === undefined) throw new AppError('token-invalid', { detail: 'the transfer of this token is not open' });
  const { did, accessToken } = its.keys(transfer.grant.participant);
  if (!verifyJwt(jwt, accessToken.publicJwk)) throw invalid('signature');
  if (read.data.iss !== did) throw invalid('issuer');
  if (read.data.aud !== its.dataOrigin) throw invalid('audience');
  return { claims: read.data, transfer };
};

const verify = async (its: TokensOptions, token: string): Promise<Holder> => {
  const { claims: said, transfer } = readToken(its, token);
  if (said.exp * 1_000 <= its.clock.now()) throw new AppError('token-invalid', { detail: 'the token has expired' });
  const issued = await its.store.findToken(transfer.grant.participant, said.jti);
  if (issued === undefined || issued.transfer !== said.transfer || issued.jkt !== said.cnf.jkt)
    throw invalid('never given');
  if (issued.grant !== transfer.grant.secretHash)
    throw new AppError('token-invalid', { detail: 'the grant of this token is void' });
  return holderOf(transfer, issued);
};

const issue = async (its: TokensOptions, award: Award): Promise<{ token: string; expiresIn: number }> => {
  const { transfer, application, purpose, run, jkt, facts, siToken, proof } = award;
  const { grant, terms } = transfer;
  const now = its.clock.now();
  const iat = Math.floor(now / 1_000);
  const exp = Math.floor(Math.min(iat * 1_000 + maxTokenMs, facts.validUntil) / 1_000);
  if (exp * 1_000 <= now) throw new AppError('policy-denied', { detail: 'a credential behind this has expired' });
  const { did, accessToken } = its.keys(grant.participant);
  const said: Claims = {
    iss: did,
    sub: terms.consumer,
    aud: its.dataOrigin,
    exp,
    iat,
    jti: its.newId(),
    client_id: application,
    purpose,
    transfer: grant.transfer,
    agreement: terms.agreement,
    asset: terms.asset,
    policy: policyDigest(terms.rules),
    cnf: { jkt },
  };
  await its.store.putToken({
    participant: grant.participant,
    jti: said.jti,
    transfer: grant.transfer,
    grant: grant.secretHash,
    agreement: terms.agreement,
    application,
    purpose,
    run,
    jkt,
    facts,
    siToken,
    proof,
    issuedAt: now,
    expiresAt: exp * 1_000,
  });
  return { token: signJwt(accessToken, type, said), expiresIn: exp - iat };
};

export const createTokens = (its: TokensOptions): Tokens => {
  const verified = new Map<string, Holder>();
  const remember = (digest: string, holder: Holder): void => {
    const [oldest] = verified.keys();
    if (verified.size >= maxRemembered && oldest !== undefined) verified.delete(oldest);
    verified.set(digest, holder);
  };
  return {
    issue: (award) => issue(its, award),
    known: (digest) => {
      const holder = verified.get(digest);
      if (holder === undefined) return undefined;
      if (holder.transfer.isOpen && holder.expiresAt > its.clock.now()) return holder;
      verified.delete(digest);
      return undefined;
    },
    verify: async (token, digest) => {
      const holder = await verify(its, token);
      remember(digest, holder);
      return holder;
    },
  };
};
