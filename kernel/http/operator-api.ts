import { OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { AppError, type Fault } from '../../contracts/errors.ts';
import type { Json } from '../../contracts/json.ts';
import type { Logger } from '../log.ts';
import { type Metrics, metricsType } from '../metrics.ts';
import { faultsOf, readAnyJson } from './body.ts';
import { createOperatorCheck, type OperatorRules, operatorHeaders } from './operator.ts';
import { asAppError, type ProblemStyle, problemResponse } from './problem.ts';

/**
 * The frame of an operator's API: one definition for each endpoint gives its route, the strict reading of what arrives, the
 * form of what is answered, and its part of the OpenAPI document. All faults of path, query and body are told at once.
 */

const apiVersion = '1.0.0';

export interface OperatorApiOptions<Given extends object> extends OperatorRules {
  /** What every handler is given beside its input. */
  readonly given: Given;
  readonly log: Logger;
  readonly style?: ProblemStyle;
}

type Shape = z.ZodObject;

/** One endpoint, without what it does. Paths are written as OpenAPI writes them: `/v1/offers/{id}`. */
export interface Endpoint<Params extends Shape, Query extends Shape, Body extends z.ZodType, Answer extends z.ZodType> {
  readonly method: 'get' | 'post' | 'delete';
  readonly path: string;
  readonly id: string;
  readonly tag: string;
  readonly summary: string;
  readonly params?: Params;
  readonly query?: Query;
  readonly body?: Body;
  /** Faults of a body beyond its form, found also when its form is wrong elsewhere. */
  readonly moreFaults?: (body: Json) => Promise<readonly Fault[]>;
  readonly status: 200 | 201 | 202 | 204;
  readonly answer?: Answer;
  /** What it answers with, when that is no JSON of a schema. */
  readonly mediaType?: string;
}

export interface Input<Params extends Shape, Query extends Shape, Body extends z.ZodType> {
  readonly params: z.output<Params>;
  readonly query: z.output<Query>;
  readonly body: z.output<Body>;
  readonly request: Request;
}

/** An API that endpoints are added to. */
export interface OperatorApi<Given extends object> {
  readonly app: OpenAPIHono;
  readonly endpoint: <
    Params extends Shape = z.ZodObject<Record<never, never>>,
    Query extends Shape = z.ZodObject<Record<never, never>>,
    Body extends z.ZodType = z.ZodUndefined,
    Answer extends z.ZodType = z.ZodUndefined,
  >(
    definition: Endpoint<Params, Query, Body, Answer>,
    handle: (input: Input<Params, Query, Body> & Given) => Promise<z.input<Answer> | Response>,
  ) => void;
}

const problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string().optional(),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .openapi('Problem');

const none = z.strictObject({});

const placed = (place: string, result: { readonly error?: z.ZodError | undefined }): Fault[] =>
  result.error === undefined
    ? []
    : faultsOf(result.error).map(({ path, message }) => ({ path: `${place}${path}`, message }));

/** A query as an object of texts; a name that stands twice says two things, and neither counts. */
const queryOf = (c: Context): { readonly values: Record<string, string>; readonly faults: readonly Fault[] } => {
  const entries = Object.entries(c.req.queries());
  const values = Object.fromEntries(entries.map(([name, [value = '']]) => [name, value]));
  const twice = entries.filter(([, all]) => all.length > 1).map(([name]) => name);
  return { values, faults: twice.map((name) => ({ path: `/query/${name}`, message: 'stands there more than once' })) };
};

const semanticFaults = async (
  more: ((body: Json) => Promise<readonly Fault[]>) | undefined,
  body: Json | undefined,
): Promise<readonly Fault[]> => (more === undefined || body === undefined ? [] : more(body));

/** Reads path, query and body by their schemas. @throws AppError with the faults of all three. */
const readInput = async <Params extends Shape, Query extends Shape, Body extends z.ZodType, Answer extends z.ZodType>(
  c: Context,
  definition: Endpoint<Params, Query, Body, Answer>,
): Promise<Input<Params, Query, Body>> => {
  const params = (definition.params ?? none).safeParse(c.req.param());
  const { values, faults } = queryOf(c);
  const query = (definition.query ?? none).safeParse(values);
  const raw = definition.body === undefined ? undefined : await readAnyJson(c.req.raw);
  const body = (definition.body ?? z.undefined()).safeParse(raw);
  const outside = [...placed('/path', params), ...faults, ...placed('/query', query)];
  const inside = body.success ? [] : [...placed('', body), ...(await semanticFaults(definition.moreFaults, raw))];
  if (inside.length > 0) throw new AppError('body-invalid', { faults: [...outside, ...inside] });
  if (outside.length > 0) throw new AppError('request-invalid', { faults: outside });
  return {
    // Each was parsed by the schema of its definition, or is empty because the definition has none.
    params: params.data as z.output<Params>,
    query: query.data as z.output<Query>,
    body: body.data as z.output<Body>,
    request: c.req.raw,
  };
};

const jsonContent = (schema: z.ZodType) => ({ 'application/json': { schema } });

const documented = <Params extends Shape, Query extends Shape, Body extends z.ZodType, Answer extends z.ZodType>(
  definition: Endpoint<Params, Query, Body, Answer>,
) => {
  const { method, path, id, tag, summary, params, query, body, status, answer, mediaType } = definition;
  const content =
    mediaType === undefined
      ? answer === undefined
        ? {}
        : { content: jsonContent(answer) }
      : { content: { [mediaType]: { schema: answer ?? z.string() } } };
  return {
    method,
    path,
    operationId: id,
    tags: [tag],
    summary,
    security: [{ bearer: [] }],
    request: {
      ...(params === undefined ? {} : { params }),
      ...(query === undefined ? {} : { query }),
      ...(body === undefined ? {} : { body: { required: true, content: jsonContent(body) } }),
    },
    responses: {
      [status]: { description: summary, ...content },
      default: {
        description: 'Problem details (RFC 9457)',
        content: { 'application/problem+json': { schema: problem } },
      },
    },
  };
};

/** Writes what the schema of the answer names, and nothing more: a row may know what its operator need not. */
const writeAnswer = (status: number, schema: z.ZodType | undefined, answer: unknown): Response => {
  if (answer instanceof Response) return answer;
  if (schema === undefined) return new Response(null, { status });
  return Response.json(schema.parse(answer), { status });
};

const protect = <Given extends object>(app: OpenAPIHono, options: OperatorApiOptions<Given>): void => {
  const { log, style } = options;
  const check = createOperatorCheck(options);
  app.use('*', async (c, next) => {
    await next();
    for (const [name, value] of Object.entries(operatorHeaders)) c.res.headers.set(name, value);
    c.res.headers.set('api-version', apiVersion);
    if (c.res.status === 401) c.res.headers.set('www-authenticate', 'Bearer');
  });
  app.use('*', async (c, next) => {
    check.host(c.req.raw);
    await next();
  });
  for (const path of ['/v1/*', '/metrics']) {
    app.use(path, async (c, next) => {
      check.token(c.req.raw);
      await check.rate();
      await next();
    });
  }
  app.notFound(() => problemResponse(new AppError('not-found')));
  app.onError((thrown) => {
    const error = asAppError(thrown);
    log[error.expose ? 'info' : 'error']({ err: error }, "a request to the operator's API was refused");
    return problemResponse(error, style);
  });
};

/** An empty API, protected; endpoints are added to it. */
export const createOperatorApi = <Given extends object>(options: OperatorApiOptions<Given>): OperatorApi<Given> => {
  const app = new OpenAPIHono();
  app.openAPIRegistry.registerComponent('securitySchemes', 'bearer', { type: 'http', scheme: 'bearer' });
  protect(app, options);
  return {
    app,
    endpoint: (definition, handle) => {
      app.openAPIRegistry.registerPath(documented(definition));
      const path = definition.path.replaceAll(/\{(\w+)\}/g, ':$1');
      app.on(definition.method.toUpperCase(), path, async (c) => {
        const input = await readInput(c, definition);
        return writeAnswer(definition.status, definition.answer, await handle({ ...input, ...options.given }));
      });
    },
  };
};

/**
 * `GET /metrics`: the figures of this service, for whoever holds the operator's token. It stands outside the described
 * API: its form is Prometheus's own.
 */
export const addMetricsRoute = <Given extends object>({ app }: OperatorApi<Given>, metrics: Metrics): void =>
  void app.get('/metrics', async (c) => c.body(await metrics.text(), 200, { 'content-type': metricsType }));

const about = `What the operator can see and do. Times are RFC 3339 in UTC; amounts are integers in units of 10^-scale.
Faults are problem details (RFC 9457) and name everything that is wrong at once.`;

/**
 * Closes the API: the document of everything in it, which is open as the NLGov API Design Rules ask and says nothing of
 * this deployment, and an answer for methods that a path does not take.
 */
export const finishOperatorApi = <Given extends object>({ app }: OperatorApi<Given>, title: string): void => {
  const document = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title,
      version: apiVersion,
      description: about,
      contact: { name: 'The operator of this deployment' },
      license: { name: 'EUPL-1.2' },
    },
    servers: [{ url: '/', description: 'This deployment' }],
  });
  app.get('/openapi.json', () => Response.json(document, { headers: { 'access-control-allow-origin': '*' } }));
  const paths = new Map(Object.entries(document.paths ?? {}).map(([path, item]) => [path, Object.keys(item)]));
  for (const [path, methods] of paths) {
    app.all(path.replaceAll(/\{(\w+)\}/g, ':$1'), () => {
      const refused = problemResponse(new AppError('method-not-allowed'));
      refused.headers.set('allow', methods.map((method) => method.toUpperCase()).join(', '));
      return refused;
    });
  }
};
