import { describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { endedOn, idOf, pair } from '../support/agreement-pair.ts';
import { type Fate, tenant } from '../support/dsp-pair.ts';
import { createDice } from './process-simulation.ts';

/** Ends that cross, over a network that loses and repeats. */

const seeds = Number(process.env.END_SEEDS ?? 50);

describe('simulation of ends', () => {
  test('that both decide at once becomes one end that both signed, for every seed', async () => {
    const seed = Number(process.env.SEED ?? process.hrtime.bigint() % 1_000_000n);
    console.log(`ends that cross: seeds ${seed} to ${seed + seeds - 1}`);
    for (let one = seed; one < seed + seeds; one += 1) {
      const dice = createDice(one);
      let isBad = false;
      const fate = (): Fate =>
        isBad && dice.chance(0.4) ? ((['lose', 'lose-answer', 'repeat'] as const)[dice.below(3)] ?? 'lose') : 'deliver';
      await using world = await pair({ fate }, { fate });
      const { provider, consumer } = world;
      const row = await world.negotiate();
      isBad = true;
      await Promise.all(
        [provider, consumer].map(async (party, index) => {
          await systemClock.sleep(dice.below(4));
          return party.negotiations.end(tenant, idOf(row), `by ${index}`);
        }),
      );
      isBad = false;
      const [mine, theirs] = [await endedOn(provider, row), await endedOn(consumer, row)];
      expect(mine.data.end?.artifact, `seed ${one}`).toEqual(theirs.data.end?.artifact);
      expect(mine.data.end?.artifact?.signatures, `seed ${one}`).toHaveLength(2);
    }
  });
});
