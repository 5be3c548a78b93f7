/** One line of `npm run bench`: our figure beside the bare limit that was measured in the same run. */
export interface BenchRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What the machine or the bare library reached in the same run, in the same unit; null where there is none. */
  readonly limit: number | null;
  /** `value / limit`, null without a limit. */
  readonly ratio: number | null;
  /** The target of the design, in words: `≥ 22 % of the bare proxy`. */
  readonly target: string;
  /** Whether the target was reached; null where there is no target, or nothing here to compare with. */
  readonly isHit: boolean | null;
  /** How cost grows: `constant`, `logarithmic`, `linear in …`. */
  readonly growth: string;
}

/** Seconds instead of minutes, and figures that mean nothing: for the test that every benchmark still runs. */
export const isTiny = process.env.BENCH_TINY === '1';

export const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

/** Seconds of processor time that this thread took: it stands a machine that others use too, which a wall clock does not. */
export const threadSeconds = (since?: NodeJS.CpuUsage): number => {
  const { user, system } = process.threadCpuUsage(since);
  return (user + system) / 1e6;
};
