import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** One port in front of several processes, as a load balancer: a connection goes to the next one that answers. */
export interface TcpFront extends AsyncDisposable {
  readonly port: number;
  /** How many connections each process was given. */
  readonly given: () => readonly number[];
}

/** Listens on `port` and hands connections to the ports behind, in turn; one that is down is left out. */
export const startTcpFront = async (port: number, behind: readonly number[]): Promise<TcpFront> => {
  const given = behind.map(() => 0);
  const open = new Set<Socket>();
  let next = 0;
  const keep = (socket: Socket): Socket => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    return socket;
  };
  const join = (client: Socket, tries: number): void => {
    const place = next % behind.length;
    next += 1;
    const server = keep(connect({ host: '127.0.0.1', port: behind[place] ?? 0 }));
    let isThere = false;
    server.once('connect', () => {
      isThere = true;
      given[place] = (given[place] ?? 0) + 1;
      client.pipe(server).pipe(client);
      client.once('close', () => server.destroy());
    });
    server.once('close', () => {
      if (!isThere && tries > 1) join(client, tries - 1);
      else client.destroy();
    });
  };
  const listener = createServer((client) => join(keep(client), behind.length));
  listener.listen(port, '127.0.0.1');
  await once(listener, 'listening');
  return {
    port,
    given: () => given,
    [Symbol.asyncDispose]: async () => {
      const closed = once(listener, 'close');
      listener.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
};
