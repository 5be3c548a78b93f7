import { readFileSync } from 'node:fs';
import { bordersCollection } from './borders.ts';
import { type Collection, serveFeatures } from './feature-server.ts';
import { gaugesCollection, levelsCollection } from './levels.ts';
import { placesCollection } from './places.ts';

/**
 * One source as a process: `node demo/sources/main.ts places|borders|water [SEED]`; prints its port as one line of JSON.
 * With DEMO_SOURCE_KEY_FILE it asks for the key in that file.
 */
const sources: Readonly<Record<string, (seed: string) => readonly Collection[]>> = {
  places: () => [placesCollection()],
  borders: () => [bordersCollection()],
  water: (seed) => [gaugesCollection(), levelsCollection(seed, Date.now())],
};

const [name = '', seed = 'stekker'] = process.argv.slice(2);
const make = sources[name];
if (make === undefined) {
  process.stderr.write(`there is no source "${name}": ${Object.keys(sources).join(', ')}\n`);
  process.exitCode = 2;
} else {
  const file = process.env.DEMO_SOURCE_KEY_FILE;
  const key = file === undefined ? {} : { key: readFileSync(file, 'utf8').trim() };
  const { port, close } = await serveFeatures(make(seed), key);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void close());
  process.stdout.write(`${JSON.stringify({ source: name, port })}\n`);
}
