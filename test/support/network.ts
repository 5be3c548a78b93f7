import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { joinSockets } from './joined-sockets.ts';
import { root } from './program.ts';

/**
 * A network of its own for processes of a test, with names and addresses as the internet has them: services that refuse
 * loopback and plain HTTP, as production does, meet there. Linux, as root.
 */

export interface Network extends AsyncDisposable {
  /** Stands before a command that is to run in it. */
  readonly enter: readonly string[];
  /** Certificate that the names have; its own authority. */
  readonly certFile: string;
}

/** Whether this machine lets us make one. */
export const canMakeNetworks = (): boolean =>
  spawnSync('unshare', ['--net', '--mount', 'ip', 'link', 'set', 'lo', 'up']).status === 0 &&
  spawnSync('nsenter', ['--version']).status === 0 &&
  spawnSync('openssl', ['version']).status === 0;

/** A certificate for these names, signed with its own key. */
export const makeCertificate = (folder: string, names: readonly string[]) => {
  const [certFile, keyFile] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  const alternatives = names.map((name) => `DNS:${name}`).join(',');
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=stekker-test', '-addext', `subjectAltName=${alternatives}`],
      ...['-keyout', keyFile, '-out', certFile],
    ],
    { stdio: 'pipe' },
  );
  return { certFile, keyFile };
};

const firstLine = (child: ReturnType<typeof spawn>): Promise<void> =>
  new Promise((done, fail) => {
    child.stdout?.once('data', () => done());
    child.once('error', fail);
    child.once('exit', (code) => fail(new Error(`it ended with ${code} before it was ready`)));
  });

const endOf = (child: ReturnType<typeof spawn>): Promise<void> =>
  new Promise((done) => {
    child.once('exit', () => done());
    child.kill('SIGTERM');
  });

/** A server outside the network, reached through a socket file, which no network keeps apart. */
const openGate = async (file: string, port: number): Promise<AsyncDisposable> => {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    const behind = connect(port, '127.0.0.1');
    joinSockets(socket, behind);
    open.add(socket);
    socket.on('close', () => open.delete(socket));
  });
  await new Promise<void>((done) => server.listen(file, done));
  return {
    [Symbol.asyncDispose]: () =>
      new Promise<void>((done) => {
        for (const socket of open) socket.destroy();
        server.close(() => done());
      }),
  };
};

/** A service that stands in the network by its name and port, and really listens on a port of loopback outside it. */
export interface OutsideService {
  readonly name: string;
  readonly port: number;
  readonly listensOn: number;
}

/** Makes a network in which `https://<name>` is ended by a proxy that forwards to the port on loopback. */
export const makeNetwork = async (
  folder: string,
  ports: Readonly<Record<string, number>>,
  outside: readonly OutsideService[] = [],
): Promise<Network> => {
  const fronts = Object.keys(ports);
  const names = [...fronts, ...outside.map(({ name }) => name)];
  const addresses = names.map((_name, place) => `93.184.216.${place + 1}`);
  const hosts = join(folder, 'hosts');
  writeFileSync(hosts, names.map((name, place) => `${addresses[place]} ${name}\n`).join(''));
  const script = [
    'set -e',
    'ip link set lo up',
    ...addresses.map((address) => `ip addr add ${address}/32 dev lo`),
    `mount --bind ${hosts} /etc/hosts`,
    'echo ready',
    'exec sleep 3600',
  ].join('\n');
  const holder = spawn('unshare', ['--net', '--mount', 'sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await firstLine(holder);
  const enter = ['nsenter', '--target', String(holder.pid), '--net', '--mount', '--wd=/'];
  const { certFile, keyFile } = makeCertificate(folder, fronts);
  const [nsenter = '', ...inside] = enter;
  const gates = await Promise.all(
    outside.map(({ name, listensOn }) => openGate(join(folder, `${name}.sock`), listensOn)),
  );
  const routes = [
    ...fronts.map((name, place) => `${addresses[place]}:443=${ports[name]}`),
    ...outside.map(
      ({ name, port }, place) => `${addresses[fronts.length + place]}:${port}=${join(folder, `${name}.sock`)}`,
    ),
  ];
  const front = [process.execPath, join(root, 'test/support/tls-front.ts'), certFile, keyFile, ...routes];
  const proxy = spawn(nsenter, [...inside, ...front], { stdio: ['ignore', 'pipe', 'inherit'] });
  await firstLine(proxy);
  return {
    enter,
    certFile,
    [Symbol.asyncDispose]: async () => {
      await endOf(proxy);
      for (const gate of gates) await gate[Symbol.asyncDispose]();
      await endOf(holder);
    },
  };
};
