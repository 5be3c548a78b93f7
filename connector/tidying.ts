import { forgetTurns } from '../kernel/sql/leases.ts';
import {
  forgetMessages,
  forgetNegotiations,
  forgetTokens,
  forgetTransfers,
  participantsWithCatalogs,
} from './adapters/sql/retention.ts';
import type { Base } from './base.ts';
import type { CatalogStore } from './catalog/ports.ts';

/** Forgets what need not be kept, in pieces; one process at a time, the others find it done. */

export const tidyMs = 3_600_000;
const dayMs = 86_400_000;
const pieceSize = 500;

export const tidy = async (
  { db, leases, clock, config, log }: Base,
  catalog: Pick<CatalogStore, 'forgetChanges'>,
): Promise<void> => {
  if ((await leases.take('tidy', tidyMs / 2)) === undefined) return;
  const now = clock.now();
  const before = (days: number): number => now - days * dayMs;
  const forgotten = {
    tokens: await forgetTokens(db, now),
    messages: await forgetMessages(db, before(config.STEKKER_KEEP_MESSAGES_DAYS)),
    negotiations: await forgetNegotiations(db, before(config.STEKKER_KEEP_PROCESSES_DAYS)),
    transfers: await forgetTransfers(db, before(config.STEKKER_KEEP_PROCESSES_DAYS)),
    changes: 0,
  };
  for (const participant of await participantsWithCatalogs(db))
    for (let count = pieceSize; count === pieceSize; forgotten.changes += count)
      count = await catalog.forgetChanges(participant, before(config.STEKKER_KEEP_CHANGES_DAYS), pieceSize);
  await forgetTurns(db, now - tidyMs);
  log.info(forgotten, 'what need not be kept was forgotten');
};
