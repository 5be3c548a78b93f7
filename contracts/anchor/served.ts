import { z } from 'zod';
import { positiveDecimal, time } from '../ledger/forms.ts';
import { evmAnchor } from '../ledger/receipt.ts';

/** What a log serves of its anchors, open to all: the list to pin from, and the proof for a receipt. */

const hash = z.string().regex(/^0x[0-9a-f]{64}$/, 'is no hash');
const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

/** One final anchor. Whoever reads it believes nothing of it but where to look. */
export const finalAnchor = z.looseObject({
  size: count,
  root: hash,
  chainId: positiveDecimal,
  contract: z.string().regex(/^0x[0-9a-f]{40}$/, 'is no lower-case address'),
  blockNumber: count,
  blockHash: hash,
  transaction: hash,
  /** The block's own time. */
  time,
});
export type FinalAnchor = z.infer<typeof finalAnchor>;

/** `GET <log>/anchors[?before=<size>]`: the newest first, at most a thousand. */
export const finalAnchors = z.looseObject({ anchors: z.array(finalAnchor).max(1_000) });

/** `GET <log>/anchors/newest?covers=<index>`: the oldest final anchor whose checkpoint covers the entry. */
export const anchoredCheckpoint = z.looseObject({ checkpoint: z.string().max(65_536), anchor: evmAnchor });
export type AnchoredCheckpoint = z.infer<typeof anchoredCheckpoint>;
