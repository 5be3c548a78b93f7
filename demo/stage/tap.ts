import { createServer, request as httpRequest, type IncomingHttpHeaders } from 'node:http';

/**
 * Somebody on the line: everything for a data plane passes through here unchanged, and the headers of each request are
 * kept. It shows that whoever copies a request, token and proof included, has nothing.
 */

export interface TappedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
}

export interface Tap {
  readonly url: string;
  readonly seen: readonly TappedRequest[];
  readonly close: () => Promise<void>;
}

export const startTap = (port: number, target: number): Promise<Tap> =>
  new Promise((resolve, reject) => {
    const seen: TappedRequest[] = [];
    const server = createServer((incoming, outgoing) => {
      const { method = 'GET', url = '/', headers } = incoming;
      seen.push({ method, path: url, headers });
      const forward = httpRequest({ host: '127.0.0.1', port: target, method, path: url, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
        answer.pipe(outgoing);
        answer.once('error', () => outgoing.destroy());
      });
      forward.once('error', () => outgoing.destroy());
      outgoing.once('close', () => forward.destroy());
      incoming.pipe(forward);
    });
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () =>
      resolve({
        url: `http://localhost:${port}`,
        seen,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      }),
    );
  });
