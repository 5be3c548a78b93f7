import { build } from 'esbuild';

/** Builds `dist/stekker-verify.mjs`: the offline verifier in one self-contained file. */
export const buildVerifier = async (outfile: string): Promise<void> => {
  await build({
    entryPoints: [new URL('../bin/verifier.ts', import.meta.url).pathname],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    legalComments: 'inline',
    logLevel: 'warning',
  });
};

if (import.meta.main) await buildVerifier(new URL('../dist/stekker-verify.mjs', import.meta.url).pathname);
