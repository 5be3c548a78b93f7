import { z } from 'zod';
import { toBase64Url } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { FilePort } from '../../kernel/files.ts';
import { hasFrameBehind, readFrames } from './frames.ts';

/** The segments of a journal on the disk: each begins with the hash of the one before (ledger §7). */

/** A segment that is finished: how many of its bytes count, and their hash. */
export interface FinishedSegment {
  readonly number: number;
  readonly length: number;
  /** `b64u H` */
  readonly hash: string;
}

const segmentHead = z.strictObject({
  t: z.literal('segment'),
  v: z.literal(1),
  number: z.number().int().min(1),
  before: z.union([z.strictObject({ length: z.number().int().min(1), hash: z.string() }), z.null()]),
});
type SegmentHead = z.infer<typeof segmentHead>;

export const headText = (number: number, before: FinishedSegment | undefined): string =>
  JSON.stringify({
    t: 'segment',
    v: 1,
    number,
    before: before === undefined ? null : { length: before.length, hash: before.hash },
  });

/** The last frame of a segment that was closed in order. */
export const endText = '{"t":"end"}';

export const segmentPath = (folder: string, number: number): string =>
  `${folder}/journal-${String(number).padStart(12, '0')}`;

/** Where an entry stands, as one number that grows: segment, then frame, then place in the group. */
export const placeOf = (segment: number, offset: number): number => segment * 2 ** 32 + offset;
export const segmentOf = (place: number): number => Math.floor(place / 2 ** 32);

const damaged = (detail: string): AppError => new AppError('data-damaged', { detail: `usage journal: ${detail}` });

export const hashOf = (bytes: Uint8Array): string => toBase64Url(nodeCrypto.sha256(bytes));

interface Segment {
  readonly number: number;
  readonly bytes: Buffer;
  readonly head: SegmentHead;
}

const readHead = (bytes: Buffer): SegmentHead | undefined => {
  let first: string | undefined;
  readFrames(bytes.subarray(0, Math.min(bytes.length, 1_024)), (text) => {
    first ??= text;
  });
  try {
    const read = segmentHead.safeParse(JSON.parse(first ?? ''));
    return read.success ? read.data : undefined;
  } catch {
    return undefined;
  }
};

export type VisitEntry = (text: string, place: number) => void;

const visitEntries = ({ number, bytes }: Pick<Segment, 'number' | 'bytes'>, visit: VisitEntry): number =>
  readFrames(bytes, (text, offset) => {
    if (offset === 0 || text === endText) return;
    for (const [index, line] of text.split('\n').entries()) visit(line, placeOf(number, offset + index));
  });

export interface ReadSegmentsOptions {
  readonly files: FilePort;
  readonly folder: string;
  /** Entries of segments before this one are settled and are not read again; undefined reads everything. */
  readonly from: number | undefined;
  readonly visit: VisitEntry;
}

const numbersIn = async ({ files, folder, from }: ReadSegmentsOptions): Promise<number[]> => {
  const names = await files.list(folder);
  const numbers = names.flatMap((name) => (/^journal-\d{12}$/.test(name) ? [Number(name.slice(8))] : []));
  const [first = 1] = numbers;
  if (numbers.some((number, index) => number !== first + index)) throw damaged('a segment is missing');
  const last = numbers.at(-1) ?? 0;
  if (from !== undefined && (last < from || first > from)) throw damaged(`segment ${from} is missing`);
  return numbers;
};

const load = async ({ files, folder }: ReadSegmentsOptions, number: number): Promise<Buffer> =>
  Buffer.from((await files.read(segmentPath(folder, number))) ?? []);

/** Checks a finished segment against what the next one says of it. */
const checkFinished = (bytes: Buffer, number: number, before: SegmentHead['before']): void => {
  const whole = before === null ? undefined : bytes.subarray(0, before.length);
  if (before === null || whole?.length !== before.length) throw damaged(`segment ${number} was cut`);
  if (hashOf(whole) !== before.hash) throw damaged(`segment ${number} is not what it was`);
};

/** What a segment holds, or undefined for one that was only prepared: it never held anything that was acknowledged. */
const readSegment = (bytes: Buffer, number: number, isLast: boolean): Segment | undefined => {
  const head = readHead(bytes);
  if (head === undefined) {
    if (isLast && !hasFrameBehind(bytes, -1)) return undefined;
    throw damaged(`segment ${number} has no beginning`);
  }
  if (head.number !== number) throw damaged(`segment ${number} says that it is ${head.number}`);
  return { number, bytes, head };
};

const finish = (segment: Segment, visit: VisitEntry): FinishedSegment => {
  const length = visitEntries(segment, visit);
  if (hasFrameBehind(segment.bytes, length)) throw damaged(`segment ${segment.number} is broken in the middle`);
  return { number: segment.number, length, hash: hashOf(segment.bytes.subarray(0, length)) };
};

/**
 * Reads a journal at start, in order, and checks the chain. A torn tail is allowed at the end of the last segment only.
 *
 * @returns the last segment, or undefined when there is none yet.
 * @throws AppError `data-damaged` for anything else that should not be there, or is not there.
 */
export const readSegments = async (options: ReadSegmentsOptions): Promise<FinishedSegment | undefined> => {
  const numbers = await numbersIn(options);
  const wanted = numbers.filter((number) => number >= (options.from ?? 0));
  const [first] = wanted;
  const isFirstOfAll = first === numbers[0];
  let previous: Segment | undefined;
  for (const number of wanted) {
    const segment = readSegment(await load(options, number), number, number === wanted.at(-1));
    if (segment === undefined) break;
    if (previous !== undefined) {
      checkFinished(previous.bytes, previous.number, segment.head.before);
      const whole = { ...previous, bytes: previous.bytes.subarray(0, segment.head.before?.length) };
      visitEntries(whole, options.visit);
    } else if (!isFirstOfAll) {
      checkFinished(await load(options, number - 1), number - 1, segment.head.before);
    } else if (number === 1 && segment.head.before !== null) {
      throw damaged('the first segment names one before it');
    }
    previous = segment;
  }
  if (previous !== undefined) return finish(previous, options.visit);
  if (wanted.length === 0 || isFirstOfAll) return undefined;
  return finishBefore(options, numbers, wanted);
};

/** Only a prepared segment is wanted: the one before it is the last that counts, and all of it is settled. */
const finishBefore = async (
  options: ReadSegmentsOptions,
  numbers: readonly number[],
  wanted: readonly number[],
): Promise<FinishedSegment | undefined> => {
  const number = numbers.at(-1 - wanted.length);
  if (number === undefined) return undefined;
  const segment = readSegment(await load(options, number), number, false);
  return segment && finish(segment, () => undefined);
};
