import { defineConfig } from 'vitest/config';

const project = (name: string, include: readonly string[], timeoutMs: number) => ({
  extends: true as const,
  test: { name, include: [...include], testTimeout: timeoutMs, hookTimeout: timeoutMs },
});

export default defineConfig({
  test: {
    pool: 'forks',
    // One for each processor: by default one is left out, which on two of them means one file after the other.
    maxWorkers: '100%',
    reporters: ['dot', './scripts/closing-line.ts'],
    projects: [
      project('unit', ['{contracts,policies,kernel,connector,broker,bin,demo,scripts}/**/*.test.ts'], 20_000),
      project('tidy', ['test/tidy/**/*.test.ts'], 120_000),
      project('contract', ['test/contract/**/*.test.ts'], 60_000),
      project('conformance', ['test/conformance/**/*.test.ts'], 120_000),
      project('simulation', ['test/simulation/**/*.test.ts'], 300_000),
      project('interop', ['test/interop/**/*.test.ts'], 120_000),
      project('e2e', ['test/e2e/**/*.test.ts'], 300_000),
    ],
  },
});
