import type { DraftRow } from '../../contracts/ledger/draft.ts';
import { partBytes } from '../../contracts/ledger/record.ts';
import type { Have } from '../../contracts/ledger/statement.ts';
import type { UsageClose } from '../../contracts/ledger/usage-entry.ts';

/** How two counts of one access become one record (ledger §7 "Counts"). Both sides judge by the same rules. */

/** `b64u H("")`: the digest of nothing. */
export const digestOfNothing = '47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU';

/** `unknown` without a count: nothing, for nothing. */
export const unknownHave: Have = { bytes: '0', digest: digestOfNothing, outcome: 'unknown', status: '', units: {} };

export const haveOfClose = ({ bytes, digest, outcome, status, units }: UsageClose): Have => ({
  bytes: String(bytes),
  digest,
  outcome,
  status,
  units,
});

export const haveOfRow = ({ bytes, digest, outcome, status, units }: Omit<DraftRow, 'leaf'>): Have => ({
  bytes,
  digest,
  outcome,
  status,
  units,
});

const isSuccess = (status: string): boolean => status.startsWith('2');

const sameUnits = (a: Have['units'], b: Have['units']): boolean => {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
};

export const isSameHave = (a: Have, b: Have): boolean =>
  a.bytes === b.bytes &&
  a.digest === b.digest &&
  a.outcome === b.outcome &&
  a.status === b.status &&
  sameUnits(a.units, b.units);

/** What a body that broke off is charged as: the access in part 1, the bytes, never items. */
const brokenOffUnits = (status: string, part: number, bytes: string): Record<string, string> => {
  if (!isSuccess(status)) return {};
  return { ...(part === 1 ? { requests: '1' } : {}), ...(bytes === '0' ? {} : { bytes }) };
};

/** Whether a count is one that a body of this part can have: charged as its status, its length and its end say. */
const isSound = (have: Have, part: number): boolean => {
  if (BigInt(have.bytes) > BigInt(partBytes)) return false;
  if (have.outcome === 'unknown') return isSameHave(have, unknownHave);
  const { items, ...units } = have.units;
  if (items !== undefined && (have.outcome !== 'ok' || part !== 1 || !isSuccess(have.status))) return false;
  return have.outcome !== 'disputed' && sameUnits(units, brokenOffUnits(have.status, part, have.bytes));
};

/** The smaller of two counts, as a body that broke off, under the status that was sent. */
const smaller = (sent: Have, received: Have, part: number): Have => {
  const less = BigInt(received.bytes) < BigInt(sent.bytes) ? received : sent;
  const units = brokenOffUnits(sent.status, part, less.bytes);
  return { bytes: less.bytes, digest: less.digest, outcome: 'partial', status: sent.status, units };
};

/**
 * Provider: what the record becomes after the consumer refused ours and told what it has. Undefined where no rule decides,
 * which is a dispute: both say `ok` and differ, or the consumer says that there was no such access.
 */
export const resolve = (own: Have, claim: Have | null, part: number): Have | undefined => {
  if (claim === null || !isSound(claim, part)) return undefined;
  if (own.outcome === 'unknown') return claim; // we lost our count: theirs, or nothing
  if (claim.outcome === 'unknown') return claim;
  const isBroken = own.outcome === 'partial' || claim.outcome === 'partial';
  const isSameAnswer = claim.status === own.status || claim.status === '';
  return isBroken && isSameAnswer ? smaller(own, claim, part) : undefined;
};

export type Verdict = 'accept' | 'counts' | 'missing';

/** The claims of a record in dispute: who says what. */
const claimsFit = (own: Have, row: Omit<DraftRow, 'leaf'>): boolean => {
  const { ext } = row;
  if (ext === null || !('provider' in ext) || Object.keys(row.units).length > 0) return false;
  const shown = { ...haveOfRow(row), outcome: ext.provider.outcome, units: ext.provider.units };
  return isSameHave(ext.provider, shown) && isSameHave(ext.consumer, own);
};

/** A body that broke off on either side: the row may hold the smaller count, or less. */
const isFairPart = (own: Have, row: Have, part: number): boolean => {
  if (own.outcome === 'unknown' || row.outcome !== 'partial') return false;
  if (own.status !== row.status && own.status !== '') return false;
  const isLess = BigInt(row.bytes) < BigInt(own.bytes);
  const isOurs = row.bytes === own.bytes && row.digest === own.digest;
  return (isLess || isOurs) && sameUnits(row.units, brokenOffUnits(row.status, part, row.bytes));
};

/** Consumer: whether a row of a draft is what our own journal says, or less of it where a body broke off. */
export const judge = (own: Have | undefined, row: Omit<DraftRow, 'leaf'>): Verdict => {
  if (own === undefined) return 'missing';
  if (row.outcome === 'disputed') return claimsFit(own, row) ? 'accept' : 'counts';
  const stated = haveOfRow(row);
  if (isSameHave(own, stated)) return 'accept';
  return isFairPart(own, stated, Number(row.part)) ? 'accept' : 'counts';
};
