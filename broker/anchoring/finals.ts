import type { AnchoredCheckpoint, FinalAnchor } from '../../contracts/anchor/served.ts';
import { AppError } from '../../contracts/errors.ts';
import { formatTime } from '../../contracts/time.ts';
import type { AnchorRow, AnchorStore } from './ports.ts';

/** Final anchors of a log, at whatever contract they were made: evidence stays, also when nothing is anchored any more. */

export interface Finals {
  /** The newest first; `before` is the size to go on below. */
  readonly finals: (page: { readonly before?: number; readonly limit: number }) => Promise<readonly FinalAnchor[]>;
  /** The oldest final anchor whose checkpoint covers an entry; undefined while there is none. */
  readonly covering: (index: number) => Promise<AnchoredCheckpoint | undefined>;
}

const finalOf = (row: AnchorRow): FinalAnchor => {
  const { place, evidence, size, root, chainId, contract } = row;
  if (place === null || evidence === null)
    throw new AppError('invariant-broken', { detail: `the final anchor of size ${size} has no proof` });
  const { blockNumber, blockHash, transaction } = place;
  return { size, root, chainId, contract, blockNumber, blockHash, transaction, time: formatTime(evidence.blockTime) };
};

export const createFinals = (store: Pick<AnchorStore, 'finals'>, origin: string): Finals => ({
  finals: async ({ before, limit }) => {
    const query = { newestFirst: true, limit, ...(before === undefined ? {} : { below: before }) };
    return (await store.finals(origin, query)).map(finalOf);
  },
  covering: async (index) => {
    const [row] = await store.finals(origin, { above: index, limit: 1 });
    return row?.evidence == null ? undefined : { checkpoint: row.note, anchor: row.evidence.anchor };
  },
});
