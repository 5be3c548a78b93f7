import type { Clock } from './clock.ts';

/**
 * Figures for whoever watches a service, in the text format of Prometheus (0.0.4). Names, labels and what they may hold are
 * ours: nothing a peer chose becomes a label, because each value of a label is kept for ever.
 */

type Labels = Readonly<Record<string, string>>;

/** One value of a gauge, read when somebody asks. */
export interface Sample {
  readonly labels?: Labels;
  readonly value: number;
}

export interface Metrics {
  /** A figure that only grows: returns how to add to it. */
  readonly counter: (name: string, help: string) => (labels?: Labels, by?: number) => void;
  /** A figure that is read when somebody asks. */
  readonly gauge: (name: string, help: string, read: () => Promise<readonly Sample[]> | readonly Sample[]) => void;
  /** The same for a figure that only grows. */
  readonly total: (name: string, help: string, read: () => Promise<readonly Sample[]> | readonly Sample[]) => void;
  /** How long something took, seconds: returns how to note one. */
  readonly durations: (name: string, help: string) => (seconds: number, labels?: Labels) => void;
  /** All figures. A gauge that cannot be read is left out, and `stekker_metrics_failed` counts it. */
  readonly text: () => Promise<string>;
}

export const metricsType = 'text/plain; version=0.0.4; charset=utf-8';

const bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

const escaped = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

const labelled = (name: string, labels: Labels): string => {
  const parts = Object.entries(labels).map(([label, value]) => `${label}="${escaped(value)}"`);
  return parts.length === 0 ? name : `${name}{${parts.join(',')}}`;
};

const family = (name: string, help: string, type: string, lines: readonly string[]): string =>
  lines.length === 0 ? '' : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('\n')}\n`;

interface Durations {
  readonly labels: Labels;
  readonly counts: number[];
  sum: number;
}

const durationLines = (name: string, { labels, counts, sum }: Durations): string[] => {
  let total = 0;
  const buckets = [...bounds.map(String), '+Inf'].map((le, index) => {
    total += counts[index] ?? 0;
    return `${labelled(`${name}_bucket`, { ...labels, le })} ${total}`;
  });
  return [...buckets, `${labelled(`${name}_sum`, labels)} ${sum}`, `${labelled(`${name}_count`, labels)} ${total}`];
};

/** An empty set of figures. */
export const createMetrics = (): Metrics => {
  const families: (() => Promise<string>)[] = [];
  let failed = 0;
  const readable =
    (type: 'gauge' | 'counter'): Metrics['gauge'] =>
    (name, help, read) => {
      families.push(async () => {
        try {
          const lines = (await read()).map(({ labels = {}, value }) => `${labelled(name, labels)} ${value}`);
          return family(name, help, type, lines);
        } catch {
          failed += 1;
          return '';
        }
      });
    };
  return {
    gauge: readable('gauge'),
    total: readable('counter'),
    counter: (name, help) => {
      const counts = new Map<string, number>();
      families.push(async () =>
        family(
          name,
          help,
          'counter',
          [...counts].map(([key, count]) => `${key} ${count}`),
        ),
      );
      return (labels = {}, by = 1) => {
        const key = labelled(name, labels);
        counts.set(key, (counts.get(key) ?? 0) + by);
      };
    },
    durations: (name, help) => {
      const all = new Map<string, Durations>();
      families.push(async () =>
        family(
          name,
          help,
          'histogram',
          [...all.values()].flatMap((one) => durationLines(name, one)),
        ),
      );
      return (seconds, labels = {}) => {
        const key = labelled(name, labels);
        const one = all.get(key) ?? { labels, counts: new Array<number>(bounds.length + 1).fill(0), sum: 0 };
        const index = bounds.findIndex((bound) => seconds <= bound);
        const place = index < 0 ? bounds.length : index;
        one.counts[place] = (one.counts[place] ?? 0) + 1;
        one.sum += seconds;
        all.set(key, one);
      };
    },
    text: async () => {
      const texts = await Promise.all(families.map((text) => text()));
      const name = 'stekker_metrics_failed';
      return `${texts.join('')}${family(name, 'Figures that could not be read', 'counter', [`${name} ${failed}`])}`;
    },
  };
};

/** What every process tells about itself, under the names that Prometheus clients use. */
export const addProcessMetrics = (metrics: Metrics, clock: Clock): void => {
  const startedAt = clock.now() - process.uptime() * 1_000;
  metrics.gauge('process_resident_memory_bytes', 'Resident memory', () => [{ value: process.memoryUsage.rss() }]);
  metrics.gauge('process_start_time_seconds', 'When the process began, Unix time', () => [
    { value: startedAt / 1_000 },
  ]);
  metrics.total('process_cpu_seconds_total', 'Processor time, user and system', () => {
    const { user, system } = process.cpuUsage();
    return [{ value: (user + system) / 1_000_000 }];
  });
};
