/** As much of the untyped packages as kernel/vc/linked-data.ts calls. */

declare module '@digitalbazaar/vc' {
  export const issue: (options: object) => Promise<object>;
  export const verifyCredential: (options: object) => Promise<{ readonly verified: boolean; readonly error?: unknown }>;
}

declare module '@digitalbazaar/data-integrity' {
  export const DataIntegrityProof: new (options: object) => object;
}

declare module '@digitalbazaar/eddsa-rdfc-2022-cryptosuite' {
  export const cryptosuite: object;
}

declare module '@digitalbazaar/credentials-context' {
  export const contexts: ReadonlyMap<string, object>;
}

declare module 'jsonld' {
  const jsonld: { documentLoader: (url: string) => Promise<object> };
  // biome-ignore lint/style/noDefaultExport: the package has nothing else
  export default jsonld;
}
