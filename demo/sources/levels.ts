import { seededRandom } from '../../kernel/random.ts';
import type { Collection, Feature } from './feature-server.ts';

/**
 * The water authority. Its levels come from a seeded generator: nothing in them was measured, and every feature says so.
 * Gaps carry the code 99 and the value 999999999, as real services write them.
 */

export const missingValue = 999_999_999;
const origin = 'synthetisch';
const stepMinutes = 10;
const steps = 36;

interface Gauge {
  readonly id: string;
  readonly name: string;
  readonly at: readonly [number, number];
  /** cm NAP: usual level, and the level from which it is an emergency. */
  readonly usual: number;
  readonly alarm: number;
  /** How far water may come from here, km. */
  readonly reachKm: number;
}

/** Fictional gauges at plausible places along the great rivers and the coast. */
const gauges: readonly Gauge[] = [
  { id: 'SYN-01', name: 'Synthetisch Bovenrijn', at: [6.07, 51.85], usual: 980, alarm: 1500, reachKm: 9 },
  { id: 'SYN-02', name: 'Synthetisch Waalbocht', at: [5.86, 51.85], usual: 820, alarm: 1310, reachKm: 8 },
  { id: 'SYN-03', name: 'Synthetisch IJsselkop', at: [5.98, 51.96], usual: 860, alarm: 1290, reachKm: 7 },
  { id: 'SYN-04', name: 'Synthetisch Maasdal', at: [5.7, 50.86], usual: 4310, alarm: 4560, reachKm: 6 },
  { id: 'SYN-05', name: 'Synthetisch Peelmaas', at: [6.16, 51.37], usual: 1080, alarm: 1480, reachKm: 7 },
  { id: 'SYN-06', name: 'Synthetisch Merwede', at: [4.97, 51.83], usual: 110, alarm: 320, reachKm: 10 },
  { id: 'SYN-07', name: 'Synthetisch Hollandse IJssel', at: [4.66, 51.95], usual: 60, alarm: 260, reachKm: 6 },
  { id: 'SYN-08', name: 'Synthetisch Haringvliet', at: [4.13, 51.83], usual: 60, alarm: 290, reachKm: 8 },
  { id: 'SYN-09', name: 'Synthetisch IJsseldelta', at: [5.91, 52.56], usual: 40, alarm: 190, reachKm: 9 },
  { id: 'SYN-10', name: 'Synthetisch Waddenkust', at: [5.42, 53.18], usual: 90, alarm: 370, reachKm: 7 },
];

/** Which gauges are above alarm in the story, and which one is silent. */
const flooded = new Set(['SYN-02', 'SYN-06', 'SYN-09']);
const silent = new Set(['SYN-05']);

const bytesFor = (seed: string) => {
  const random = seededRandom(seed);
  return () => (random.bytes(1)[0] ?? 0) / 255;
};

/** The level of a gauge at each step: its usual level, a slow wave, noise, and the flood as it rises. */
const levelsOf = (gauge: Gauge, seed: string): readonly number[] => {
  const next = bytesFor(`${seed}/${gauge.id}`);
  const phase = next() * 2 * Math.PI;
  const height = gauge.alarm - gauge.usual;
  return Array.from({ length: steps }, (_, step) => {
    const rise = flooded.has(gauge.id) ? height * 1.15 * Math.min(1, step / (steps * 0.6)) : height * 0.2;
    const wave = height * 0.04 * Math.sin(phase + (step / steps) * 2 * Math.PI);
    return Math.round(gauge.usual + rise + wave + (next() - 0.5) * 6);
  });
};

const isMissing = (gauge: Gauge, step: number, next: () => number): boolean =>
  silent.has(gauge.id) ? step > steps / 4 : next() < 0.03;

/** `end` is the time of the last step, ms. */
const observationsOf = (gauge: Gauge, seed: string, end: number): readonly Feature[] => {
  const next = bytesFor(`${seed}/gaps/${gauge.id}`);
  return levelsOf(gauge, seed).map((level, step) => {
    const missing = isMissing(gauge, step, next);
    return {
      type: 'Feature',
      id: `${gauge.id}-${String(step).padStart(2, '0')}`,
      geometry: { type: 'Point', coordinates: gauge.at },
      properties: {
        gauge: gauge.id,
        time: new Date(end - (steps - 1 - step) * stepMinutes * 60_000).toISOString(),
        value: missing ? missingValue : level,
        unit: 'cm NAP',
        quality: missing ? '99' : '00',
        herkomst: origin,
      },
    };
  });
};

export const gaugesCollection = (): Collection => {
  const features = gauges.map(
    ({ id, name, at, alarm, reachKm }): Feature => ({
      type: 'Feature',
      id,
      geometry: { type: 'Point', coordinates: at },
      properties: { name, alarm, unit: 'cm NAP', reachKm, herkomst: origin },
    }),
  );
  return {
    id: 'gauges',
    title: 'Meetpunten (synthetisch)',
    attribution: 'Made by a seeded generator, synthetic; CC0',
    features: () => features,
  };
};

/** Levels of the last six hours before `end`; the same seed and end give the same bytes. */
export const levelsCollection = (seed: string, end: number): Collection => {
  const whole = end - (end % (stepMinutes * 60_000));
  const features = gauges.flatMap((gauge) => observationsOf(gauge, seed, whole));
  return {
    id: 'levels',
    title: 'Waterstanden (synthetisch)',
    attribution: 'Made by a seeded generator, synthetic; CC0',
    features: () => features,
  };
};
