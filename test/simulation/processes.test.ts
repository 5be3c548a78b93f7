import { describe, expect, test } from 'vitest';
import * as negotiation from '../../connector/negotiation/machine.ts';
import * as transfer from '../../connector/transfer/machine.ts';
import { type Simulated, simulate } from './process-simulation.ts';

/** `SEED=123 vitest run test/simulation/processes` plays one seed and prints its trace; `npm run soak` plays a million. */
const one = process.env.SEED;
const seeds = Number(process.env.SEEDS ?? 60_000);
/** Many seeds take as long as they take. */
const patience = process.env.SEEDS === undefined ? undefined : 0;
const first =
  process.env.SEED_FROM === undefined
    ? Number(process.hrtime.bigint() % 2_000_000_000n)
    : Number(process.env.SEED_FROM);

const run = <State extends string, Kind extends string>(
  name: string,
  its: Simulated<State, Kind>,
): Map<string, number> => {
  if (one !== undefined) console.log(simulate(its, Number(one), true).trace.join('\n'));
  const endings = new Map<string, number>();
  console.log(`${name}: seeds ${first} to ${first + seeds - 1}`);
  for (let seed = first; seed < first + seeds; seed += 1) {
    const ending = simulate(its, seed);
    if (ending.diverged) {
      throw new Error(
        `seed ${seed}: provider ${ending.provider}, consumer ${ending.consumer}\n${simulate(its, seed, true).trace.join('\n')}`,
      );
    }
    endings.set(ending.provider, (endings.get(ending.provider) ?? 0) + 1);
  }
  return endings;
};

const kept = { negotiation: [], transfer: [1687670163, 1537240096] } satisfies Record<string, readonly number[]>;

const negotiated: Simulated<string, string> = {
  machine: negotiation as never,
  starter: { role: 'consumer', kind: 'request' },
  kinds: ['request', 'offer', 'accepted', 'agreement', 'verification', 'finalized', 'termination'],
};
const offered = { ...negotiated, starter: { role: 'provider', kind: 'offer' } } as const;
const transferred: Simulated<string, string> = {
  machine: transfer as never,
  starter: { role: 'consumer', kind: 'request' },
  kinds: ['start', 'suspension', 'completion', 'termination'],
};

describe('simulation', () => {
  test(
    'both sides of a negotiation end in the same state, whatever the network does',
    () => {
      const endings = run('negotiation', negotiated);
      for (const state of ['FINALIZED', 'TERMINATED'])
        expect(endings.get(state) ?? 0, state).toBeGreaterThan(seeds / 1000);
    },
    patience,
  );

  test(
    'both sides of a negotiation that the provider starts do too',
    () => {
      const endings = run('offer first', offered);
      for (const state of ['FINALIZED', 'TERMINATED'])
        expect(endings.get(state) ?? 0, state).toBeGreaterThan(seeds / 1000);
    },
    patience,
  );

  test(
    'both sides of a transfer end in the same state, whatever the network does',
    () => {
      const endings = run('transfer', transferred);
      for (const state of ['COMPLETED', 'TERMINATED', 'STARTED'])
        expect(endings.get(state) ?? 0, state).toBeGreaterThan(seeds / 1000);
    },
    patience,
  );

  test('seeds that failed once stay tried', () => {
    for (const seed of kept.negotiation) expect(simulate(negotiated, seed).diverged, `seed ${seed}`).toBe(false);
    for (const seed of kept.transfer) expect(simulate(transferred, seed).diverged, `seed ${seed}`).toBe(false);
  });
});
