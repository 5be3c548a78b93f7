import { expect } from 'vitest';
import { z } from 'zod';
import { verifyAnchor } from '../../contracts/anchor/proof.ts';
import { brokerInfo } from '../../contracts/events.ts';
import { addUnits } from '../../contracts/ledger/price-plan.ts';
import { type PackedReceipts, packedReceipts, type TrustFile } from '../../contracts/ledger/receipt.ts';
import type { UsageRecord } from '../../contracts/ledger/record.ts';
import type { StatementSums } from '../../contracts/ledger/statement.ts';
import { type VerifyTools, verifyReceipt } from '../../contracts/ledger/verify.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { until } from './broker-bench.ts';
import type { ConnectorBench, Operate } from './chain-world.ts';
import { rowsOf } from './hostile.ts';
import type { ReadRows } from './postgres.ts';

/** What both sides hold of an agreement when it is over: their statements, receipts and sums, each by itself. */

export const verifyTools: VerifyTools = {
  crypto: nodeCrypto,
  verifyAnchor: (anchor, checkpoint, chains) =>
    verifyAnchor({ keccak256, sha256: nodeCrypto.sha256 }, anchor, checkpoint, chains),
};

const patience = 12;

/** Waits longer than `until` does: a start after a kill, a retransmission, a registration in the log. */
export const atLast = async <Value>(what: string, look: () => Promise<Value | undefined>): Promise<Value> => {
  for (let round = 0; round < patience; round += 1) {
    try {
      return await until(look);
    } catch (error) {
      if (round === patience - 1) throw new Error(`${what} did not happen`, { cause: error });
    }
  }
  throw new Error(`${what} did not happen`);
};

const statementRow = z.looseObject({
  seq: z.number(),
  digest: z.string(),
  payload: z.string(),
  sums: z.string(),
  state: z.enum(['signed', 'complete']),
});

export interface HeldStatement {
  readonly seq: number;
  readonly digest: string;
  readonly isFinal: boolean;
  readonly isComplete: boolean;
}

/** Whose rows are in its data folder, or in a database that it shares with others. */
export type Kept = { readonly bench: ConnectorBench } | { readonly rows: ReadRows };

/** An open, read-only look into the rows of a party. */
export const rowsAt = async (kept: Kept, sql: string, ...values: string[]): Promise<Record<string, unknown>[]> =>
  'rows' in kept ? kept.rows(sql, ...values) : rowsOf(kept.bench, sql, ...values);

/** Statements of an agreement as a connector keeps them, in order. */
export const statementsOf = async (
  kept: Kept,
  role: 'provider' | 'consumer',
  agreementDigest: string,
): Promise<readonly HeldStatement[]> =>
  (await rowsAt(kept, 'select * from statement where role = ? and agreement = ? order by seq', role, agreementDigest))
    .map((row) => statementRow.parse(row))
    .map(({ seq, digest, payload, state }) => ({
      seq,
      digest,
      isFinal: z.looseObject({ final: z.boolean() }).parse(JSON.parse(payload)).final,
      isComplete: state === 'complete',
    }));

/** Waits until the last statement stands complete at both sides; what both hold. */
const finalStatements = async (
  provider: Kept,
  consumer: Kept,
  agreementDigest: string,
): Promise<{ readonly provider: readonly HeldStatement[]; readonly consumer: readonly HeldStatement[] }> =>
  atLast('the final statement', async () => {
    const ours = await statementsOf(provider, 'provider', agreementDigest);
    const theirs = await statementsOf(consumer, 'consumer', agreementDigest);
    const isOver = [ours, theirs].every((all) => all.at(-1)?.isFinal === true && all.at(-1)?.isComplete === true);
    return isOver ? { provider: ours, consumer: theirs } : undefined;
  });

/** The trust file of a reader who knows the broker's log and nothing else. */
export const trustIn = async (brokerOrigin: string): Promise<TrustFile> => {
  const answer = await fetch(`${brokerOrigin}/.well-known/stekker-broker`);
  const { log } = brokerInfo.parse(await answer.json());
  const { vkey, registryKey, policy } = log;
  return { v: 1, type: 'trust', logs: [{ vkey, registryKey, policy }], chains: [] };
};

export interface Settled {
  readonly records: readonly UsageRecord[];
  /** Of the last statement with records. */
  readonly sums: StatementSums | null;
  readonly texts: readonly string[];
}

/** All receipts of an agreement as its party hands them out; each is verified here, offline, by the reader's own trust. */
export const receiptsOf = async (operate: Operate, agreementId: string, trust: TrustFile): Promise<Settled> => {
  const texts = await atLast('the receipts', async () => {
    const answer = await operate('GET', `/v1/receipts?agreement=${encodeURIComponent(agreementId)}`);
    return answer.status === 200 ? z.array(z.string()).parse(answer.body.items) : undefined;
  });
  const files = texts.map((text): PackedReceipts => {
    const { code, steps } = verifyReceipt(verifyTools, trust, text);
    if (code !== 0) throw new Error(`a receipt does not verify: ${JSON.stringify(steps)}`);
    return packedReceipts.parse(JSON.parse(text));
  });
  return {
    texts,
    records: files.flatMap(({ records }) => records.map(({ record }) => record)),
    sums: files.at(-1)?.sums ?? null,
  };
};

/** Sums of records, made here. */
export const totalsOf = (records: readonly UsageRecord[]): Record<string, string> =>
  records.reduce<Record<string, string>>((totals, { units }) => ({ ...addUnits(totals, units) }), {});

/** A party as a test reaches it. */
export type Side = Kept & { readonly operate: Operate };

export interface SettledWorld {
  readonly provider: Side;
  readonly consumer: Side;
  readonly trust: TrustFile;
  /** What each unit costs: lines of the price plan. */
  readonly lines: readonly { readonly unit: string; readonly quantity: string; readonly value: string }[];
}

const statedColumns = 'seq, n, request, part, at, bytes, digest, outcome, status, units, ext, leaf';

/** Records in complete statements, as a connector keeps them, a moment after both have signed. */
const rowsStated = (kept: Kept, role: 'provider' | 'consumer', agreementDigest: string) =>
  rowsAt(
    kept,
    `select ${statedColumns} from usage_record where role = ? and agreement = ? order by n`,
    role,
    agreementDigest,
  );

export const nameOf = ({ request, part }: Pick<UsageRecord, 'request' | 'part'>): string => `${request} ${part}`;

/**
 * When an agreement is over both sides hold the same statements, each record once, numbered without a gap, with sums that are
 * those of the records; every receipt verifies. The records by request and part.
 */
export const settle = async (
  { provider, consumer, trust, lines }: SettledWorld,
  agreed: { readonly agreementId: string; readonly agreementDigest: string },
): Promise<Map<string, UsageRecord>> => {
  const statements = await finalStatements(provider, consumer, agreed.agreementDigest);
  expect(statements.consumer).toEqual(statements.provider);
  const ours = await receiptsOf(provider.operate, agreed.agreementId, trust);
  const theirs = await receiptsOf(consumer.operate, agreed.agreementId, trust);
  expect(theirs.records).toEqual(ours.records);
  expect(theirs.sums).toEqual(ours.sums);
  await atLast('that both keep the same records', async () => {
    const kept = await rowsStated(provider, 'provider', agreed.agreementDigest);
    const theirRows = await rowsStated(consumer, 'consumer', agreed.agreementDigest);
    return JSON.stringify(kept) === JSON.stringify(theirRows) && kept.length === ours.records.length ? true : undefined;
  });
  const { records, sums } = ours;
  const byName = new Map(records.map((record) => [nameOf(record), record]));
  expect(byName.size).toBe(records.length);
  expect(records.map(({ n }) => n)).toEqual(records.map((_record, index) => String(index + 1)));
  const totals = totalsOf(records);
  expect(sums?.totals).toEqual(totals);
  const cost = ({ unit, quantity, value }: SettledWorld['lines'][number]): bigint =>
    (BigInt(totals[unit] ?? '0') * BigInt(value)) / BigInt(quantity);
  expect(sums?.amount.value).toBe(String(lines.reduce((sum, line) => sum + cost(line), 0n)));
  return byName;
};
