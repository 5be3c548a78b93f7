import { z } from 'zod';
import { hash32, hashOrNone, name, nameOrNone, requestId, units } from './forms.ts';

/**
 * What a usage journal holds (ledger §7): `open` before the first byte of a part leaves, `close` after its last. Both sides
 * keep one; records are made from the pairs when an interval is cut. Kept by one party for itself, so numbers are numbers.
 */

const instant = z.number().int().min(0).max(8_640_000_000_000_000);
const bytes = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const part = z.number().int().min(1).max(1_000_000);

/** Agreed additions to a record, opened (ledger §7 `ext`). */
export const usageExt = z.union([z.strictObject({ statusAge: z.string() }), z.null()]);
export type UsageExt = z.infer<typeof usageExt>;

export const usageOpen = z.strictObject({
  t: z.literal('open'),
  /** agreementDigest */
  agreement: hash32,
  /** The consumer's request id; a repeat under the same agreement is never opened. */
  request: requestId,
  part,
  /** Provider's clock at opening, ms; at the consumer its own clock. */
  at: instant,
  asset: name,
  /** The transfer's providerPid. */
  transfer: name,
  application: nameOrNone,
  method: z.string().regex(/^[A-Z]{1,16}$/, 'is no method'),
  purpose: nameOrNone,
  run: nameOrNone,
  /** `tgt` of wire §5. */
  target: hash32,
  /** Digest of the price plan, or empty. */
  price: hashOrNone,
  ext: usageExt,
  /** Bytes of exposure reserved ahead. */
  reserved: bytes,
  /** The DPoP proof as received (provider) or sent (consumer); empty where possession is not proven. */
  proof: z.string().max(8_192),
});
export type UsageOpen = z.infer<typeof usageOpen>;

export const usageClose = z.strictObject({
  t: z.literal('close'),
  agreement: hash32,
  request: requestId,
  part,
  bytes,
  /** `b64u H` of this part's content as sent (provider) or received (consumer). */
  digest: hash32,
  outcome: z.enum(['ok', 'partial', 'unknown']),
  status: z.union([z.literal(''), z.string().regex(/^[1-5]\d\d$/)]),
  units,
});
export type UsageClose = z.infer<typeof usageClose>;

export const usageEntry = z.discriminatedUnion('t', [usageOpen, usageClose]);
export type UsageEntry = z.infer<typeof usageEntry>;

/** What a status, a length and a count of items are charged as (ledger §7): only 2xx, `requests` in part 1 only, no zeros. */
export const chargedUnits = (access: {
  readonly status: number;
  readonly part: number;
  readonly bytes: number;
  /** Elements of `features`, where they are counted; null where not (wire §2). */
  readonly items: number | null;
}): Record<string, string> => {
  if (access.status < 200 || access.status > 299) return {};
  return {
    ...(access.part === 1 ? { requests: '1' } : {}),
    ...(access.bytes > 0 ? { bytes: String(access.bytes) } : {}),
    ...(access.items !== null && access.items > 0 ? { items: String(access.items) } : {}),
  };
};
