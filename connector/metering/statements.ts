import { fromBase64Url, orNothing, toBase64Url } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { AccessFacts, DraftRow, StatementDraft } from '../../contracts/ledger/draft.ts';
import { leafOfRow, type RowFrame, recordOfRow } from '../../contracts/ledger/draft.ts';
import type { Units } from '../../contracts/ledger/forms.ts';
import { amountOf, type PricePlan } from '../../contracts/ledger/price-plan.ts';
import {
  type StatementSums,
  statementDigest,
  statementText,
  sumsDigest,
  type UsageStatement,
} from '../../contracts/ledger/statement.ts';
import { appendLeaf, type Peak, rootOfStack } from '../../contracts/ledger/tree.ts';
import { formatTime, parseTime } from '../../contracts/time.ts';
import { makeLeafKey } from '../../kernel/assertions.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Random } from '../../kernel/random.ts';
import type { Access, Account, Chain } from './account.ts';
import { totalsAfter } from './account.ts';
import { haveOfClose, unknownHave } from './counts.pure.ts';
import type { HeldRecord, KeptDraft, MeteredAgreement, StatedRow } from './ports.ts';

/** Building what a statement is made of (ledger §8): rows, leaves, root, sums, payload. */

/** How many rows are hashed before others get their turn. */
const slice = 256;

/** Runs over many items without holding up everybody else: a full interval is 20,000 of them. */
export const inSlices = async <Item, Result>(
  items: readonly Item[],
  work: (item: Item, index: number) => Result,
): Promise<Result[]> => {
  const results: Result[] = [];
  for (const [index, item] of items.entries()) {
    if (index > 0 && index % slice === 0)
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    results.push(work(item, index));
  }
  return results;
};

/** The root over leaves, as they come. */
export const rootOfLeaves = async (leaves: readonly Uint8Array[]): Promise<string> => {
  let stack: readonly Peak[] = [];
  await inSlices(leaves, (leaf) => {
    stack = appendLeaf(nodeCrypto, stack, leaf);
  });
  return toBase64Url(rootOfStack(nodeCrypto, stack));
};

/** Amount of cumulative totals under a plan; nothing costs nothing. @throws AppError `invariant-broken` beyond 2^63-1. */
export const amountUnder = (plan: PricePlan | null, totals: Units): StatementSums['amount'] => {
  if (plan === null) return { currency: '', scale: '0', value: '0' };
  const amount = amountOf(plan, totals);
  if (!amount.ok) throw new AppError('invariant-broken', { detail: amount.reason });
  return { currency: plan.currency, scale: plan.scale, value: String(amount.value) };
};

/** A row before it has its number and leaf. */
export interface PlainRow extends Omit<DraftRow, 'n' | 'leaf'> {
  readonly facts: AccessFacts;
  readonly place: number;
  readonly refusals: number;
}

/** An access as it stands in the journal. */
export const rowOfAccess = (access: Access): PlainRow => ({
  ...(access.close === null ? unknownHave : haveOfClose(access.close)),
  request: access.request,
  part: String(access.part),
  at: formatTime(access.at),
  ext: access.ext,
  facts: access.facts,
  place: access.closePlace,
  refusals: 0,
});

/** What is still in dispute at the end: our values, nothing charged, both claims (ledger §7). */
export const disputedRow = (access: Access, held: HeldRecord): PlainRow => {
  const row = rowOfAccess(access);
  const { bytes, digest, outcome, status, units } = row;
  const provider = { bytes, digest, outcome, status, units };
  return { ...row, outcome: 'disputed', units: {}, ext: { provider, consumer: held.claim ?? unknownHave } };
};

export const frameFor = (info: MeteredAgreement, K: string): RowFrame => ({
  agreementId: info.agreementId,
  price: info.price,
  K,
});

const random32 = (random: Random): string => toBase64Url(random.bytes(32));

export interface DraftParts {
  readonly account: Pick<Account, 'info'> & { readonly chain: Chain };
  readonly rows: readonly PlainRow[];
  readonly to: number;
  readonly isFinal: boolean;
  readonly random: Random;
}

const payloadOf = (
  { account, rows, to, isFinal, random }: DraftParts,
  made: { readonly root: string; readonly sums: StatementSums; readonly leafKey: string },
): UsageStatement => {
  const { info, chain } = account;
  const end = formatTime(Math.max(to, parseTime(chain.to) ?? 0)); // our clock may have jumped back
  return {
    v: 1,
    type: 'usage-statement',
    agreement: info.agreementId,
    agreementDigest: info.agreement,
    provider: info.provider,
    consumer: info.consumer,
    seq: String(chain.seq + 1),
    from: chain.to,
    to: end,
    first: String(chain.last + 1n),
    last: String(chain.last + BigInt(rows.length)),
    root: made.root,
    sums: sumsDigest(nodeCrypto, made.sums),
    price: info.price,
    prev: chain.digest,
    final: isFinal,
    ext: '',
    leafKey: made.leafKey,
    salt: random32(random),
  };
};

/** A draft over these rows, in their order, with fresh secrets. */
export const buildDraft = async (parts: DraftParts): Promise<KeptDraft> => {
  const { account, random } = parts;
  const { info, chain } = account;
  const K = random32(random);
  const frame = frameFor(info, K);
  const rows: StatedRow[] = await inSlices(parts.rows, ({ facts, place, refusals, ...row }, index) => {
    const numbered = { ...row, n: String(chain.last + BigInt(index + 1)) };
    const leaf = toBase64Url(leafOfRow(nodeCrypto, frame, numbered, facts));
    return { ...numbered, leaf, facts, place, refusals };
  });
  const totals = totalsAfter(chain.totals, rows);
  const sums = { amount: amountUnder(info.pricePlan, totals), salt: random32(random), totals };
  const leaf = makeLeafKey();
  const { x = '', y = '', d = '' } = leaf.privateJwk;
  const root = await rootOfLeaves(rows.map((row) => orNothing(fromBase64Url(row.leaf))));
  const payload = payloadOf(parts, { root, sums, leafKey: leaf.id });
  return {
    digest: statementDigest(nodeCrypto, statementText(payload)),
    payload,
    sums,
    K,
    leafKey: { kty: 'EC', crv: 'P-256', x, y, d },
    rows,
  };
};

/** A row as it goes over the wire: what only this side keeps stays here. */
export const wireRow = (row: StatedRow): DraftRow => ({
  n: row.n,
  request: row.request,
  part: row.part,
  at: row.at,
  bytes: row.bytes,
  digest: row.digest,
  outcome: row.outcome,
  status: row.status,
  units: row.units,
  ext: row.ext,
  leaf: row.leaf,
});

export const wireDraft = ({ payload, sums, K, leafKey, rows }: KeptDraft): StatementDraft => ({
  payload,
  sums,
  K,
  leafKey,
  records: rows.map(wireRow),
});

/** Records of a statement with their contexts opened, rebuilt from kept rows. */
export const recordsOf = (info: MeteredAgreement, K: string, rows: readonly StatedRow[]) =>
  rows.map((row) => recordOfRow(nodeCrypto, frameFor(info, K), wireRow(row), row.facts));
