import type { Clock } from '../kernel/clock.ts';
import type { Metrics } from '../kernel/metrics.ts';
import type { PeerTransport, ProcessEventNotice } from './exchange/ports.ts';

/** What is counted and timed on the way in and out. Nothing a peer chose becomes a label. */

const seconds = (from: number, to: number): number => (to - from) / 1_000;

/** `2xx`, `4xx`, … and `none` where no answer came: a peer's own words never become a label. */
const classOf = (status: number | undefined): string =>
  status === undefined ? 'none' : `${Math.floor(status / 100)}xx`;

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

/** Counts changes of processes. */
export const countedProcesses = (metrics: Metrics): ((notice: ProcessEventNotice) => void) => {
  const count = metrics.counter('stekker_process_changes_total', 'Changes of processes, by the state they led to');
  return ({ participant, protocol, role, state }) => count({ participant, protocol, role, state });
};
