import { createMiddleware } from 'hono/factory';
import { routePath } from 'hono/route';
import type { Clock } from '../kernel/clock.ts';
import { addProcessMetrics, createMetrics, type Metrics } from '../kernel/metrics.ts';
import { dueTasks } from '../kernel/sql/outbox.ts';
import { countOpen } from './adapters/sql/process-store.ts';
import type { Base } from './base.ts';
import type { Identity } from './compose-identity.ts';
import type { Usage } from './compose-usage.ts';
import type { PeerTransport, ProcessEventNotice } from './exchange/ports.ts';

/** Figures of a connector: what runs, what waits, what was asked and answered. */

const seconds = (from: number, to: number): number => (to - from) / 1_000;

/** `2xx`, `4xx`, … and `none` where no answer came: a peer's own words never become a label. */
const classOf = (status: number | undefined): string =>
  status === undefined ? 'none' : `${Math.floor(status / 100)}xx`;

export const openMetrics = (clock: Clock): Metrics => {
  const metrics = createMetrics();
  addProcessMetrics(metrics, clock);
  return metrics;
};

/** Times what peers and the broker answer us. */
export const measuredTransport = (transport: PeerTransport, metrics: Metrics, clock: Clock): PeerTransport => {
  const note = metrics.durations('stekker_peer_requests_seconds', 'Requests to peers and the broker, by answer');
  const timed =
    <Call, Answer extends { readonly status: number }>(method: string, send: (call: Call) => Promise<Answer>) =>
    async (call: Call): Promise<Answer> => {
      const began = clock.now();
      let status: number | undefined;
      try {
        const answer = await send(call);
        status = answer.status;
        return answer;
      } finally {
        note(seconds(began, clock.now()), { method, status: classOf(status) });
      }
    };
  return { post: timed('POST', transport.post), get: timed('GET', transport.get) };
};

/** Times what we answer, by the pattern of the path. */
export const measuredRoutes = (metrics: Metrics, clock: Clock) => {
  const note = metrics.durations('stekker_http_requests_seconds', 'Requests on the public port, by answer');
  return createMiddleware(async (c, next) => {
    const began = clock.now();
    await next();
    const labels = { method: c.req.method, route: routePath(c, -1), status: String(c.res.status) };
    note(seconds(began, clock.now()), labels);
  });
};

/** Counts changes of processes. */
export const countedProcesses = (metrics: Metrics): ((notice: ProcessEventNotice) => void) => {
  const count = metrics.counter('stekker_process_changes_total', 'Changes of processes, by the state they led to');
  return ({ participant, protocol, role, state }) => count({ participant, protocol, role, state });
};

/** What is read when somebody asks. */
export const addConnectorMetrics = (
  { metrics, db, clock }: Pick<Base, 'metrics' | 'db' | 'clock'>,
  { identity, usage }: { readonly identity: Identity; readonly usage: Usage },
): void => {
  metrics.gauge('stekker_processes_open', 'Processes that are not finished', async () =>
    (await countOpen(db)).map(({ count, ...labels }) => ({ labels, value: count })),
  );
  const due = () => dueTasks(db, clock.now());
  metrics.gauge('stekker_tasks_due', 'Tasks of the outbox that are due', async () => [{ value: (await due()).count }]);
  metrics.gauge('stekker_tasks_oldest_seconds', 'How long the oldest of them waits', async () => [
    { value: (await due()).oldestMs / 1_000 },
  ]);
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
