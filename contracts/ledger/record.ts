import { z } from 'zod';
import { concat, toBase64Url, u64, utf8 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { canonicalize, type Json } from '../json.ts';
import {
  type Checked,
  decimal,
  hash32,
  hashOrNone,
  name,
  nameOrNone,
  positiveDecimal,
  readCanonical,
  requestId,
  salt16,
  time,
  units,
  version,
} from './forms.ts';
import { leafHash } from './tree.ts';

/** Usage records (ledger §7): one for each access, or each part of a long body, byte-identical on both sides. */

/** A body is cut into parts of this many bytes. */
export const partBytes = 67_108_864;

export const outcomes = ['ok', 'partial', 'unknown', 'disputed'] as const;

const status = z.union([z.literal(''), z.string().regex(/^[1-5]\d\d$/)], { error: 'is no HTTP status' });

/** Members in canonical order, so that what is parsed is written again without sorting: a million times, in a large file. */
export const usageRecord = z.strictObject({
  agreement: name,
  asset: name,
  at: time,
  bytes: decimal,
  context: hash32,
  digest: hash32,
  ext: hashOrNone,
  n: positiveDecimal,
  op: z.literal('read'),
  outcome: z.enum(outcomes),
  part: positiveDecimal,
  price: hashOrNone,
  request: requestId,
  salt: salt16,
  status,
  type: z.literal('usage-record'),
  units,
  v: version,
});
export type UsageRecord = z.infer<typeof usageRecord>;

export const usageContext = z.strictObject({
  application: nameOrNone,
  method: z.string().regex(/^[A-Z]{1,16}$/, 'is no method'),
  purpose: nameOrNone,
  run: nameOrNone,
  salt: salt16,
  target: hash32,
  transfer: name,
});
export type UsageContext = z.infer<typeof usageContext>;

export const recordText = (record: UsageRecord): string => canonicalize(record);
export const readRecord = (text: string): Checked<UsageRecord> => readCanonical(usageRecord, text);
export const recordLeaf = (crypto: Pick<Crypto, 'sha256'>, record: UsageRecord): Uint8Array =>
  leafHash(crypto, utf8(recordText(record)));

/** `b64u H(JCS(context))` */
export const contextDigest = (crypto: Pick<Crypto, 'sha256'>, context: UsageContext): string =>
  toBase64Url(crypto.sha256(utf8(canonicalize(context))));

const salt = (crypto: Pick<Crypto, 'hmacSha256'>, label: string, key: Uint8Array, n: bigint): string =>
  toBase64Url(crypto.hmacSha256(key, concat(utf8(label), Uint8Array.of(0), u64(n))).subarray(0, 16));

/** Salt of record `n` in an interval whose secret `K` is `key` (32 bytes). */
export const recordSalt = (crypto: Pick<Crypto, 'hmacSha256'>, key: Uint8Array, n: bigint): string =>
  salt(crypto, 'stekker/record-salt/v1', key, n);

/** Salt of the context of record `n`. */
export const contextSalt = (crypto: Pick<Crypto, 'hmacSha256'>, key: Uint8Array, n: bigint): string =>
  salt(crypto, 'stekker/context-salt/v1', key, n);

/** `b64u H(JCS(object))` of agreed additions, or `""` without any. */
export const extDigest = (crypto: Pick<Crypto, 'sha256'>, ext: { readonly [key: string]: Json } | null): string =>
  ext === null ? '' : toBase64Url(crypto.sha256(utf8(canonicalize(ext))));

/**
 * `tgt` of wire §5: `b64u H(method LF raw request target LF Range header or empty)`.
 *
 * @example requestTarget(crypto, { method: 'GET', target: '/urn:uuid:…/rain', range: '' })
 */
export const requestTarget = (
  crypto: Pick<Crypto, 'sha256'>,
  request: { readonly method: string; readonly target: string; readonly range: string },
): string => toBase64Url(crypto.sha256(utf8(`${request.method}\n${request.target}\n${request.range}`)));

/** The first 16 bytes of `H(agreementDigest "|" jti)`: the key under which a proof counts once (wire §5). */
export const replayKey = (crypto: Pick<Crypto, 'sha256'>, agreementDigest: string, jti: string): Uint8Array =>
  crypto.sha256(utf8(`${agreementDigest}|${jti}`)).subarray(0, 16);
