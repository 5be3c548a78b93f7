import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

/** A small feature service in the manner of OGC API Features: collections, pages, links, entity tags. */

export interface Feature {
  readonly type: 'Feature';
  readonly id: string;
  readonly geometry: unknown;
  readonly properties: Readonly<Record<string, unknown>>;
}

export interface Collection {
  readonly id: string;
  readonly title: string;
  /** Source and licence, for whoever reads the data. */
  readonly attribution: string;
  readonly features: () => readonly Feature[];
}

const maxLimit = 1_000;
const defaultLimit = 100;

const numberIn = (text: string | null, fallback: number, max: number): number => {
  const value = Number(text ?? fallback);
  return Number.isInteger(value) && value >= 0 ? Math.min(value, max) : fallback;
};

const pageOf = (collection: Collection, query: URLSearchParams) => {
  const features = collection.features();
  const limit = Math.max(1, numberIn(query.get('limit'), defaultLimit, maxLimit));
  const offset = numberIn(query.get('offset'), 0, features.length);
  const page = features.slice(offset, offset + limit);
  const link = (rel: string, from: number) => ({
    rel,
    type: 'application/geo+json',
    href: `items?limit=${limit}&offset=${from}`,
  });
  return {
    type: 'FeatureCollection',
    attribution: collection.attribution,
    numberMatched: features.length,
    numberReturned: page.length,
    links: [link('self', offset), ...(offset + limit < features.length ? [link('next', offset + limit)] : [])],
    features: page,
  };
};

const answer = (request: IncomingMessage, response: ServerResponse, body: unknown, type: string): void => {
  const bytes = Buffer.from(JSON.stringify(body));
  const etag = `"${createHash('sha256').update(bytes).digest('base64url').slice(0, 22)}"`;
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304, { etag }).end();
    return;
  }
  response.writeHead(200, { 'content-type': type, 'content-length': bytes.length, etag });
  response.end(request.method === 'HEAD' ? undefined : bytes);
};

const route = (collections: readonly Collection[], request: IncomingMessage, response: ServerResponse): void => {
  const url = new URL(request.url ?? '/', 'http://localhost');
  const parts = url.pathname.split('/').filter((part) => part !== '');
  const collection = collections.find(({ id }) => id === parts[1]);
  const list = collections.map(({ id, title, attribution }) => ({ id, title, attribution }));
  if (parts.length === 0 || (parts.length === 1 && parts[0] === 'collections'))
    answer(request, response, { collections: list }, 'application/json');
  else if (parts[0] === 'collections' && collection !== undefined && parts.length === 2)
    answer(
      request,
      response,
      list.find(({ id }) => id === collection.id),
      'application/json',
    );
  else if (parts[0] === 'collections' && collection !== undefined && parts[2] === 'items' && parts.length === 3)
    answer(request, response, pageOf(collection, url.searchParams), 'application/geo+json');
  else response.writeHead(404, { 'content-type': 'application/json' }).end('{"title":"not found"}');
};

/** Serves collections on a free port of loopback; with a `key`, only to those who send it as `x-api-key`. */
export const serveFeatures = (
  collections: readonly Collection[],
  { key }: { readonly key?: string } = {},
): Promise<{ readonly port: number; readonly close: () => Promise<void> }> =>
  new Promise((resolve, reject) => {
    const server = createServer((request, response) => {
      if (key === undefined || request.headers['x-api-key'] === key) route(collections, request, response);
      else response.writeHead(401, { 'content-type': 'application/json' }).end('{"title":"a key is needed"}');
    });
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve({
        port: typeof address === 'object' && address !== null ? address.port : 0,
        close: () => new Promise((done) => server.close(() => done())),
      });
    });
  });
