import { z } from 'zod';
import { fromBase64, sameBytes, toBase64, toHex, utf8 } from '../bytes.ts';
import { isDid, isPartyId, isUuidV7 } from '../ids.ts';
import { type Json, parseCanonical } from '../json.ts';
import { parseTime } from '../time.ts';

/** The forms that values have in everything we sign (ledger §2). */

/** A check whose outcome is a value: what was read, or why not. */
export type Checked<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly reason: string };

export const good = <Value>(value: Value): Checked<Value> => ({ ok: true, value });
export const bad = (reason: string): { readonly ok: false; readonly reason: string } => ({ ok: false, reason });

const greatest = '9223372036854775807';

/** A decimal string `0|[1-9][0-9]*`, at most 2^63−1: JSON numbers lose digits above 2^53. */
export const decimal = z
  .string()
  .refine(
    (text) => /^(0|[1-9]\d{0,18})$/.test(text) && (text.length < 19 || text <= greatest),
    'is no decimal integer up to 2^63-1',
  );
/** The same, at least 1. */
export const positiveDecimal = decimal.refine((text) => text !== '0', 'must be at least 1');
/** 32 bytes in base64url: the last character has two bits that must be zero. */
export const hash32 = z
  .string()
  .regex(/^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/, 'is not 32 bytes in canonical base64url');
/** 16 bytes in base64url. */
export const salt16 = z.string().regex(/^[A-Za-z0-9_-]{21}[AQgw]$/, 'is not 16 bytes in canonical base64url');
export const hashOrNone = z.union([z.literal(''), hash32], { error: 'is neither empty nor 32 bytes in base64url' });
export const time = z.string().refine((text) => parseTime(text) !== undefined, 'is no time YYYY-MM-DDTHH:MM:SS.mmmZ');
export const did = z.string().refine(isDid, 'is no DID');
/** A consumer: under `plain-dsp` it signs nothing, and may have no DID (wire §3, step 6). */
export const party = z.string().refine(isPartyId, 'is no name of a party');
export const requestId = z.string().refine(isUuidV7, 'is no lower-case UUIDv7');
export const version = z.literal(1);
/** An identifier of somebody's choice: printable, bounded. */
export const name = z.string().regex(/^[^\p{Cc}\p{Cs}]{1,2048}$/u, 'is empty, too long, or has control characters');
export const nameOrNone = z.union([z.literal(''), name], { error: 'is too long or has control characters' });
export const unitName = z.string().regex(/^[a-z]{1,16}$/, 'is no unit name');
/** Charged or total units: a map of decimal strings in which zeros are left out. */
export const units = z.record(unitName, positiveDecimal);
export type Units = Readonly<Record<string, string>>;
/** Standard base64 that encodes back to itself: unused bits are zero. A pattern, because decoding twice costs. */
export const base64 = z
  .string()
  .regex(
    /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$/,
    'is not canonical base64',
  );
export const base64Url = z
  .string()
  .regex(
    /^(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-][AQgw]|[A-Za-z0-9_-]{2}[AEIMQUYcgkosw048])?$/,
    'is not canonical base64url',
  );

/** All faults of a value in one sentence. */
export const reasonOf = (error: z.ZodError): string =>
  error.issues.map((issue) => `${issue.path.length === 0 ? 'it' : issue.path.join('.')}: ${issue.message}`).join('; ');

/** Parses a value with a schema into a checked value. */
export const check = <Value>(schema: z.ZodType<Value>, value: unknown): Checked<Value> => {
  const parsed = schema.safeParse(value);
  return parsed.success ? good(parsed.data) : bad(reasonOf(parsed.error));
};

/** Reads text that was signed or hashed: canonical JSON of exactly the form asked for. */
export const readCanonical = <Value>(schema: z.ZodType<Value>, text: string): Checked<Value> => {
  const value: Json | undefined = parseCanonical(text);
  return value === undefined ? bad('is not canonical JSON') : check(schema, value);
};

const ed25519Prefix = Uint8Array.of(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00);
const p256Prefix = Uint8Array.of(
  0x30,
  0x59,
  0x30,
  0x13,
  0x06,
  0x07,
  0x2a,
  0x86,
  0x48,
  0xce,
  0x3d,
  0x02,
  0x01,
  0x06,
  0x08,
  0x2a,
  0x86,
  0x48,
  0xce,
  0x3d,
  0x03,
  0x01,
  0x07,
  0x03,
  0x42,
  0x00,
  0x04,
);

const startsWith = (bytes: Uint8Array, prefix: Uint8Array): boolean =>
  sameBytes(bytes.subarray(0, prefix.length), prefix);

/** SPKI of a P-256 key: exactly 91 bytes, named curve, uncompressed point. */
export const isP256Spki = (spki: Uint8Array): boolean => spki.length === 91 && startsWith(spki, p256Prefix);

/** SPKI of an Ed25519 key whose point is canonical and not of small order. */
export const isEd25519Spki = (spki: Uint8Array): boolean =>
  spki.length === 44 && startsWith(spki, ed25519Prefix) && isSafePoint(spki.subarray(12));

export const ed25519Spki = (raw: Uint8Array): Uint8Array => {
  const spki = new Uint8Array(44);
  spki.set(ed25519Prefix);
  spki.set(raw, 12);
  return spki;
};

export const p256Spki = (x: Uint8Array, y: Uint8Array): Uint8Array => {
  const spki = new Uint8Array(91);
  spki.set(p256Prefix);
  spki.set(x, 27);
  spki.set(y, 59);
  return spki;
};

/** The y coordinates of the eight points of small order (RFC 7748 §7 names the danger), little-endian hex without sign bit. */
const smallOrder = new Set([
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
]);

const fieldPrime = 2n ** 255n - 19n;

/** Canonical (y < p) and not one of the points under which any message verifies (ledger §2). */
const isSafePoint = (point: Uint8Array): boolean => {
  const y = point.map((byte, index) => (index === 31 ? byte & 0x7f : byte));
  if (smallOrder.has(toHex(y))) return false;
  return BigInt(`0x${toHex(y.toReversed())}`) < fieldPrime;
};

/** SPKI in base64 of a key that may sign here: Ed25519 without the dangerous points, or P-256. */
export const spkiBase64 = z.string().refine((text) => {
  const spki = fromBase64(text);
  return spki !== undefined && (isP256Spki(spki) || isEd25519Spki(spki));
}, 'is no SPKI of P-256 or of a safe Ed25519 key');

export const p256Base64 = z.string().refine((text) => {
  const spki = fromBase64(text);
  return spki !== undefined && isP256Spki(spki);
}, 'is no SPKI of P-256');

/** `b64` of bytes that were already checked. */
export const encodeSpki = (spki: Uint8Array): string => toBase64(spki);

/** Bytes of canonical JSON text. */
export const bytesOf = (text: string): Uint8Array<ArrayBuffer> => utf8(text);
