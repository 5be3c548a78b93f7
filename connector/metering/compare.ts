import { fromBase64, fromBase64Url, orNothing, toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { canonicalize } from '../../contracts/json.ts';
import { type DraftRow, leafOfRow, type StatementDraft } from '../../contracts/ledger/draft.ts';
import { leafKeyId } from '../../contracts/ledger/entry.ts';
import {
  type StatementRefusal,
  type StatementSums,
  sumsDigest,
  type UsageStatement,
} from '../../contracts/ledger/statement.ts';
import { parseTime } from '../../contracts/time.ts';
import { signWithLeafKey } from '../../kernel/assertions.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { type Access, type Account, keyOf, totalsAfter } from './account.ts';
import { haveOfClose, judge } from './counts.pure.ts';
import type { StatedRow } from './ports.ts';
import { amountUnder, frameFor, inSlices, rootOfLeaves } from './statements.ts';

/**
 * The consumer's look at a draft (ledger §8 "Order", step 2): every leaf, the root and the totals are made again from our own
 * journal. Nothing is taken over from the draft but what a rule gives to the provider to say.
 */

export type Comparison =
  /** Our own rows, which come to the same root and the same sums. */
  | { readonly kind: 'accept'; readonly rows: readonly StatedRow[] }
  | {
      readonly kind: 'refuse';
      readonly code: StatementRefusal['code'];
      readonly records: StatementRefusal['records'];
    }
  /** A row is about an access that is still open here. */
  | { readonly kind: 'open' };

/** Clocks may differ by this much (wire §9). */
const clockToleranceMs = 60_000;

const refuse = (code: StatementRefusal['code'], records: StatementRefusal['records'] = []): Comparison => ({
  kind: 'refuse',
  code,
  records,
});

/** Whether we could register with this key: it is the one the payload names, and its private part is no other's. */
const hasLeafKey = ({ payload, leafKey }: StatementDraft): boolean => {
  const message = utf8(payload.leafKey);
  const made = signWithLeafKey(leafKey, message);
  const spki = orNothing(fromBase64(made?.spki ?? ''));
  if (leafKeyId(nodeCrypto, spki) !== payload.leafKey) return false;
  return nodeCrypto.verify('ES256-DER', spki, message, orNothing(fromBase64(made?.leafSignature ?? '')));
};

/** Whether the payload is the next of this agreement; what is wrong with it, if anything. */
const payloadFault = (account: Account, draft: StatementDraft, now: number): StatementRefusal['code'] | undefined => {
  const { info, chain } = account;
  const { payload, records } = draft;
  const expected: Partial<UsageStatement> = {
    agreement: info.agreementId,
    agreementDigest: info.agreement,
    provider: info.provider,
    consumer: info.consumer,
    seq: String(chain.seq + 1),
    from: chain.to,
    first: String(chain.last + 1n),
    last: String(chain.last + BigInt(records.length)),
    prev: chain.digest,
    ext: '',
  };
  const isNext = Object.entries(expected).every(([name, value]) => payload[name as keyof UsageStatement] === value);
  if (!isNext || chain.isFinal || (records.length === 0 && !payload.final)) return 'order';
  if (payload.price !== info.price) return 'price';
  if ((parseTime(payload.to) ?? Number.POSITIVE_INFINITY) > now + clockToleranceMs) return 'time';
  return hasLeafKey(draft) ? undefined : 'key';
};

const isNumbered = (account: Account, records: readonly DraftRow[]): boolean => {
  const keys = new Set(records.map(({ request, part }) => keyOf(request, Number(part))));
  const first = account.chain.last + 1n;
  return keys.size === records.length && records.every(({ n }, index) => BigInt(n) === first + BigInt(index));
};

interface Judged {
  readonly row: DraftRow;
  readonly access: Access | undefined;
  readonly fault: 'counts' | 'missing' | 'time' | undefined;
}

/** Judges one row against our own journal, and makes its leaf again. */
const judgeRow = (account: Account, K: string, row: DraftRow): Judged => {
  const access = account.accesses.get(keyOf(row.request, Number(row.part)));
  const own = access?.close == null ? undefined : haveOfClose(access.close);
  const verdict = judge(own, row);
  if (access === undefined || own === undefined || verdict !== 'accept') {
    return { row, access, fault: verdict === 'accept' ? 'missing' : verdict };
  }
  const isTimely = Math.abs((parseTime(row.at) ?? 0) - access.at) <= clockToleranceMs;
  if (!isTimely) return { row, access, fault: 'time' };
  const { leaf, ...rest } = row;
  const ours = toBase64Url(leafOfRow(nodeCrypto, frameFor(account.info, K), rest, access.facts));
  return { row, access, fault: ours === leaf ? undefined : 'counts' };
};

const codeOf = (faults: readonly Judged['fault'][]): StatementRefusal['code'] =>
  (['missing', 'counts', 'time'] as const).find((code) => faults.includes(code)) ?? 'counts';

/** As many as one answer carries; the others are refused in the next round. */
const maxRefused = 5_000;

const refusedRecords = (judged: readonly Judged[]): StatementRefusal['records'] =>
  judged
    .filter(({ fault }) => fault !== undefined)
    .slice(0, maxRefused)
    .map(({ row, access }) => ({
      request: row.request,
      part: row.part,
      have: access?.close == null ? null : haveOfClose(access.close),
    }));

const sumsFit = (account: Account, rows: readonly DraftRow[], sums: StatementSums, stated: string): boolean => {
  const totals = totalsAfter(account.chain.totals, rows);
  const own: StatementSums = { amount: amountUnder(account.info.pricePlan, totals), salt: sums.salt, totals };
  return canonicalize(own) === canonicalize(sums) && sumsDigest(nodeCrypto, own) === stated;
};

/** Whether a row is about an access that may yet close here: it is open, or one of a journal that has not brought all it has. */
const mayClose = ({ blocks }: Account, access: Access | undefined): boolean =>
  access === undefined ? blocks.size > 0 : access.close === null;

/** Compares a draft with our own journal. `mayWait`: what is still open here may yet close. */
export const compareDraft = async (
  account: Account,
  draft: StatementDraft,
  now: number,
  mayWait: boolean,
): Promise<Comparison> => {
  const fault = payloadFault(account, draft, now);
  if (fault !== undefined) return refuse(fault);
  if (!isNumbered(account, draft.records)) return refuse('order');
  const judged = await inSlices(draft.records, (row) => judgeRow(account, draft.K, row));
  if (mayWait && judged.some(({ access }) => mayClose(account, access))) return { kind: 'open' };
  const records = refusedRecords(judged);
  if (records.length > 0) return refuse(codeOf(judged.map((one) => one.fault)), records);
  const root = await rootOfLeaves(draft.records.map(({ leaf }) => orNothing(fromBase64Url(leaf))));
  if (root !== draft.payload.root) return refuse('counts');
  if (!sumsFit(account, draft.records, draft.sums, draft.payload.sums)) return refuse('totals');
  const rows = judged.flatMap(({ row, access }): StatedRow[] =>
    access === undefined ? [] : [{ ...row, facts: access.facts, place: access.closePlace, refusals: 0 }],
  );
  return { kind: 'accept', rows };
};
