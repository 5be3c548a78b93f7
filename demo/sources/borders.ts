import { createRequire } from 'node:module';
import { feature } from 'topojson-client';
import type { Collection, Feature } from './feature-server.ts';

/** The border service: the Netherlands of Natural Earth. */

interface Topology {
  readonly objects: { readonly countries: { readonly geometries: readonly { readonly id?: string }[] } };
}

/** ISO 3166-1 numeric. */
const netherlands = '528';

export const dutchBorder = (): Feature => {
  const topology = createRequire(import.meta.url)('world-atlas/countries-10m.json') as Topology;
  const country = topology.objects.countries.geometries.find(({ id }) => id === netherlands);
  if (country === undefined) throw new Error('the atlas has no Netherlands');
  const { geometry } = feature(topology, country);
  return { type: 'Feature', id: 'NL', geometry, properties: { name: 'Nederland' } };
};

export const bordersCollection = (): Collection => {
  const features = [dutchBorder()];
  return {
    id: 'borders',
    title: 'Grenzen',
    attribution: 'Natural Earth, public domain (by way of the package world-atlas)',
    features: () => features,
  };
};
