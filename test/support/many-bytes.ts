import type { ServerResponse } from 'node:http';

const block = Buffer.alloc(65_536, 'stekker ');

/** Ends an answer with `size` bytes, no faster than they are taken. */
export const writeBytes = (response: ServerResponse, size: number): void => {
  let left = size;
  const more = (): void => {
    while (left > 0) {
      const piece = left >= block.length ? block : block.subarray(0, left);
      left -= piece.length;
      if (!response.write(piece) && left > 0) {
        response.once('drain', more);
        return;
      }
    }
    response.end();
  };
  more();
};

/** The bytes that `writeBytes` writes. */
export const manyBytes = (size: number): Buffer => Buffer.alloc(size, block);
