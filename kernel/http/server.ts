import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import { AppError } from '../../contracts/errors.ts';

/** Servers of a service: limits on everything that a slow or hostile client could hold, and a stop that lets work end. */

export interface ListenOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** PEM files; without them a proxy in front ends TLS. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string } | undefined;
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

const bind = (server: Server, { host, port }: ListenOptions): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const detail = `port ${port} of ${host} is taken`;
      reject(cause.code === 'EADDRINUSE' ? new AppError('port-in-use', { detail, cause }) : cause);
    });
    server.listen({ host, port }, resolve);
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

/** Starts a server over a plain request listener. @throws AppError `port-in-use`. */
export const listen = async (listener: RequestListener, options: ListenOptions): Promise<RunningServer> => {
  const limits = {
    headersTimeout: headersTimeoutMs,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    maxHeaderSize: maxHeaderBytes,
  };
  const { tls } = options;
  const server =
    tls === undefined
      ? createHttpServer(limits, listener)
      : createHttpsServer(
          { ...limits, cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile), minVersion: 'TLSv1.2' },
          listener,
        );
  server.maxConnections = maxConnections;
  await bind(server, options);
  const { port } = server.address() as AddressInfo; // a TCP server has one once it listens
  return { port, [Symbol.asyncDispose]: () => stop(server) };
};

/** What answers requests: an application of Hono, whatever its kind. */
export interface Routes {
  readonly fetch: (request: Request) => Response | Promise<Response>;
}

/** Starts a server over routes. @throws AppError `port-in-use`. */
export const serveRoutes = (app: Routes, options: ListenOptions): Promise<RunningServer> =>
  listen(
    getRequestListener((request) => app.fetch(request), { overrideGlobalObjects: false }),
    options,
  );
