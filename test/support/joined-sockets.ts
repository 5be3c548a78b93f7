import type { Socket } from 'node:net';

/** Lets two connections be one: bytes go both ways, and the end of either is the end of both. */
export const joinSockets = (socket: Socket, behind: Socket): void => {
  socket.pipe(behind).pipe(socket);
  for (const [one, other] of [
    [socket, behind],
    [behind, socket],
  ] as const) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
};
