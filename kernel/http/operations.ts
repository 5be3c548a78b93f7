import { OpenAPIHono, z } from '@hono/zod-openapi';
import { type Context, Hono } from 'hono';
import { AppError, type Fault } from '../../contracts/errors.ts';
import type { JsonLimits } from '../../contracts/json.ts';
import type { Logger } from '../log.ts';
import { faultsOf, readAnyJson } from './body.ts';
import { createOperatorCheck, type OperatorRules, operatorHeaders } from './operator.ts';
import { problemResponse } from './problem.ts';

/**
 * An operator's API as a table of operations: one declaration parses what comes, types the handler and makes the OpenAPI
 * document. Bodies are read as strictly as everywhere (no key twice, limits), and all faults are named at once.
 */

const nothing = z.object({});

interface OperationOf<
  Params extends z.ZodObject,
  Query extends z.ZodObject,
  Body extends z.ZodType,
  Answer extends z.ZodType,
> {
  readonly method: 'get' | 'post' | 'delete';
  /** With `{name}` for each parameter. */
  readonly path: string;
  readonly summary: string;
  readonly tag: string;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  readonly status: 200 | 201 | 202;
  readonly answer: Answer;
  readonly handle: (input: {
    readonly params: z.output<Params>;
    readonly query: z.output<Query>;
    readonly body: z.output<Body>;
  }) => Promise<z.input<Answer>>;
}

/** One operation, ready to be mounted. */
export type Operation = (app: OpenAPIHono) => void;

const limits: JsonLimits = { maxBytes: 262_144, maxDepth: 16 };

const problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string().optional(),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .openapi('Problem');

const parsePart = <Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  prefix: string,
): { readonly value: z.output<Schema> | undefined; readonly faults: readonly Fault[] } => {
  const parsed = schema.safeParse(value);
  return parsed.success
    ? { value: parsed.data, faults: [] }
    : {
        value: undefined,
        faults: faultsOf(parsed.error).map(({ path, message }) => ({ path: `${prefix}${path}`, message })),
      };
};

/** Declares one operation. */
export const operation = <
  Answer extends z.ZodType,
  Params extends z.ZodObject = typeof nothing,
  Query extends z.ZodObject = typeof nothing,
  Body extends z.ZodType = z.ZodUndefined,
>(
  its: OperationOf<Params, Query, Body, Answer>,
): Operation => {
  const run = async (context: Context): Promise<Response> => {
    const params = parsePart(its.params ?? nothing, context.req.param(), 'path:');
    const query = parsePart(its.query ?? z.strictObject({}), context.req.query(), 'query:');
    const sent = its.body === undefined ? undefined : await readAnyJson(context.req.raw, limits);
    const body = parsePart(its.body ?? z.undefined(), sent, '');
    const faults = [...params.faults, ...query.faults, ...body.faults];
    if (faults.length > 0) throw new AppError('body-invalid', { faults });
    const answer = await its.handle({
      params: params.value as z.output<Params>, // each was parsed by the schema it is typed by, or there were faults
      query: query.value as z.output<Query>,
      body: body.value as z.output<Body>,
    });
    return context.json(its.answer.parse(answer), its.status);
  };
  return (app) => {
    app.openAPIRegistry.registerPath({
      method: its.method,
      path: its.path,
      summary: its.summary,
      tags: [its.tag],
      security: [{ operator: [] }],
      request: {
        ...(its.params === undefined ? {} : { params: its.params }),
        ...(its.query === undefined ? {} : { query: its.query }),
        ...(its.body === undefined
          ? {}
          : { body: { required: true, content: { 'application/json': { schema: its.body } } } }),
      },
      responses: {
        [its.status]: { description: its.summary, content: { 'application/json': { schema: its.answer } } },
        default: { description: 'What was wrong.', content: { 'application/problem+json': { schema: problem } } },
      },
    });
    app.on(its.method, its.path.replaceAll(/\{(\w+)\}/g, ':$1'), run);
  };
};

/** Where a page of a list begins, and how long it is. */
export const pageQuery = z.strictObject({
  after: z.string().max(2048).default('').describe('`next` of the page before'),
  limit: z
    .string()
    .regex(/^[1-9]\d{0,2}$/, 'is no number from 1 to 999')
    .transform(Number)
    .pipe(z.number().max(200, 'is above 200'))
    .default(50),
});

/** A page of a list; `next` is null on the last one. */
export const pageOf = <Item extends z.ZodType>(item: Item) =>
  z.object({ items: z.array(item), next: z.string().nullable() });

/** The page out of one row more than was asked for. */
export const toPage = <Row, Item>(
  rows: readonly Row[],
  its: { readonly limit: number; readonly keyOf: (row: Row) => string; readonly show: (row: Row) => Item },
): { items: Item[]; next: string | null } => {
  const shown = rows.slice(0, its.limit);
  const last = shown.at(-1);
  return { items: shown.map(its.show), next: rows.length > its.limit && last !== undefined ? its.keyOf(last) : null };
};

export interface OperatorApiOptions extends OperatorRules {
  readonly title: string;
  readonly operations: readonly Operation[];
  readonly log: Logger;
}

/** The API over HTTP: every path asks for the token, `/openapi.json` too. */
export const createOperatorApi = ({ title, operations, log, token, hosts }: OperatorApiOptions): Hono => {
  const check = createOperatorCheck({ token, hosts });
  const api = new OpenAPIHono();
  for (const mount of operations) mount(api);
  api.openAPIRegistry.registerComponent('securitySchemes', 'operator', { type: 'http', scheme: 'bearer' });
  const document = api.getOpenAPI31Document({ openapi: '3.1.0', info: { title, version: '1.0.0' } });

  const app = new Hono();
  app.onError((error) => {
    const isOurs = !(error instanceof AppError) || !error.expose;
    log[isOurs ? 'error' : 'info']({ err: error }, 'a request of the operator failed');
    return problemResponse(error);
  });
  app.notFound(() => problemResponse(new AppError('not-found')));
  app.use(async (context, next) => {
    await next();
    for (const [name, value] of Object.entries(operatorHeaders)) context.header(name, value);
  });
  app.use(async (context, next) => {
    check.host(context.req.raw);
    check.token(context.req.raw);
    await next();
  });
  app.get('/openapi.json', (context) => context.json(document));
  app.route('/', api);
  return app;
};
