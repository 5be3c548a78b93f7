import { z } from 'zod';
import { canonicalize, type Json } from '../json.ts';
import { logEntry } from './entry.ts';
import { base64, decimal, hash32, positiveDecimal, version } from './forms.ts';
import { generalJws } from './jws.ts';
import { usageContext, usageRecord } from './record.ts';
import { statementSums } from './statement.ts';

/** Receipts (ledger §11) and the reader's trust file. */

const maxPath = 64;

const inclusionProof = z.strictObject({ index: decimal, path: z.array(hash32).max(maxPath) });
export type InclusionProof = z.infer<typeof inclusionProof>;

const signedLeaf = z.strictObject({ artifact: generalJws, entry: logEntry, proof: inclusionProof });
const publicLeaf = z.strictObject({ artifact: z.record(z.string(), z.json()), entry: logEntry, proof: inclusionProof });

const laterCheckpoint = z.strictObject({
  checkpoint: z.string().max(65_536),
  consistency: z.array(hash32).max(maxPath),
});

export const evmAnchor = z.strictObject({
  kind: z.literal('evm'),
  chainId: positiveDecimal,
  contract: z.string().regex(/^0x[0-9a-f]{40}$/, 'is no lower-case address'),
  header: base64,
  key: base64,
  nodes: z.array(base64).min(1).max(maxPath),
  logIndex: decimal,
  later: z.union([laterCheckpoint, z.null()]),
});
export type EvmAnchor = z.infer<typeof evmAnchor>;

const shared = {
  v: version,
  statement: signedLeaf,
  agreement: signedLeaf,
  keys: z.array(publicLeaf).min(1).max(256),
  sums: z.union([statementSums, z.null()]),
  checkpoint: z.string().max(65_536),
  anchors: z.array(evmAnchor).max(16),
};

const openContext = z.union([usageContext, z.null()]);
const path = z.array(hash32).max(maxPath);

export const receipt = z.strictObject({
  ...shared,
  type: z.literal('receipt'),
  record: usageRecord,
  context: openContext,
  recordPath: path,
});
export type Receipt = z.infer<typeof receipt>;

export const packedReceipts = z.strictObject({
  ...shared,
  type: z.literal('receipts'),
  records: z.array(z.strictObject({ record: usageRecord, context: openContext, path })).min(1),
});
export type PackedReceipts = z.infer<typeof packedReceipts>;

/** The bytes of a receipt file. */
export const receiptText = (value: Receipt | PackedReceipts): string => canonicalize(value as Json);

export const trustFile = z.strictObject({
  v: version,
  type: z.literal('trust'),
  logs: z
    .array(
      z.strictObject({ vkey: z.string().max(1024), registryKey: z.string().max(256), policy: z.string().max(65_536) }),
    )
    .max(64),
  chains: z
    .array(
      z.strictObject({
        chainId: positiveDecimal,
        contract: z.string().regex(/^0x[0-9a-f]{40}$/, 'is no lower-case address'),
        blocks: z.array(z.string().regex(/^0x[0-9a-f]{64}$/, 'is no block hash')).max(100_000),
      }),
    )
    .max(64),
  oneSided: z.boolean().optional(),
});
export type TrustFile = z.infer<typeof trustFile>;

export const trustText = (trust: TrustFile): string => canonicalize(trust as Json);

/** What a reader must know of a log, from its trust file. */
export type TrustedLog = TrustFile['logs'][number];
