import { createHash, randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { type Evacuation, type Gauge, type Level, type Place, planEvacuation } from './evacuation.ts';
import { type FeatureOf, type Gateway, type Input, readCollection } from './gateway.ts';
import type { Area } from './geometry.ts';
import { provenanceOf } from './provenance.ts';

/**
 * *Evacuatie bij hoogwater* as a program. It knows its own connector's gateway and three agreements, no source and no
 * credential of one: `node demo/application/main.ts SETTINGS.json`.
 */

export const applicationId = 'urn:stekker:1:app:evacuatie-bij-hoogwater';
export const applicationVersion = '1.0.0';

const settings = z.strictObject({
  gateway: z.url(),
  /** File with the application's own key at its connector. */
  keyFile: z.string().min(1),
  purpose: z.string(),
  agreements: z.strictObject({ places: z.string(), borders: z.string(), water: z.string() }),
  folder: z.string(),
});

const sha256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('base64url');

/** The program as it is deployed: its own sources, in order. */
export const programDigest = (): string => {
  const files = ['main.ts', 'evacuation.ts', 'geometry.ts', 'gateway.ts', 'provenance.ts'];
  return sha256(files.map((file) => readFileSync(join(import.meta.dirname, file), 'utf8')).join('\n'));
};

const position = z.tuple([z.number(), z.number()]);

const toPlace = ({ id, geometry, properties }: FeatureOf): Place => ({
  id: String(id),
  name: String(properties.name),
  at: position.parse(geometry.coordinates),
  inhabitants: typeof properties.inhabitants === 'number' ? properties.inhabitants : null,
});

const toGauge = ({ id, geometry, properties }: FeatureOf): Gauge => ({
  id: String(id),
  name: String(properties.name),
  at: position.parse(geometry.coordinates),
  alarm: Number(properties.alarm),
  reachKm: Number(properties.reachKm),
});

const toLevel = ({ properties }: FeatureOf): Level => ({
  gauge: String(properties.gauge),
  time: Date.parse(String(properties.time)),
  value: Number(properties.value),
  quality: String(properties.quality),
});

const resultOf = (plan: Evacuation, run: string) => ({
  type: 'FeatureCollection',
  run,
  herkomst: 'waterstanden: synthetisch',
  summary: {
    gaugesAboveAlarm: plan.gauges.filter(({ state }) => state.state === 'alarm').map(({ gauge }) => gauge.name),
    gaugesUnknown: plan.gauges.filter(({ state }) => state.state === 'unknown').map(({ gauge }) => gauge.name),
    places: plan.affected.length,
    inhabitants: plan.inhabitants,
    placesWithUnknownInhabitants: plan.uncounted,
    placesNearUnknownGauges: plan.unknown.length,
  },
  features: plan.affected.map(({ place, gauge, distanceKm, refuge }) => ({
    type: 'Feature',
    id: place.id,
    geometry: { type: 'Point', coordinates: place.at },
    properties: {
      name: place.name,
      inhabitants: place.inhabitants,
      gauge,
      distanceKm: Number(distanceKm.toFixed(1)),
      refuge: refuge === null ? null : refuge.place.name,
      refugeDistanceKm: refuge === null ? null : Number(refuge.distanceKm.toFixed(1)),
    },
  })),
});

const run = async (file: string): Promise<void> => {
  const { folder, agreements, ...rest } = settings.parse(JSON.parse(readFileSync(file, 'utf8')));
  const id = randomUUID();
  const key = readFileSync(rest.keyFile, 'utf8').trim();
  const gateway: Gateway = { url: rest.gateway, key, purpose: rest.purpose, run: `urn:uuid:${id}` };
  const startedAt = new Date().toISOString();
  const [places, borders, gauges, levels] = await Promise.all([
    readCollection(gateway, agreements.places, 'places'),
    readCollection(gateway, agreements.borders, 'borders'),
    readCollection(gateway, agreements.water, 'gauges'),
    readCollection(gateway, agreements.water, 'levels'),
  ]);
  const plan = planEvacuation({
    places: places.features.map(toPlace),
    gauges: gauges.features.map(toGauge),
    levels: levels.features.map(toLevel),
    border: borders.features.flatMap(({ geometry }) => geometry.coordinates as Area),
    now: Date.now(),
  });
  const result = JSON.stringify(resultOf(plan, gateway.run), null, 1);
  const titled = (inputs: readonly Input[], title: string) => inputs.map((input) => ({ ...input, title }));
  const provenance = provenanceOf({
    result: { file: 'evacuatie.geojson', digest: sha256(result) },
    inputs: [
      ...titled(places.inputs, 'Plaatsenregister'),
      ...titled(borders.inputs, 'Grenzen'),
      ...titled(gauges.inputs, 'Meetpunten (synthetisch)'),
      ...titled(levels.inputs, 'Waterstanden (synthetisch)'),
    ],
    program: { id: applicationId, version: applicationVersion, digest: programDigest() },
    run: id,
    purpose: gateway.purpose,
    startedAt,
    endedAt: new Date().toISOString(),
  });
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'evacuatie.geojson'), result);
  writeFileSync(join(folder, 'evacuatie.prov.jsonld'), JSON.stringify(provenance, null, 1));
  const { summary } = JSON.parse(result) as ReturnType<typeof resultOf>;
  const accesses = places.inputs.length + borders.inputs.length + gauges.inputs.length + levels.inputs.length;
  process.stdout.write(`${JSON.stringify({ run: id, accesses, ...summary })}\n`);
};

if (import.meta.main) await run(process.argv[2] ?? 'settings.json');
