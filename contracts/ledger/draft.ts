import { z } from 'zod';
import { fromBase64Url, orNothing } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { decimal, hash32, nameOrNone, positiveDecimal, requestId, time, units } from './forms.ts';
import {
  contextDigest,
  contextSalt,
  extDigest,
  outcomes,
  recordLeaf,
  recordSalt,
  type UsageContext,
  type UsageRecord,
} from './record.ts';
import { have, statementSums, usageStatement } from './statement.ts';

/** The unsigned draft of a usage statement, as the provider sends it (wire §6). */

const status = z.union([z.literal(''), z.string().regex(/^[1-5]\d\d$/)], { error: 'is no HTTP status' });

/** `ext` of a row is the object itself: the age of a status, or both claims of a record in dispute. */
const rowExt = z.union([
  z.strictObject({ statusAge: z.string().max(32) }),
  z.strictObject({ provider: have, consumer: have }),
  z.null(),
]);

export const draftRow = z.strictObject({
  n: positiveDecimal,
  request: requestId,
  part: positiveDecimal,
  at: time,
  bytes: decimal,
  digest: hash32,
  outcome: z.enum(outcomes),
  status,
  units,
  ext: rowExt,
  /** `b64u` of the record's leaf: both sides must come to it on their own. */
  leaf: hash32,
});
export type DraftRow = z.infer<typeof draftRow>;

/** Private JWK of the leaf key: either side can register with it. */
export const leafKeyJwk = z.strictObject({
  kty: z.literal('EC'),
  crv: z.literal('P-256'),
  x: hash32,
  y: hash32,
  d: hash32,
});

/** No interval has more records; a refusal can name all of them. */
export const maxIntervalRecords = 20_000;
/** Beyond this a draft comes in pages. */
export const maxPageRecords = 5_000;

const draftFrame = {
  payload: usageStatement,
  sums: statementSums,
  /** `b64u` of 32 bytes */
  K: hash32,
  leafKey: leafKeyJwk,
};

export const statementDraft = z.strictObject({
  ...draftFrame,
  records: z.array(draftRow).max(maxPageRecords),
});

/**
 * The first line of a page (NDJSON): what the draft is, and which page this is; the rows follow, one a line. All pages have
 * the same digest, so they may come in any order and repeatedly.
 */
export const draftPageHead = z.strictObject({
  ...draftFrame,
  page: z.number().int().min(1).max(4),
  pages: z.number().int().min(2).max(4),
});

/** A draft with all its rows, however it came. */
export interface StatementDraft {
  readonly payload: z.infer<typeof usageStatement>;
  readonly sums: z.infer<typeof statementSums>;
  readonly K: string;
  readonly leafKey: z.infer<typeof leafKeyJwk>;
  readonly records: readonly DraftRow[];
}

/** What a party gives the other of a statement it holds (wire §6 `newest`); rows are null where there are too many for one answer. */
export const heldStatement = z.looseObject({
  artifact: z.unknown(),
  sums: statementSums,
  K: hash32.optional(),
  records: z.union([z.array(draftRow).max(maxPageRecords), z.null()]).optional(),
});

/** What both sides know of an access apart from the counts: what its context and record are made of. */
export const accessFacts = z.object({
  asset: z.string(),
  transfer: z.string(),
  application: nameOrNone,
  method: z.string(),
  purpose: nameOrNone,
  run: nameOrNone,
  target: hash32,
});
export type AccessFacts = z.infer<typeof accessFacts>;

/** What a row is placed in: the agreement and the secret of its interval. */
export interface RowFrame {
  /** The agreement's `@id`. */
  readonly agreementId: string;
  readonly price: string;
  readonly K: string;
}

/** The record and the opened context that a row stands for, from what this side knows of the access (ledger §7). */
export const recordOfRow = (
  crypto: Pick<Crypto, 'sha256' | 'hmacSha256'>,
  frame: RowFrame,
  row: Omit<DraftRow, 'leaf'>,
  facts: AccessFacts,
): { readonly record: UsageRecord; readonly context: UsageContext } => {
  const key = orNothing(fromBase64Url(frame.K));
  const n = BigInt(row.n);
  const { application, method, purpose, run, target, transfer } = facts;
  const context = { application, method, purpose, run, salt: contextSalt(crypto, key, n), target, transfer };
  const record: UsageRecord = {
    agreement: frame.agreementId,
    asset: facts.asset,
    at: row.at,
    bytes: row.bytes,
    context: contextDigest(crypto, context),
    digest: row.digest,
    ext: extDigest(crypto, row.ext),
    n: row.n,
    op: 'read',
    outcome: row.outcome,
    part: row.part,
    price: frame.price,
    request: row.request,
    salt: recordSalt(crypto, key, n),
    status: row.status,
    type: 'usage-record',
    units: row.units,
    v: 1,
  };
  return { record, context };
};

/** The leaf that a row must have. */
export const leafOfRow = (
  crypto: Pick<Crypto, 'sha256' | 'hmacSha256'>,
  frame: RowFrame,
  row: Omit<DraftRow, 'leaf'>,
  facts: AccessFacts,
): Uint8Array => recordLeaf(crypto, recordOfRow(crypto, frame, row, facts).record);
