import { verifyAnchor } from '../contracts/anchor/proof.ts';
import { receiptText } from '../contracts/ledger/receipt.ts';
import { verifyReceipt } from '../contracts/ledger/verify.ts';
import { nodeCrypto } from '../kernel/crypto.ts';
import { keccak256 } from '../kernel/keccak.ts';
import { buildWorld } from '../test/support/ledger-world.ts';
import { type BenchRow, isTiny, threadSeconds } from './row.ts';

/** A million receipts, in files of this many: what one statement packs. */
const perFile = isTiny ? 500 : 20_000;
const files = isTiny ? 1 : 50;

const secondsOf = (work: () => void): number => {
  const start = process.threadCpuUsage();
  work();
  return threadSeconds(start);
};

/**
 * Receipts verified offline, packed by statement. The limit is the least that any verifier must do with the same bytes:
 * parse the JSON and hash each record once.
 */
/** Seconds for so many files of so many receipts, ours and bare. */
const measure = (receipts: number, times: number): { ours: number; limit: number } => {
  const world = buildWorld({ records: receipts });
  const text = receiptText(world.packed);
  const tools = {
    crypto: nodeCrypto,
    verifyAnchor: (
      ...[anchor, checkpoint, chains]: Parameters<typeof verifyAnchor> extends [unknown, ...infer Rest] ? Rest : never
    ) => verifyAnchor({ keccak256, sha256: nodeCrypto.sha256 }, anchor, checkpoint, chains),
  };
  const once = () => {
    const { code } = verifyReceipt(tools, world.trust, text);
    if (code !== 0) throw new Error(`the benchmark's receipts do not verify: ${code}`);
  };
  const bare = () => {
    const { records } = JSON.parse(text) as { records: { record: unknown; context: unknown }[] };
    for (const item of records) {
      nodeCrypto.sha256(Buffer.from(JSON.stringify(item.record)));
      nodeCrypto.sha256(Buffer.from(JSON.stringify(item.context)));
    }
  };
  once();
  bare();
  const total = { ours: 0, limit: 0 };
  for (let round = 0; round < times; round += 1) {
    total.ours += secondsOf(once);
    total.limit += secondsOf(bare);
  }
  return total;
};

/**
 * Receipts verified offline, packed by statement. The limit is the least that any verifier must do with the same bytes:
 * parse the JSON and hash each record once. Growth is measured: a tenth in each file takes a tenth of the time.
 */
export const run = async (): Promise<BenchRow[]> => {
  const { ours, limit } = measure(perFile, files);
  const tenth = measure(perFile / 10, files);
  const million = 1e6 / (files * perFile);
  const grown = ours / tenth.ours;
  return [
    {
      name: 'one million receipts verified offline, packed by statement',
      value: ours * million,
      unit: 'cpu s',
      limit: limit * million,
      ratio: limit / ours,
      target: '< 10 s',
      isHit: ours * million < 10,
      growth: 'linear in receipts',
    },
    {
      name: 'the same, ten times as many receipts in a statement',
      value: grown,
      unit: '× the time',
      limit: null,
      ratio: null,
      target: 'linear: ≤ 11 ×',
      isHit: grown <= 11,
      growth: 'linear in receipts',
    },
  ];
};
