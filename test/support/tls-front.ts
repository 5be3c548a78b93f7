import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { createServer } from 'node:tls';

/**
 * The proxy that a deployment has in front: ends TLS and forwards bytes.
 * usage: node tls-front.ts CERT KEY ADDRESS:PORT=PORT…; prints `ready` when it listens everywhere.
 */
const [certFile = '', keyFile = '', ...routes] = process.argv.slice(2);
const tls = { cert: readFileSync(certFile), key: readFileSync(keyFile) };

const listening = routes.map((route) => {
  const [, host = '', port, to] = /^([\d.]+):(\d+)=(\d+)$/.exec(route) ?? [];
  const server = createServer(tls, (socket) => {
    const behind = connect(Number(to), '127.0.0.1');
    socket.pipe(behind).pipe(socket);
    for (const [one, other] of [
      [socket, behind],
      [behind, socket],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => other.destroy());
    }
  });
  return new Promise<void>((resolve) => server.listen(Number(port), host, resolve));
});
await Promise.all(listening);
process.stdout.write('ready\n');
