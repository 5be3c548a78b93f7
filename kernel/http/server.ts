import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { AppError } from '../../contracts/errors.ts';

/** Servers of a service: limits on everything that a slow or hostile client could hold, and a stop that lets work end. */

interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface ListenOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** PEM files; without them a proxy in front ends TLS. */
  readonly tls?: TlsFiles | undefined;
  /** Requests that may take as long as something comes: their bodies are streamed. All others have a minute. */
  readonly isLong?: (path: string) => boolean;
  /** Several servers take connections on the same port: the system shares them out. */
  readonly reusePort?: boolean;
}

export interface RunningServer extends AsyncDisposable {
  readonly port: number;
}

const headersTimeoutMs = 10_000;
const requestTimeoutMs = 60_000;
const keepAliveTimeoutMs = 30_000;
const maxConnections = 4_096;
const maxHeaderBytes = 32_768;
/** What is under way when the server stops may take this long; then connections are cut. */
const graceMs = 5_000;

const bind = (server: Server, { host, port, reusePort = false }: ListenOptions): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const isTaken = cause.code === 'EADDRINUSE';
      const detail = isTaken
        ? `port ${port} of ${host} is taken`
        : `this process cannot listen on port ${port} of ${host} (${cause.code ?? cause.message})`;
      reject(new AppError(isTaken ? 'port-in-use' : 'config-invalid', { detail, cause }));
    });
    server.listen({ host, port, reusePort }, resolve);
  });

const stop = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), graceMs);
    server.close(() => {
      clearTimeout(cut);
      resolve();
    });
    server.closeIdleConnections();
  });

const createTlsServer = (limits: object, { certFile, keyFile }: TlsFiles, listener: RequestListener): Server => {
  try {
    return createHttpsServer(
      { ...limits, cert: readFileSync(certFile), key: readFileSync(keyFile), minVersion: 'TLSv1.2' },
      listener,
    );
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'they cannot be read';
    throw new AppError('config-invalid', {
      detail: `STEKKER_TLS_CERT ${certFile} and STEKKER_TLS_KEY ${keyFile} are no certificate with its key: ${why}`,
      cause,
    });
  }
};

/** A minute for each request by itself, because the platform has one limit for all; and for long ones, as long as something comes. */
const withDeadline =
  (listener: RequestListener, isLong: (path: string) => boolean): RequestListener =>
  (request, response) => {
    const { socket } = request;
    if (isLong(request.url ?? '')) {
      socket.setTimeout(requestTimeoutMs, () => socket.destroy());
      response.setHeader('connection', 'close'); // the next request on it would find that limit
    } else {
      const late = setTimeout(() => socket.destroy(), requestTimeoutMs);
      for (const event of ['end', 'close'] as const) request.once(event, () => clearTimeout(late));
    }
    listener(request, response);
  };

/** Starts a server over a plain request listener. @throws AppError `port-in-use`, `config-invalid`. */
export const listen = async (listener: RequestListener, options: ListenOptions): Promise<RunningServer> => {
  const { isLong } = options;
  const limits = {
    headersTimeout: headersTimeoutMs,
    requestTimeout: isLong === undefined ? requestTimeoutMs : 0,
    keepAliveTimeout: keepAliveTimeoutMs,
    maxHeaderSize: maxHeaderBytes,
  };
  const { tls } = options;
  const handler = isLong === undefined ? listener : withDeadline(listener, isLong);
  const server = tls === undefined ? createHttpServer(limits, handler) : createTlsServer(limits, tls, handler);
  server.maxConnections = maxConnections;
  await bind(server, options);
  const { port } = server.address() as AddressInfo; // a TCP server has one once it listens
  return { port, [Symbol.asyncDispose]: () => stop(server) };
};

/** What answers requests: an application of Hono, whatever its kind. */
export interface Routes {
  readonly fetch: (request: Request) => Response | Promise<Response>;
}

/** Starts a server over routes. @throws AppError `port-in-use`, `config-invalid`. */
export const serveRoutes = (app: Routes, options: ListenOptions): Promise<RunningServer> =>
  listen(
    getRequestListener((request) => app.fetch(request), { overrideGlobalObjects: false }),
    options,
  );
