import { concat } from '../bytes.ts';

/** Recursive Length Prefix, strictly: the one encoding of a value and no other. */

export type Rlp = Uint8Array | readonly Rlp[];

interface Header {
  readonly isList: boolean;
  readonly start: number;
  readonly end: number;
}

const maxDepth = 16;

const bigEndian = (bytes: Uint8Array): number => bytes.reduce((value, byte) => value * 256 + byte, 0);

/** Length that is written in `size` bytes behind the prefix; undefined when it is not the shortest form. */
const longLength = (bytes: Uint8Array, at: number, size: number): number | undefined => {
  const digits = bytes.subarray(at + 1, at + 1 + size);
  if (digits.length < size || digits[0] === 0 || size > 4) return undefined;
  const length = bigEndian(digits);
  return length > 55 ? length : undefined;
};

const readHeader = (bytes: Uint8Array, at: number): Header | undefined => {
  const prefix = bytes[at];
  if (prefix === undefined) return undefined;
  if (prefix < 0x80) return { isList: false, start: at, end: at + 1 };
  const isList = prefix >= 0xc0;
  const short = prefix - (isList ? 0xc0 : 0x80);
  if (short <= 55) return { isList, start: at + 1, end: at + 1 + short };
  const length = longLength(bytes, at, short - 55);
  const start = at + 1 + (short - 55);
  return length === undefined ? undefined : { isList, start, end: start + length };
};

const readItem = (
  bytes: Uint8Array,
  at: number,
  depth: number,
): { readonly item: Rlp; readonly end: number } | undefined => {
  const header = readHeader(bytes, at);
  if (header === undefined || header.end > bytes.length || depth > maxDepth) return undefined;
  const { isList, start, end } = header;
  if (!isList) {
    const item = bytes.subarray(start, end);
    const couldBeBare = start > at && item.length === 1 && (item[0] ?? 0) < 0x80;
    return couldBeBare ? undefined : { item, end };
  }
  const items: Rlp[] = [];
  let next = start;
  while (next < end) {
    const read = readItem(bytes, next, depth + 1);
    if (read === undefined || read.end > end) return undefined;
    items.push(read.item);
    next = read.end;
  }
  return { item: items, end };
};

/** The value of canonical RLP, or undefined for anything else, also for bytes that are left over. */
export const decodeRlp = (bytes: Uint8Array): Rlp | undefined => {
  const read = readItem(bytes, 0, 0);
  return read?.end === bytes.length ? read.item : undefined;
};

export const isBytes = (item: Rlp | undefined): item is Uint8Array => item instanceof Uint8Array;
export const isList = (item: Rlp | undefined): item is readonly Rlp[] => Array.isArray(item);

const lengthBytes = (length: number): Uint8Array => {
  const digits: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256);
  return Uint8Array.from(digits);
};

const prefixed = (short: number, body: Uint8Array): Uint8Array => {
  if (body.length <= 55) return concat(Uint8Array.of(short + body.length), body);
  const length = lengthBytes(body.length);
  return concat(Uint8Array.of(short + 55 + length.length), length, body);
};

/** The one encoding of a value. */
export const encodeRlp = (item: Rlp): Uint8Array => {
  if (isList(item)) return prefixed(0xc0, concat(...item.map(encodeRlp)));
  return item.length === 1 && (item[0] ?? 0) < 0x80 ? item : prefixed(0x80, item);
};
