import { type Context, Hono } from 'hono';
import { AppError } from '../../contracts/errors.ts';
import { readAnyJson } from '../../kernel/http/body.ts';
import { problemResponse } from '../../kernel/http/problem.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Ledger } from './service.ts';

/** The log over HTTP: static files for everybody (ledger §5), registration and newest statements for parties (wire §6). */

/** The DID that a request proves; throws AppError `unauthenticated`. */
export type Authenticate = (request: Request) => Promise<string>;

export interface LedgerRoutesOptions {
  readonly ledger: Ledger;
  readonly authenticate: Authenticate;
  readonly log: Logger;
}

/** An artifact with two signatures and its sums is far below this; an agreement carries its whole policy. */
const bodyLimits = { maxBytes: 262_144, maxDepth: 32 };
const immutable = 'public, max-age=31536000, immutable';

const number = 'x\\d{3}/';
const tilePattern = new RegExp(
  `^tile/(\\d{1,2}|entries)/(${number})*\\d{3}(\\.p/([1-9]|[1-9]\\d|1\\d\\d|2[0-4]\\d|25[0-5]))?$`,
);

/** The path of the log below its host: `broker.example/log/2026` is served at `/log/2026`. */
export const logPathOf = (origin: string): string => origin.slice(origin.indexOf('/'));

const bytesResponse = (bytes: Uint8Array, type: string, cache: string): Response =>
  new Response(new Uint8Array(bytes), {
    headers: { 'content-type': type, 'cache-control': cache, 'access-control-allow-origin': '*' },
  });

const serveTile = async (ledger: Ledger, path: string): Promise<Response> => {
  const bytes = tilePattern.test(path) ? await ledger.file(path) : undefined;
  if (bytes === undefined) throw new AppError('not-found');
  return bytesResponse(bytes, 'application/octet-stream', immutable);
};

const serveCheckpoint = async (ledger: Ledger): Promise<Response> => {
  const note = await ledger.newestCheckpoint();
  if (note === undefined) throw new AppError('not-found');
  return bytesResponse(new TextEncoder().encode(note), 'text/plain; charset=utf-8', 'public, max-age=1');
};

const serveArtifact = async (ledger: Ledger, digest: string): Promise<Response> => {
  const text = /^[0-9a-f]{64}$/.test(digest) ? await ledger.publicArtifact(digest) : undefined;
  if (text === undefined) throw new AppError('not-found');
  return bytesResponse(new TextEncoder().encode(text), 'application/json', immutable);
};

const indexOf = (text: string): number => {
  if (!/^(0|[1-9]\d{0,15})$/.test(text)) throw new AppError('not-found');
  return Number(text);
};

const register = async ({ ledger, authenticate }: LedgerRoutesOptions, context: Context): Promise<Response> => {
  const caller = await authenticate(context.req.raw);
  const body = await readAnyJson(context.req.raw, bodyLimits);
  const { promise, duplicateOf } = await ledger.register(body, caller);
  if (duplicateOf === null) return context.json(promise, 201);
  const artifact: unknown = duplicateOf === undefined ? null : JSON.parse(duplicateOf);
  return context.json({ promise, artifact });
};

/** All routes of the log; mounted at the root of the broker's public surface. */
export const createLedgerRoutes = (options: LedgerRoutesOptions): Hono => {
  const { ledger, authenticate, log } = options;
  const base = logPathOf(ledger.origin);
  const app = new Hono();
  app.onError((error) => {
    if (!(error instanceof AppError) || !error.expose) log.error({ err: error }, 'a request to the log failed');
    return problemResponse(error);
  });

  app.post('/log/entries', (context) => register(options, context));
  app.post('/log/equivocations', async (context) => {
    await authenticate(context.req.raw);
    const against = await ledger.reportEquivocation(await readAnyJson(context.req.raw, bodyLimits));
    return context.json({ against }, 201);
  });
  app.get('/log/equivocations/:agreementDigest', async (context) => {
    const caller = await authenticate(context.req.raw);
    return context.json({ proofs: await ledger.equivocations(context.req.param('agreementDigest'), caller) });
  });
  app.get('/ext/1/statements/:agreementDigest/newest', async (context) => {
    const caller = await authenticate(context.req.raw);
    return context.json(await ledger.newestStatement(context.req.param('agreementDigest'), caller));
  });

  app.get(`${base}/checkpoint`, () => serveCheckpoint(ledger));
  app.get(`${base}/tile/*`, (context) => serveTile(ledger, context.req.path.slice(base.length + 1)));
  app.get(`${base}/artifact/:digest`, (context) => serveArtifact(ledger, context.req.param('digest')));
  app.get(`${base}/proof/:index`, async (context) =>
    context.json(await ledger.proof(indexOf(context.req.param('index')))),
  );
  return app;
};
