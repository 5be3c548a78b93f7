import { type Area, distanceKm, isWithin, type Position } from './geometry.ts';

/**
 * The application *Evacuatie bij hoogwater*: which places, and how many inhabitants, lie within reach of gauges above alarm
 * level, and where they could go. A missing code is never a value: a gauge without a usable level is unknown, not safe.
 */

export interface Place {
  readonly id: string;
  readonly name: string;
  readonly at: Position;
  /** Null where the register does not know. */
  readonly inhabitants: number | null;
}

export interface Gauge {
  readonly id: string;
  readonly name: string;
  readonly at: Position;
  readonly alarm: number;
  readonly reachKm: number;
}

export interface Level {
  readonly gauge: string;
  /** ms */
  readonly time: number;
  readonly value: number;
  readonly quality: string;
}

export type GaugeState =
  | { readonly state: 'alarm' | 'normal'; readonly level: number; readonly time: number }
  | { readonly state: 'unknown' };

const missingCodes = new Set([999_999_999, -999, -998]);
const goodQuality = '00';
/** A level older than this says nothing of now. */
const freshMs = 3_600_000;

/** The newest usable level of a gauge decides; none means unknown. */
export const gaugeState = (gauge: Gauge, levels: readonly Level[], now: number): GaugeState => {
  const usable = levels
    .filter(({ gauge: id, value, quality, time }) => {
      const isValue = quality === goodQuality && Number.isFinite(value) && !missingCodes.has(value);
      return id === gauge.id && isValue && time <= now && now - time <= freshMs;
    })
    .toSorted((a, b) => b.time - a.time);
  const [newest] = usable;
  if (newest === undefined) return { state: 'unknown' };
  return { state: newest.value >= gauge.alarm ? 'alarm' : 'normal', level: newest.value, time: newest.time };
};

export interface Affected {
  readonly place: Place;
  readonly gauge: string;
  readonly distanceKm: number;
  /** The nearest place that is safe and large enough, or null. */
  readonly refuge: { readonly place: Place; readonly distanceKm: number } | null;
}

export interface Evacuation {
  readonly gauges: readonly { readonly gauge: Gauge; readonly state: GaugeState }[];
  readonly affected: readonly Affected[];
  readonly inhabitants: number;
  /** Affected places whose inhabitants nobody knows: not counted as zero. */
  readonly uncounted: number;
  /** Places near a gauge that gave no usable level. */
  readonly unknown: readonly Place[];
}

/** A refuge takes at most a tenth of its own inhabitants. */
const refugeShare = 10;

export interface EvacuationInput {
  readonly places: readonly Place[];
  readonly gauges: readonly Gauge[];
  readonly levels: readonly Level[];
  readonly border: Area;
  readonly now: number;
}

const within = (place: Place, gauge: Gauge): boolean => distanceKm(place.at, gauge.at) <= gauge.reachKm;

const refugeFor = (place: Place, safe: readonly Place[]): Affected['refuge'] => {
  const needed = place.inhabitants ?? 0;
  let best: Affected['refuge'] = null;
  for (const candidate of safe) {
    if ((candidate.inhabitants ?? 0) < needed * refugeShare) continue;
    const km = distanceKm(place.at, candidate.at);
    if (best === null || km < best.distanceKm) best = { place: candidate, distanceKm: km };
  }
  return best;
};

/** The whole calculation, a pure function of its input. */
export const planEvacuation = ({ places, gauges, levels, border, now }: EvacuationInput): Evacuation => {
  const states = gauges.map((gauge) => ({ gauge, state: gaugeState(gauge, levels, now) }));
  const inState = (wanted: GaugeState['state']) =>
    states.filter(({ state }) => state.state === wanted).map(({ gauge }) => gauge);
  const alarms = inState('alarm');
  const silent = inState('unknown');
  const isNear = (place: Place, some: readonly Gauge[]) => some.some((gauge) => within(place, gauge));
  const safe = places.filter((place) => isWithin(place.at, border) && !isNear(place, alarms) && !isNear(place, silent));
  const affected = places.flatMap((place): Affected[] => {
    const [nearest] = alarms
      .filter((gauge) => within(place, gauge))
      .map((gauge) => ({ gauge: gauge.id, km: distanceKm(place.at, gauge.at) }))
      .toSorted((a, b) => a.km - b.km);
    if (nearest === undefined) return [];
    return [{ place, gauge: nearest.gauge, distanceKm: nearest.km, refuge: refugeFor(place, safe) }];
  });
  return {
    gauges: states,
    affected: affected.toSorted((a, b) => (b.place.inhabitants ?? 0) - (a.place.inhabitants ?? 0)),
    inhabitants: affected.reduce((sum, { place }) => sum + (place.inhabitants ?? 0), 0),
    uncounted: affected.filter(({ place }) => place.inhabitants === null).length,
    unknown: places.filter((place) => isNear(place, silent) && !isNear(place, alarms)),
  };
};
