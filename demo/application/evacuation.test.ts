import { describe, expect, test } from 'vitest';
import { dutchBorder } from '../sources/borders.ts';
import { levelsCollection, missingValue } from '../sources/levels.ts';
import { dutchPlaces } from '../sources/places.ts';
import { type Gauge, gaugeState, type Place, planEvacuation } from './evacuation.ts';
import { type Area, distanceKm, isWithin } from './geometry.ts';

const now = 1_795_431_600_000;
const gauge: Gauge = { id: 'g', name: 'g', at: [5, 52], alarm: 100, reachKm: 5 };
const level = (value: number, quality = '00', minutesAgo = 5) => ({
  gauge: 'g',
  time: now - minutesAgo * 60_000,
  value,
  quality,
});
const place = (name: string, lon: number, inhabitants: number | null): Place => ({
  id: name,
  name,
  at: [lon, 52],
  inhabitants,
});
const square: Area = [
  [
    [
      [4, 51],
      [6, 51],
      [6, 53],
      [4, 53],
      [4, 51],
    ],
  ],
];

describe('evacuation', () => {
  test('a missing code is never a value, whatever its size, and neither is an old level', () => {
    expect(gaugeState(gauge, [level(missingValue, '99')], now)).toEqual({ state: 'unknown' });
    expect(gaugeState(gauge, [level(missingValue)], now)).toEqual({ state: 'unknown' });
    expect(gaugeState(gauge, [level(-999)], now)).toEqual({ state: 'unknown' });
    expect(gaugeState(gauge, [level(150, '00', 90)], now)).toEqual({ state: 'unknown' });
    expect(gaugeState(gauge, [level(150, '00', -5)], now)).toEqual({ state: 'unknown' });
  });

  test('the newest usable level decides', () => {
    expect(gaugeState(gauge, [level(150, '00', 20), level(50)], now)).toMatchObject({ state: 'normal', level: 50 });
    expect(gaugeState(gauge, [level(150, '00', 20), level(50, '99')], now)).toMatchObject({ state: 'alarm' });
  });

  test('places within reach are counted, and sent to the nearest place that is safe and large enough', () => {
    const places = [
      place('near', 5.01, 1_000),
      place('nobody knows', 5.02, null),
      place('small', 5.1, 5_000),
      place('large', 5.2, 50_000),
      place('abroad', 5.12, 90_000),
    ];
    const border: Area = [
      [
        [
          [4, 51],
          [5.11, 51],
          [5.11, 53],
          [4, 53],
          [4, 51],
        ],
      ],
      [
        [
          [5.15, 51],
          [6, 51],
          [6, 53],
          [5.15, 53],
          [5.15, 51],
        ],
      ],
    ];
    const plan = planEvacuation({ places, gauges: [gauge], levels: [level(120)], border, now });
    expect(plan.affected.map(({ place: { name } }) => name)).toEqual(['near', 'nobody knows']);
    expect(plan).toMatchObject({ inhabitants: 1_000, uncounted: 1 });
    expect(plan.affected[0]?.refuge?.place.name).toBe('large');
  });

  test('a gauge without a usable level makes its surroundings unknown, not safe', () => {
    const places = [place('near', 5.01, 1_000), place('far', 5.5, 90_000)];
    const plan = planEvacuation({ places, gauges: [gauge], levels: [level(missingValue, '99')], border: square, now });
    expect(plan).toMatchObject({ affected: [], inhabitants: 0 });
    expect(plan.unknown.map(({ name }) => name)).toEqual(['near']);
  });
});

describe('demo data', () => {
  test('there are 1,407 Dutch places, and unknown numbers of inhabitants stay unknown', () => {
    const places = dutchPlaces();
    expect(places.length).toBe(1_407);
    expect(places.filter(({ properties }) => properties.inhabitants === null).length).toBe(2);
  });

  test('the border holds Utrecht and not Antwerp', () => {
    const { coordinates } = dutchBorder().geometry as { readonly coordinates: Area };
    expect(isWithin([5.12, 52.09], coordinates)).toBe(true);
    expect(isWithin([4.4, 51.22], coordinates)).toBe(false);
    expect(distanceKm([5.12, 52.09], [4.4, 51.22])).toBeCloseTo(108.6, 0);
  });

  test('the same seed gives the same levels, all of them marked synthetic', () => {
    const features = levelsCollection('a seed', now).features();
    expect(features).toEqual(levelsCollection('a seed', now).features());
    expect(features).not.toEqual(levelsCollection('another', now).features());
    expect(features.every(({ properties }) => properties.herkomst === 'synthetisch')).toBe(true);
    expect(features.filter(({ properties }) => properties.quality === '99').length).toBeGreaterThan(10);
  });
});
