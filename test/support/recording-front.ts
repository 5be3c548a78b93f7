import { createServer, request } from 'node:http';

/** Somebody in front of a connector who writes down what goes in and out, byte for byte, and changes nothing. */

export interface Passed {
  readonly method: string;
  readonly path: string;
  readonly sent: string;
  readonly status: number;
  readonly answered: string;
}

export interface RecordingFront extends AsyncDisposable {
  readonly passed: readonly Passed[];
}

const maxBytes = 1 << 20;

const collect = () => {
  const chunks: Buffer[] = [];
  let size = 0;
  return {
    take: (chunk: Buffer) => {
      size += chunk.length;
      if (size <= maxBytes) chunks.push(chunk);
    },
    text: () => Buffer.concat(chunks).toString('utf8'),
  };
};

/** Listens where the connector is said to be, and passes everything on to where it is. */
export const startRecordingFront = (port: number, target: number): Promise<RecordingFront> =>
  new Promise((resolve, reject) => {
    const passed: Passed[] = [];
    const server = createServer((incoming, outgoing) => {
      const { method = 'GET', url: path = '/', headers } = incoming;
      const [sent, answered] = [collect(), collect()];
      const forward = request({ host: '127.0.0.1', port: target, method, path, headers }, (answer) => {
        const status = answer.statusCode ?? 502;
        outgoing.writeHead(status, answer.rawHeaders);
        answer.on('data', answered.take).once('error', () => outgoing.destroy());
        answer.once('end', () => passed.push({ method, path, sent: sent.text(), status, answered: answered.text() }));
        answer.pipe(outgoing);
      });
      forward.once('error', () => outgoing.destroy());
      outgoing.once('close', () => forward.destroy());
      incoming.on('data', sent.take).pipe(forward);
    });
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () =>
      resolve({
        passed,
        [Symbol.asyncDispose]: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      }),
    );
  });
