import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { until } from './waiting.ts';

/** An HTTP server of somebody's own: sources are read here, pushes and call-backs arrive here. */

export interface Arrival {
  readonly method: string;
  readonly path: string;
  readonly body: string;
}

export interface Sink extends AsyncDisposable {
  readonly origin: string;
  readonly arrivals: readonly Arrival[];
  /** The first arrival below this path. */
  readonly arrived: (path: string) => Promise<Arrival>;
}

/** What every GET answers. */
export const sourceText = '{"levels":[1,2,3]}';

export const openSink = async (): Promise<Sink> => {
  const arrivals: Arrival[] = [];
  const server = createServer(async (message, response) => {
    const parts: Buffer[] = [];
    for await (const part of message) parts.push(part);
    const { method = '', url: path = '' } = message;
    arrivals.push({ method, path, body: Buffer.concat(parts).toString('utf8') });
    // A push that meets a closed connection is not sent again by everybody, so none is kept open.
    response.writeHead(200, { 'content-type': 'application/json', connection: 'close' }).end(sourceText);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    origin: `http://localhost:${(server.address() as AddressInfo).port}`,
    arrivals,
    arrived: (path) => until(`an arrival at ${path}`, () => arrivals.find((one) => one.path.startsWith(path))),
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
};
