/** Byte strings: the notation of ledger §2. Pure, and strict where the wire is strict. */

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export const utf8 = (text: string): Uint8Array<ArrayBuffer> => encoder.encode(text);

/** The text of UTF-8 bytes, or undefined when they are not UTF-8. */
export const textOf = (bytes: Uint8Array): string | undefined => {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
};

export const concat = (...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> => {
  const out = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
};

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => {
  if (a.length !== b.length) return false;
  for (let index = 0; index < a.length; index += 1) if (a[index] !== b[index]) return false;
  return true;
};

const nothing = new Uint8Array(0);

/** Bytes of text that a schema has already found good. Where it was not, nothing: and nothing verifies. */
export const orNothing = (bytes: Uint8Array | undefined): Uint8Array => bytes ?? nothing;

/** Big-endian unsigned 64-bit. */
export const u64 = (value: bigint): Uint8Array<ArrayBuffer> => {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, value);
  return out;
};

/** Big-endian unsigned 16-bit. */
export const u16 = (value: number): Uint8Array<ArrayBuffer> =>
  Uint8Array.of(Math.floor(value / 256) % 256, value % 256);

const hexDigits = '0123456789abcdef';

export const toHex = (bytes: Uint8Array): string => {
  let out = '';
  for (const byte of bytes) out += `${hexDigits[byte >> 4]}${hexDigits[byte & 15]}`;
  return out;
};

/** Bytes of lower-case hex, or undefined for anything else. */
export const fromHex = (text: string): Uint8Array<ArrayBuffer> | undefined => {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) return undefined;
  const out = new Uint8Array(text.length / 2);
  for (let index = 0; index < out.length; index += 1)
    out[index] = Number.parseInt(text.slice(2 * index, 2 * index + 2), 16);
  return out;
};

const standard = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const urlSafe = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

const valuesOf = (alphabet: string): Int8Array => {
  const values = new Int8Array(128).fill(-1);
  for (let index = 0; index < 64; index += 1) values[alphabet.charCodeAt(index)] = index;
  return values;
};
const standardValues = valuesOf(standard);
const urlSafeValues = valuesOf(urlSafe);

const encode = (bytes: Uint8Array, alphabet: string, padded: boolean): string => {
  let out = '';
  for (let index = 0; index < bytes.length; index += 3) {
    const left = bytes.length - index;
    const group = ((bytes[index] ?? 0) << 16) | ((bytes[index + 1] ?? 0) << 8) | (bytes[index + 2] ?? 0);
    out += `${alphabet[group >> 18]}${alphabet[(group >> 12) & 63]}`;
    if (left > 1) out += alphabet[(group >> 6) & 63];
    if (left > 2) out += alphabet[group & 63];
    if (padded && left < 3) out += left === 1 ? '==' : '=';
  }
  return out;
};

const decode = (text: string, values: Int8Array): Uint8Array<ArrayBuffer> | undefined => {
  const rest = text.length % 4;
  if (rest === 1) return undefined;
  const out = new Uint8Array(Math.floor((text.length * 3) / 4));
  let bits = 0;
  let count = 0;
  let offset = 0;
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index);
    const value = code < 128 ? (values[code] ?? -1) : -1;
    if (value < 0) return undefined;
    bits = ((bits & 0xff) << 6) | value;
    count += 6;
    if (count >= 8) {
      count -= 8;
      out[offset] = (bits >> count) & 0xff;
      offset += 1;
    }
  }
  const leftOver = bits & ((1 << count) - 1);
  return leftOver === 0 ? out : undefined; // other last characters would give the same bytes (ledger §2)
};

/** RFC 4648 §4, with padding. */
export const toBase64 = (bytes: Uint8Array): string => encode(bytes, standard, true);

/** RFC 4648 §5, without padding. */
export const toBase64Url = (bytes: Uint8Array): string => encode(bytes, urlSafe, false);

/** Bytes of padded base64 that encodes back to itself, else undefined. */
export const fromBase64 = (text: string): Uint8Array<ArrayBuffer> | undefined => {
  if (text.length % 4 !== 0) return undefined;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  return decode(text.slice(0, text.length - padding), standardValues);
};

/** Bytes of unpadded base64url that encodes back to itself, else undefined. */
export const fromBase64Url = (text: string): Uint8Array<ArrayBuffer> | undefined => decode(text, urlSafeValues);
