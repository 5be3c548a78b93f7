import { crc32c } from '../../kernel/crc32c.ts';

/** The journal's frames: `u32 length || u32 crc32c || body` (ledger §7). A length of zero ends a segment: what follows was never written. */

export const frameHeadBytes = 8;

/** No frame is longer: a length above it is no length. */
export const maxFrameBytes = 1 << 22;

/** Writes the head before a body that stands in `frame` already. */
export const closeFrame = (frame: Buffer): void => {
  frame.writeUInt32BE(frame.length - frameHeadBytes, 0);
  frame.writeUInt32BE(crc32c(frame.subarray(frameHeadBytes)), 4);
};

export const encodeFrame = (text: string): Buffer => {
  const frame = Buffer.concat([Buffer.alloc(frameHeadBytes), Buffer.from(text, 'utf8')]);
  closeFrame(frame);
  return frame;
};

/** The end of the frame at `offset`, or undefined when no whole one stands there. */
const frameEnd = (bytes: Buffer, offset: number): number | undefined => {
  if (offset + frameHeadBytes > bytes.length) return undefined;
  const length = bytes.readUInt32BE(offset);
  const end = offset + frameHeadBytes + length;
  if (length === 0 || length > maxFrameBytes || end > bytes.length) return undefined;
  return crc32c(bytes.subarray(offset + frameHeadBytes, end)) === bytes.readUInt32BE(offset + 4) ? end : undefined;
};

/** Visits the whole frames from the beginning; the answer is where they end. */
export const readFrames = (bytes: Buffer, visit: (text: string, offset: number) => void): number => {
  let offset = 0;
  for (let end = frameEnd(bytes, 0); end !== undefined; end = frameEnd(bytes, offset)) {
    visit(bytes.toString('utf8', offset + frameHeadBytes, end), offset);
    offset = end;
  }
  return offset;
};

/**
 * Whether a whole frame stands anywhere behind `offset`, where none should: the next group is written only when the one
 * before is on the disk, so a torn one has nothing behind it.
 */
export const hasFrameBehind = (bytes: Buffer, offset: number): boolean => {
  let last = bytes.length - 1;
  while (last >= offset && bytes[last] === 0) last -= 1;
  for (let place = offset + 1; place <= last; place += 1) if (frameEnd(bytes, place) !== undefined) return true;
  return false;
};
