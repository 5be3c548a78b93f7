import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import type { Json } from '../../contracts/json.ts';
import { generalJws } from '../../contracts/ledger/jws.ts';
import { readJson } from '../../kernel/http/body.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import { enter, type RouteOptions } from '../exchange/http.ts';
import { amendProcess } from '../exchange/send.ts';
import type { AgreementService } from './agreements.ts';
import type { NegotiationData, NegotiationRow } from './ports.ts';
import type { Exchanged } from './process.ts';

/** `<root>/ext/1/agreements/…` (wire §3, dsp §12.2): for the two parties; everybody else gets 404. */

const signatureBody = z.strictObject({ artifact: generalJws });

const answer = (body: Json, status = 200): Response =>
  new Response(JSON.stringify(body), {
    status,
    headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
  });

export interface ExtensionOptions extends RouteOptions {
  readonly its: Exchanged;
  readonly agreements: AgreementService;
}

/** The caller's process with this agreement. */
const findFor = async (c: Context, options: ExtensionOptions): Promise<NegotiationRow> => {
  const { participant, caller } = await enter(c, options);
  const row = await options.its.store.findByName(participant, 'agreement', c.req.param('id') ?? '');
  if (row === undefined || row.peer !== caller.did || row.data.agreement === null) throw new AppError('not-found');
  return row;
};

const draft = async (c: Context, options: ExtensionOptions): Promise<Response> => {
  const { process, data } = await findFor(c, options);
  if (process.role !== 'provider' || data.agreement?.artifact == null || data.agreement.leafKey === null)
    throw new AppError('not-found');
  const { artifact, leafKey } = data.agreement;
  const [own] = artifact.signatures;
  return answer({ artifact: { payload: artifact.payload, signatures: own === undefined ? [] : [own] }, leafKey });
};

const sign = async (c: Context, options: ExtensionOptions): Promise<Response> => {
  const row = await findFor(c, options);
  if (row.process.role !== 'provider') throw new AppError('not-found');
  const { artifact } = await readJson(c.req.raw, signatureBody);
  const signed = await options.agreements.accept(row, { artifact });
  await amendProcess(options.its, row, ({ data }): NegotiationData | undefined =>
    data.agreement?.artifact?.signatures.length === 2 ? undefined : { ...data, agreement: signed },
  );
  return answer({ agreementDigest: signed.digest });
};

const show = async (c: Context, options: ExtensionOptions): Promise<Response> => {
  const { data } = await findFor(c, options);
  if (data.status === 'none' || data.status === 'signed' || data.agreement === null) throw new AppError('not-found');
  const { digest, artifact } = data.agreement;
  return answer({ status: data.status, agreementDigest: digest, artifact });
};

export const createAgreementRoutes = (options: ExtensionOptions): Hono => {
  const app = new Hono();
  const safely = (work: (c: Context, its: ExtensionOptions) => Promise<Response>) => (c: Context) =>
    work(c, options).catch((error: unknown) => {
      options.log.info({ error }, 'an agreement request was refused');
      return problemResponse(error);
    });
  app.get('/agreements/:id/draft', safely(draft));
  app.post('/agreements/:id/signature', safely(sign));
  app.get('/agreements/:id', safely(show));
  return app;
};
