// The Solidity compiler of npm, which brings no types: the two calls that are made of it.
declare module 'solc' {
  const solc: {
    readonly version: () => string;
    readonly compile: (
      input: string,
      callbacks: { readonly import: (path: string) => { contents: string } | { error: string } },
    ) => string;
  };
  // biome-ignore lint/style/noDefaultExport: a CommonJS module has no other
  export default solc;
}
