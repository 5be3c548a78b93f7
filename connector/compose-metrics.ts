import { addTaskMetrics } from '../kernel/sql/outbox.ts';
import { countOpen } from './adapters/sql/process-store.ts';
import type { Base } from './base.ts';
import type { Identity } from './compose-identity.ts';
import type { Usage } from './compose-usage.ts';

/** Figures of a connector that are read when somebody asks: what runs, what waits, what can be recorded. */

export const addConnectorMetrics = (
  { metrics, db, clock, shared }: Pick<Base, 'metrics' | 'db' | 'clock' | 'shared'>,
  { identity, usage }: { readonly identity: Identity; readonly usage: Usage },
): void => {
  metrics.gauge('stekker_processes_open', 'Processes that are not finished', async () =>
    (await countOpen(db)).map(({ count, ...labels }) => ({ labels, value: count })),
  );
  addTaskMetrics(metrics, db, clock);
  metrics.gauge('stekker_redis_reachable', '1 when Redis can be asked; absent without Redis', () =>
    shared.redis === undefined ? [] : [{ value: shared.redis.isReachable() ? 1 : 0 }],
  );
  metrics.gauge('stekker_journal_ready', '1 when usage can be recorded', () =>
    (['provider', 'consumer'] as const).map((role) => ({
      labels: { role },
      value: usage.metering.meters[role].isReady() ? 1 : 0,
    })),
  );
  metrics.gauge('stekker_broker_silent_seconds', 'How long the broker has been silent; absent without a broker', () => {
    const { silentSeconds } = identity.status.view();
    return silentSeconds === null ? [] : [{ value: silentSeconds }];
  });
};
