import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { formatAmount } from '../../contracts/ledger/price-plan.ts';
import { type PackedReceipts, packedReceipts } from '../../contracts/ledger/receipt.ts';
import type { Terminal } from './cli.ts';
import { type Evidence, statementOf } from './evidence.ts';
import type { Report } from './report.ts';

/** The auditor, alone with the files: every receipt is verified, and the amounts are read from what both sides signed. */

export interface Amount {
  readonly agreement: string;
  /** Who owes. */
  readonly from: string;
  /** Whom. */
  readonly to: string;
  readonly currency: string;
  readonly scale: string;
  readonly value: string;
}

export const readReceipts = (files: readonly string[]): readonly PackedReceipts[] =>
  files.map((file) => packedReceipts.parse(JSON.parse(readFileSync(file, 'utf8'))));

/** What each agreement came to: its newest statement has the totals since the first. */
export const amountsIn = (receipts: readonly PackedReceipts[]): readonly Amount[] => {
  const groups = Map.groupBy(receipts, (one) => statementOf(one).agreementDigest);
  return [...groups.values()].map((group) => {
    const newest = group.toSorted((a, b) => Number(statementOf(b).seq) - Number(statementOf(a).seq))[0];
    if (newest?.sums == null) throw new Error('a statement without its sums');
    const { agreement, consumer, provider } = statementOf(newest);
    return { agreement, from: consumer, to: provider, ...newest.sums.amount };
  });
};

const verdicts = z.looseObject({
  code: z.number(),
  files: z.array(z.looseObject({ code: z.number(), facts: z.looseObject({ records: z.number() }) })),
});

/** @returns how many accesses are proven. @throws when one receipt is not valid. */
const verifyAll = async (terminal: Terminal, { receiptFiles, trustFile }: Evidence): Promise<number> => {
  const args = ['verify', ...receiptFiles, '--trust', trustFile];
  const { code, out, err } = await terminal.attempt({ who: 'auditor', env: {} }, args);
  if (code !== 0) throw new Error(`the receipts do not verify (exit code ${code}): ${out}${err}`);
  return verdicts.parse(JSON.parse(out)).files.reduce((sum, { facts }) => sum + facts.records, 0);
};

export interface Verified {
  readonly receiptsVerified: number;
  readonly amounts: readonly Amount[];
}

const amountText = ({ currency, scale, value }: Amount): string =>
  currency === '' ? 'free' : `${formatAmount(value, scale)} ${currency}`;

export const verifyEverything = async (
  its: { readonly terminal: Terminal; readonly report: Report; readonly titleOf: (did: string) => string },
  evidence: Evidence,
): Promise<Verified> => {
  const { terminal, report, titleOf } = its;
  const receiptsVerified = await verifyAll(terminal, evidence);
  if (receiptsVerified !== evidence.accesses)
    throw new Error(`${evidence.accesses} accesses were counted, and ${receiptsVerified} are proven`);
  report.say(`${receiptsVerified} accesses, and a valid receipt for each of them. Nothing but files was needed.`);
  const amounts = amountsIn(readReceipts(evidence.receiptFiles));
  const rows = amounts.map((one) => [titleOf(one.from), titleOf(one.to), amountText(one), one.agreement]);
  report.table([['who owes', 'whom', 'how much', 'under'], ...rows]);
  return { receiptsVerified, amounts };
};
