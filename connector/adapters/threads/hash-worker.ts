import { createHash, type Hash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { createRingReader } from './ring.ts';

/** The thread that hashes long bodies: it reads the ring for ever and says each digest when its stream ends. */

export type HashNews = 'room' | { readonly stream: number; readonly digest: string };

const run = (memory: SharedArrayBuffer, tell: (news: HashNews) => void): never => {
  const ring = createRingReader(memory);
  const hashes = new Map<number, Hash>();
  for (;;) {
    const { stream, pieces } = ring.next();
    const hash = hashes.get(stream) ?? createHash('sha256');
    if (pieces === null) {
      hashes.delete(stream);
      tell({ stream, digest: hash.digest('base64url') });
    } else {
      hashes.set(stream, hash);
      for (const piece of pieces) hash.update(piece);
    }
    if (ring.taken()) tell('room');
  }
};

if (parentPort !== null && workerData instanceof SharedArrayBuffer) {
  const port = parentPort;
  run(workerData, (news) => port.postMessage(news));
}
