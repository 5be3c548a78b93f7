import { readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';
import type { ApplicationKeys } from './joining.ts';
import type { Agreements } from './market.ts';
import { ProcessFailed, root, runProgram } from './processes.ts';
import { purpose, type Scene } from './scene.ts';

/** *Evacuatie bij hoogwater* runs: a process of its own that knows its gateway and three agreements, and nothing else. */

const summary = z.looseObject({
  accesses: z.number(),
  gaugesAboveAlarm: z.array(z.string()),
  gaugesUnknown: z.array(z.string()),
  places: z.number(),
  inhabitants: z.number(),
  placesWithUnknownInhabitants: z.number(),
  placesNearUnknownGauges: z.number(),
});

const result = z.looseObject({
  features: z.array(
    z.looseObject({
      properties: z.looseObject({
        name: z.string(),
        inhabitants: z.number().nullable(),
        refuge: z.string().nullable(),
        refugeDistanceKm: z.number().nullable(),
      }),
    }),
  ),
});

const shownPlaces = 5;

export const runApplication = async (
  { folder, report, stack, signal }: Scene,
  keys: ApplicationKeys,
  agreements: Agreements,
): Promise<void> => {
  const settings = folder.at('result', 'settings.json');
  const { places, borders, water } = agreements;
  writeFileSync(
    settings,
    JSON.stringify({
      gateway: stack.runtime.gatewayUrl,
      keyFile: keys.accredited,
      purpose,
      agreements: { places: places.agreementId, borders: borders.agreementId, water: water.agreementId },
      folder: folder.at('result'),
    }),
  );
  const { code, out, err } = await runProgram(process.execPath, [`${root}/demo/application/main.ts`, settings], {
    signal,
  });
  if (code !== 0) throw new ProcessFailed(`the application ended with ${code}: ${err.trim()}`);
  const its = summary.parse(JSON.parse(out));
  report.say(
    `Above alarm level: ${its.gaugesAboveAlarm.join(', ')}; no usable level: ${its.gaugesUnknown.join(', ')}.`,
    `${its.places} places with ${its.inhabitants.toLocaleString('en')} inhabitants lie within reach of the water (levels: synthetisch);`,
    `${its.placesWithUnknownInhabitants} of them with an unknown number, and ${its.placesNearUnknownGauges} places near a silent gauge are unknown, not safe.`,
  );
  const { features } = result.parse(JSON.parse(readFileSync(folder.at('result', 'evacuatie.geojson'), 'utf8')));
  const rows = features
    .slice(0, shownPlaces)
    .map(({ properties: { name, inhabitants, refuge, refugeDistanceKm } }) => [
      name,
      inhabitants === null ? 'unknown' : inhabitants.toLocaleString('en'),
      refuge === null ? 'nobody has room' : `${refuge}, ${refugeDistanceKm} km`,
    ]);
  report.table([['the largest places (synthetisch)', 'inhabitants', 'could go to'], ...rows]);
  report.say(`The result and its provenance (PROV-O) are in ${folder.at('result')}`);
};
