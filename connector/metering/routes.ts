import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { statementDraft } from '../../contracts/ledger/draft.ts';
import { hash32 } from '../../contracts/ledger/forms.ts';
import { readAnyJson, readBytes, readJson } from '../../kernel/http/body.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import { enter, type RouteOptions } from '../exchange/http.ts';
import type { Consumer } from './consumer.ts';

/** `<root>/ext/1/statements/…` (wire §6): for the two parties; everybody else gets 404. */

export interface StatementRoutes {
  readonly consumer: Consumer;
  /** Adds a page of a long draft: the numbers of those that are here, or the answer to the whole. @throws AppError `body-invalid`, and as a draft. */
  readonly page: (
    participant: ParticipantId,
    caller: Did,
    bytes: Uint8Array,
  ) => Promise<{ readonly received: readonly number[] } | { readonly answer: Json }>;
  /** Whether a participant has an agreement with this provider at all: nobody else's drafts are even read. */
  readonly hasProvider: (participant: ParticipantId, caller: Did) => Promise<boolean>;
  /** A consumer asks for a statement. @throws AppError `not-found`, `too-many-requests`. */
  readonly request: (participant: ParticipantId, caller: Did, agreement: string) => Promise<void>;
  /** A complete statement for a party, with its rows, S and K. @throws AppError `not-found`. */
  readonly held: (participant: ParticipantId, caller: Did, agreement: string, seq: 'newest' | number) => Promise<Json>;
}

/** A page of 5,000 rows, with room. */
const draftLimits = { maxBytes: 8 << 20, maxDepth: 8 };
const artifactLimits = { maxBytes: 65_536, maxDepth: 8 };

const requestBody = z.strictObject({ agreementDigest: hash32 });

const answer = (body: Json, status = 200): Response =>
  new Response(body === null ? null : JSON.stringify(body), {
    status,
    headers: { ...(body === null ? {} : { 'content-type': 'application/json' }), 'cache-control': 'no-store' },
  });

const isNdjson = (c: Context): boolean => /^application\/x-ndjson\s*(;|$)/i.test(c.req.header('content-type') ?? '');

const readSeq = (text: string): 'newest' | number => {
  if (text === 'newest') return text;
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new AppError('not-found');
  return Number(text);
};

export const createStatementRoutes = (its: StatementRoutes, options: RouteOptions): Hono => {
  const app = new Hono();
  const safely =
    (work: (c: Context, participant: ParticipantId, caller: Did) => Promise<Response>) => async (c: Context) => {
      try {
        const { participant, caller } = await enter(c, options);
        return await work(c, participant, caller.did);
      } catch (error) {
        options.log.info({ error, path: c.req.path }, 'a request about statements was refused');
        return problemResponse(error);
      }
    };

  app.post(
    '/statements/draft',
    safely(async (c, participant, caller) => {
      if (!(await its.hasProvider(participant, caller))) throw new AppError('not-found');
      if (!isNdjson(c)) {
        const draft = await readJson(c.req.raw, statementDraft, draftLimits);
        return answer(await its.consumer.draft(participant, caller, draft));
      }
      const added = await its.page(participant, caller, await readBytes(c.req.raw, draftLimits.maxBytes));
      return 'received' in added ? answer({ received: [...added.received] }, 202) : answer(added.answer);
    }),
  );
  app.post(
    '/statements/signed',
    safely(async (c, participant, caller) => {
      const artifact = await its.consumer.signed(participant, caller, await readAnyJson(c.req.raw, artifactLimits));
      return answer({ payload: artifact.payload, signatures: artifact.signatures.map((one) => ({ ...one })) });
    }),
  );
  app.post(
    '/statements/request',
    safely(async (c, participant, caller) => {
      const { agreementDigest } = await readJson(c.req.raw, requestBody);
      await its.request(participant, caller, agreementDigest);
      return answer(null, 202);
    }),
  );
  app.get(
    '/statements/:agreement/:seq',
    safely(async (c, participant, caller) => {
      const seq = readSeq(c.req.param('seq') ?? '');
      return answer(await its.held(participant, caller, c.req.param('agreement') ?? '', seq));
    }),
  );
  return app;
};
