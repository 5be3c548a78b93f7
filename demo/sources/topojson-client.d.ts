declare module 'topojson-client' {
  /** One geometry object of a topology as a GeoJSON feature. */
  export const feature: (topology: unknown, object: unknown) => { readonly geometry: unknown };
}
