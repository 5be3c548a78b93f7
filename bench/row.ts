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
  /** How cost grows: `constant`, `logarithmic`, `linear in …`. */
  readonly growth: string;
}
