import { generateKeyPairSync } from 'node:crypto';
import { z } from 'zod';
import { AppError, type ErrorCode, errorTable } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { parseJson } from '../../contracts/json.ts';
import type { TokenService } from '../../kernel/auth.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { ClientAnswer, GuardedClient } from '../../kernel/http/client.ts';
import type { ConsumedTransfer } from './ports.ts';
import { createProofMaker, type ProofMaker } from './proof.ts';
import type { Refusal } from './rules.ts';

/** The consumer's access tokens (wire §4): for each use a key of its own and a token that is kept until shortly before its end. */

export interface SessionsOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  readonly tokens: (participant: ParticipantId) => Pick<TokenService, 'tokenFor'>;
  readonly clock: Clock;
  readonly newId: () => string;
  /** Scopes of the credentials that a provider may ask for with our token. */
  readonly scopes: readonly string[];
}

/** What a token is for. */
export interface Use {
  readonly transfer: ConsumedTransfer;
  readonly application: string;
  readonly purpose: string;
  readonly run: string;
}

export interface Session {
  readonly token: string;
  readonly maker: ProofMaker;
}

export interface Sessions {
  /** A token for this use, from the provider when there is none. @throws TokenRefused when it gives none. */
  readonly of: (use: Use) => Promise<Session>;
  /** Forgets a token that its provider refused: the next request asks for a new one. */
  readonly forget: (use: Use) => void;
}

/** The provider gave no token; its reasons in both languages, if it said them. */
export class TokenRefused extends Error {
  override readonly name = 'TokenRefused';
  readonly refusal: Refusal;
  constructor(refusal: Refusal) {
    super(refusal.error.message);
    this.refusal = refusal;
  }
}

const timeoutMs = 20_000;
const maxAnswerBytes = 65_536;
const maxSessions = 10_000;
/** A token with less than this left is not used any more. */
const spareMs = 15_000;

const tokenAnswer = z.looseObject({
  access_token: z.string().regex(/^[A-Za-z0-9._~+/=-]{1,8192}$/),
  token_type: z.string().refine((type) => type.toLowerCase() === 'dpop', 'is not DPoP'),
  expires_in: z.number().int().min(1).max(300),
});

const errorAnswer = z.looseObject({
  error: z.string().max(100),
  error_description: z.string().max(4_000).optional(),
  reasons: z
    .array(z.looseObject({ nl: z.string().max(2_000), en: z.string().max(2_000) }))
    .max(100)
    .optional(),
});

/** What of a provider's refusals our application may hear as it is; the rest is between the connectors. */
const passed: ReadonlySet<string> = new Set<ErrorCode>([
  'policy-denied',
  'revoked',
  'status-unknown',
  'too-many-requests',
  'invalid-grant',
]);

const isCode = (text: string): text is ErrorCode => text in errorTable && passed.has(text);

const jsonOf = ({ body }: ClientAnswer): unknown => {
  try {
    return parseJson(body, { maxBytes: maxAnswerBytes, maxDepth: 16 });
  } catch {
    return undefined;
  }
};

const refusalOf = (answer: ClientAnswer): Refusal => {
  const read = errorAnswer.safeParse(jsonOf(answer));
  const code = read.success ? read.data.error.replaceAll('_', '-') : '';
  const said = read.success ? (read.data.error_description ?? code) : '';
  const detail = `the provider gave no token (${answer.status}): ${said}`;
  const retry = /^\d{1,5}$/.exec(answer.headers['retry-after'] ?? '')?.[0];
  const error = new AppError(isCode(code) ? code : 'fetch-failed', {
    detail,
    ...(retry === undefined ? {} : { retryAfterSeconds: Number(retry) }),
  });
  return { error, ...(read.success && read.data.reasons !== undefined ? { reasons: read.data.reasons } : {}) };
};

interface Kept extends Session {
  readonly expiresAt: number;
}

/** A key for one session. */
const makeMaker = (): ProofMaker => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { kty = '', crv = '', x = '', y = '' } = publicKey.export({ format: 'jwk' });
  return createProofMaker({ kty, crv, x, y }, privateKey);
};

const ask = async (its: SessionsOptions, use: Use): Promise<Kept> => {
  const { participant, provider, properties } = use.transfer;
  const { tokenEndpoint, grant } = properties;
  if (tokenEndpoint === undefined || grant === undefined)
    throw new AppError('fetch-failed', { detail: 'the data address of the provider has no token endpoint or grant' });
  const maker = makeMaker();
  const now = its.clock.now();
  const proof = maker.make({ jti: its.newId(), htm: 'POST', htu: tokenEndpoint, iat: Math.floor(now / 1_000) });
  const form = new URLSearchParams({
    grant_type: 'urn:stekker:1:transfer',
    grant,
    client_id: use.application,
    purpose: use.purpose,
    ...(use.run === '' ? {} : { run: use.run }),
  });
  const answer = await its.client.request({
    method: 'POST',
    url: tokenEndpoint,
    headers: {
      accept: 'application/json',
      'content-type': 'application/x-www-form-urlencoded',
      dpop: proof,
      authorization: its.tokens(participant).tokenFor({ audience: provider, scopes: its.scopes, jkt: maker.jkt }),
    },
    body: form.toString(),
    timeoutMs,
    maxBytes: maxAnswerBytes,
  });
  const read = tokenAnswer.safeParse(jsonOf(answer));
  if (answer.status !== 200 || !read.success) throw new TokenRefused(refusalOf(answer));
  return { token: read.data.access_token, maker, expiresAt: now + read.data.expires_in * 1_000 };
};

const keyOf = ({ transfer, application, purpose, run }: Use): string =>
  JSON.stringify([transfer.participant, transfer.transfer, transfer.properties.grant, application, purpose, run]);

export const createSessions = (its: SessionsOptions): Sessions => {
  const kept = new Map<string, Kept>();
  const asked = new Map<string, Promise<Kept>>();
  const keep = (key: string, session: Kept): void => {
    const [oldest] = kept.keys();
    if (kept.size >= maxSessions && oldest !== undefined) kept.delete(oldest);
    kept.delete(key);
    kept.set(key, session);
  };
  return {
    of: async (use) => {
      const key = keyOf(use);
      const session = kept.get(key);
      if (session !== undefined && session.expiresAt - spareMs > its.clock.now()) return session;
      const running = asked.get(key);
      if (running !== undefined) return running;
      const started = ask(its, use).finally(() => asked.delete(key));
      asked.set(key, started);
      const fresh = await started;
      keep(key, fresh);
      return fresh;
    },
    forget: (use) => void kept.delete(keyOf(use)),
  };
};
