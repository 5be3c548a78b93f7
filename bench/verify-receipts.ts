import { verifyAnchor } from '../contracts/anchor/proof.ts';
import { receiptText } from '../contracts/ledger/receipt.ts';
import { verifyReceipt } from '../contracts/ledger/verify.ts';
import { nodeCrypto } from '../kernel/crypto.ts';
import { keccak256 } from '../kernel/keccak.ts';
import { buildWorld } from '../test/support/ledger-world.ts';
import type { BenchRow } from './row.ts';

const perFile = 20_000;
const files = 10;

const secondsOf = (work: () => void): number => {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1e9;
};

/**
 * Receipts verified offline, packed by statement. The limit is the least that any verifier must do with the same bytes:
 * parse the JSON and hash each record once.
 */
export const run = async (): Promise<BenchRow[]> => {
  const world = buildWorld({ records: perFile });
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
  let ours = 0;
  let limit = 0;
  for (let round = 0; round < files; round += 1) {
    ours += secondsOf(once);
    limit += secondsOf(bare);
  }
  const million = (seconds: number) => (seconds / (files * perFile)) * 1e6;
  return [
    {
      name: 'one million receipts verified offline, packed by statement',
      value: million(ours),
      unit: 's',
      limit: million(limit),
      ratio: limit / ours,
      target: '< 10 s',
      growth: 'linear in receipts',
    },
  ];
};
