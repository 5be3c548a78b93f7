import { describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { providerPid, startWorld, tenant } from '../../test/support/data-world.ts';
import type { GrantWatch } from './grants.ts';

/** A watcher that takes its time, as a thread does. */
const slowWatch = () => {
  const heard: string[] = [];
  const watch: GrantWatch = {
    opened: async ({ transfer }, { asset }) => {
      await systemClock.sleep(20);
      heard.push(`opened ${transfer} ${asset}`);
    },
    closed: async (participant, transfer) => {
      await systemClock.sleep(20);
      heard.push(`closed ${participant} ${transfer}`);
    },
  };
  return { heard, watch };
};

describe('others that serve what is open', () => {
  test('know of a transfer before its address is given, and of its end before the end is told', async () => {
    const { heard, watch } = slowWatch();
    await using world = await startWorld({ watch });
    expect(heard.at(-1)).toMatch(new RegExp(`^opened ${providerPid} `));
    await world.closeTransfer();
    expect(heard.at(-1)).toBe(`closed ${tenant} ${providerPid}`);
    const before = heard.length;
    await systemClock.sleep(60);
    expect(heard).toHaveLength(before);
  });

  test('take in what was opened elsewhere, and serve it', async () => {
    await using world = await startWorld();
    const { grants } = world.plane();
    const open = grants.find(providerPid);
    if (open === undefined) throw new Error('the transfer of the world is open');
    await grants.take(open.grant);
    const taken = grants.find(providerPid);
    expect(taken).not.toBe(open);
    expect([open.isOpen, taken?.isOpen, taken?.grant]).toEqual([false, true, open.grant]);
    expect(grants.findBySecret(open.grant.secretHash)).toBe(taken);
  });
});
