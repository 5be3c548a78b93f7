/** Distances and areas on the globe, as far as the application needs them. Coordinates are [longitude, latitude] in degrees. */

export type Position = readonly [number, number];
type Ring = readonly Position[];

const earthKm = 6_371;
const radians = (degrees: number): number => (degrees * Math.PI) / 180;

/** Great-circle distance in kilometres (haversine). */
export const distanceKm = ([lonA, latA]: Position, [lonB, latB]: Position): number => {
  const dLat = radians(latB - latA);
  const dLon = radians(lonB - lonA);
  const h = Math.sin(dLat / 2) ** 2 + Math.cos(radians(latA)) * Math.cos(radians(latB)) * Math.sin(dLon / 2) ** 2;
  return 2 * earthKm * Math.asin(Math.min(1, Math.sqrt(h)));
};

/** Whether a point lies in a ring, by counting crossings. */
const inRing = ([x, y]: Position, ring: Ring): boolean => {
  let inside = false;
  for (const [index, [xi, yi]] of ring.entries()) {
    const [xj, yj] = ring[(index + ring.length - 1) % ring.length] ?? [xi, yi];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
};

/** Polygons with their holes. */
export type Area = readonly (readonly Ring[])[];

/** Whether a point lies in an area: in an outer ring and in none of its holes. */
export const isWithin = (point: Position, area: Area): boolean =>
  area.some(([outer = [], ...holes]) => inRing(point, outer) && !holes.some((hole) => inRing(point, hole)));
