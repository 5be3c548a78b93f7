import { readFileSync } from 'node:fs';
import { connect, createServer as createPlainServer } from 'node:net';
import { createServer } from 'node:tls';
import { joinSockets } from './joined-sockets.ts';

/**
 * The proxy that a deployment has in front: ends TLS and forwards bytes. What leads to a socket file is forwarded as it is:
 * a service of the same network that stands outside this one.
 * usage: node tls-front.ts CERT KEY ADDRESS:PORT=PORT|FILE…; prints `ready` when it listens everywhere.
 */
const [certFile = '', keyFile = '', ...routes] = process.argv.slice(2);
const tls = { cert: readFileSync(certFile), key: readFileSync(keyFile) };

const listening = routes.map((route) => {
  const [, host = '', port, to = ''] = /^([\d.]+):(\d+)=(.+)$/.exec(route) ?? [];
  const server = to.startsWith('/')
    ? createPlainServer((socket) => joinSockets(socket, connect(to)))
    : createServer(tls, (socket) => joinSockets(socket, connect(Number(to), '127.0.0.1')));
  return new Promise<void>((resolve) => server.listen(Number(port), host, resolve));
});
await Promise.all(listening);
process.stdout.write('ready\n');
