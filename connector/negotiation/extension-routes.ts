import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import type { Json } from '../../contracts/json.ts';
import { generalJws } from '../../contracts/ledger/jws.ts';
import { readJson } from '../../kernel/http/body.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import { enter, type Purpose, type RouteOptions } from '../exchange/http.ts';
import type { Caller } from '../exchange/ports.ts';
import { useUp } from '../exchange/receive.ts';
import { amendProcess } from '../exchange/send.ts';
import type { AgreementService } from './agreements.ts';
import { signedParts } from './end-events.ts';
import type { Ending } from './ending.ts';
import type { NegotiationRow, RegisteredAgreements } from './ports.ts';
import type { Exchanged } from './process.ts';
import { successorIn } from './rules.ts';

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
  readonly ending: Pick<Ending, 'onEnd'>;
  readonly registered: RegisteredAgreements;
}

/** The caller, and its process with this agreement. */
const findFor = async (
  c: Context,
  options: ExtensionOptions,
  purpose: Purpose = 'read',
): Promise<{ readonly row: NegotiationRow; readonly caller: Caller }> => {
  const { participant, caller } = await enter(c, options, purpose);
  const row = await options.its.store.findByName(participant, 'agreement', c.req.param('id') ?? '');
  if (row === undefined || row.peer !== caller.did || row.data.agreement === null) throw new AppError('not-found');
  return { row, caller };
};

const draft = async (c: Context, options: ExtensionOptions): Promise<Response> => {
  const { process, data } = (await findFor(c, options)).row;
  if (process.role !== 'provider' || data.agreement?.artifact == null || data.agreement.leafKey === null)
    throw new AppError('not-found');
  const { artifact, leafKey } = data.agreement;
  const [own] = artifact.signatures;
  return answer({ artifact: { payload: artifact.payload, signatures: own === undefined ? [] : [own] }, leafKey });
};

const sign = async (c: Context, options: ExtensionOptions): Promise<Response> => {
  const { row, caller } = await findFor(c, options, 'message');
  if (row.process.role !== 'provider') throw new AppError('not-found');
  const { artifact } = await readJson(c.req.raw, signatureBody);
  const signed = await options.agreements.accept(row, { artifact });
  let isRepeat = false;
  await amendProcess(options.its, row, ({ data }) => {
    isRepeat = data.agreement?.artifact?.signatures.length === 2;
    return isRepeat ? undefined : { data: { ...data, agreement: signed }, token: caller.token };
  });
  if (isRepeat) await useUp(caller);
  return answer({ agreementDigest: signed.digest });
};

/** Before it is in force there is a draft, and no agreement (dsp §12.2). */
const isShown = ({ data }: NegotiationRow): boolean =>
  data.agreement !== null && data.status !== 'none' && data.status !== 'signed';

const show = async (c: Context, options: ExtensionOptions): Promise<Response> => {
  const { row } = await findFor(c, options);
  const { participant, data } = row;
  if (!isShown(row) || data.agreement === null) throw new AppError('not-found');
  const { digest, artifact } = data.agreement;
  const found = await options.registered.find(participant, digest);
  return answer({
    status: data.status,
    agreementDigest: digest,
    artifact,
    event: data.end?.artifact ?? null,
    successor: (data.end?.waits !== true && successorIn(data.end?.reason ?? '')) || null,
    registration: found === undefined ? null : { index: String(found.index), promise: found.promise },
  });
};

const pageSize = 100;
const maxCursor = 512;

/** The caller's own agreements, in the order in which they were negotiated (dsp §12.2). */
const list = async (c: Context, options: ExtensionOptions): Promise<Response> => {
  const { participant, caller } = await enter(c, options);
  const after = c.req.query('cursor') ?? '';
  if (after.length > maxCursor) throw new AppError('request-invalid', { detail: 'the cursor is none of ours' });
  const group = { name: 'agreed', value: caller.did };
  const rows = await options.its.store.listGroup(participant, group, { after, limit: pageSize + 1 });
  const page = rows.slice(0, pageSize);
  return answer({
    agreements: page.filter(isShown).map(({ process, data }) => ({
      id: String(data.agreement?.agreement['@id'] ?? ''),
      agreementDigest: data.agreement?.digest ?? '',
      role: process.role === 'provider' ? 'consumer' : 'provider',
      status: data.status,
    })),
    cursor: rows.length > pageSize ? (page.at(-1)?.pid ?? null) : null,
  });
};

const end = async (c: Context, options: ExtensionOptions): Promise<Response> => {
  const { row, caller } = await findFor(c, options);
  return answer({ ...(await options.ending.onEnd(row, caller, await readJson(c.req.raw, signedParts))) });
};

export const createAgreementRoutes = (options: ExtensionOptions): Hono => {
  const app = new Hono();
  const safely = (work: (c: Context, its: ExtensionOptions) => Promise<Response>) => (c: Context) =>
    work(c, options).catch((error: unknown) => {
      options.log.info({ error }, 'an agreement request was refused');
      return problemResponse(error);
    });
  app.get('/agreements', safely(list));
  app.get('/agreements/:id/draft', safely(draft));
  app.post('/agreements/:id/signature', safely(sign));
  app.post('/agreements/:id/events', safely(end));
  app.get('/agreements/:id', safely(show));
  return app;
};
