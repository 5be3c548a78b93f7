import { describe, expect, test } from 'vitest';
import { maySend as mayNegotiate } from '../../connector/negotiation/machine.ts';
import { maySend as mayTransfer } from '../../connector/transfer/machine.ts';
import { systemClock } from '../../kernel/clock.ts';
import {
  consumerKey,
  createNetwork,
  eventually,
  type Fate,
  ordinary,
  providerKey,
  rainOffer,
  startParty,
  tenant,
} from '../support/dsp-pair.ts';
import { createDice } from './process-simulation.ts';

/** The real services on SQLite, over a network that loses and repeats, with workers that stop and start again. */

const seeds = Number(process.env.SERVICE_SEEDS ?? 500);
const first =
  process.env.SEED === undefined ? Number(process.hrtime.bigint() % 2_000_000_000n) : Number(process.env.SEED);
/** Many seeds take as long as they take. */
const patience = process.env.SERVICE_SEEDS === undefined ? undefined : 0;

const runOne = async (seed: number): Promise<string> => {
  const dice = createDice(seed);
  let isBad = true;
  const fate = (): Fate => {
    if (!isBad || !dice.chance(0.3)) return 'deliver';
    return (['lose', 'lose-answer', 'repeat'] as const)[dice.below(3)] ?? 'lose';
  };
  const network = createNetwork();
  const offer = { ...rainOffer, assurance: dice.chance(0.5) ? 'cosigned' : 'plain-dsp' } as const;
  const provider = await startParty(network, {
    name: 'provider',
    key: providerKey,
    offers: [offer],
    fate,
    isPrompt: dice.chance(0.5),
    decide: (row) =>
      dice.chance(0.04) && mayNegotiate(row.process, 'termination')
        ? { do: 'terminate', code: 'test', reason: ['A test ends it.'] }
        : ordinary(row),
  });
  const consumer = await startParty(network, {
    name: 'consumer',
    key: consumerKey,
    fate,
    isPrompt: dice.chance(0.5),
  });
  const parties = [provider, consumer];
  try {
    const { pid } = await consumer.negotiations.request({
      participant: tenant,
      provider: provider.did,
      providerBase: provider.base,
      dataset: offer.dataset,
      offerId: offer.id,
      rules: offer.rules,
      assurance: offer.assurance,
      price: '',
    });
    for (let round = 0; round < 3; round += 1) {
      await systemClock.sleep(dice.below(4));
      const victim = parties[dice.below(2)];
      if (dice.chance(0.5) && victim !== undefined) {
        await victim.crash();
        victim.restart();
      }
    }
    isBad = false;
    const mine = await eventually(
      () => consumer.negotiations.find(tenant, pid),
      (row) => ['FINALIZED', 'TERMINATED'].includes(row.process.state) && row.process.pending === null,
    );
    if (mine.peerPid === null) return mine.process.state;
    const its = await eventually(
      () => provider.negotiations.find(tenant, mine.peerPid ?? ''),
      (row) => ['FINALIZED', 'TERMINATED'].includes(row.process.state) && row.process.pending === null,
    );
    expect(its.process.state, `seed ${seed}`).toBe(mine.process.state);
    if (mine.process.state === 'FINALIZED') {
      const [ours, theirs] = [mine.data.agreement, its.data.agreement];
      expect(ours?.agreement, `seed ${seed}`).toEqual(theirs?.agreement);
      if (offer.assurance === 'cosigned') {
        expect(ours?.artifact, `seed ${seed}`).toEqual(theirs?.artifact);
        expect(ours?.artifact?.signatures).toHaveLength(2);
      }
      isBad = true;
      await transferOnce(dice, {
        provider,
        consumer,
        agreementId: String(mine.data.agreement?.agreement['@id']),
        format: offer.assurance === 'cosigned' ? 'StekkerHttp-PULL' : 'HttpData-PULL',
        heal: () => {
          isBad = false;
        },
      });
    }
    return mine.process.state;
  } finally {
    for (const party of parties) await party[Symbol.asyncDispose]();
  }
};

interface Transferring {
  readonly provider: Awaited<ReturnType<typeof startParty>>;
  readonly consumer: Awaited<ReturnType<typeof startParty>>;
  readonly agreementId: string;
  readonly format: string;
  readonly heal: () => void;
}

const transferOnce = async (
  dice: ReturnType<typeof createDice>,
  { provider, consumer, agreementId, format, heal }: Transferring,
): Promise<void> => {
  await eventually(
    async () => provider.inForce.length,
    (count) => count > 0,
  );
  const { pid } = await consumer.transfers.request({
    participant: tenant,
    agreementId,
    format,
    providerBase: provider.base,
  });
  const peerPid = () => consumer.transfers.find(tenant, pid).then((row) => row.peerPid);
  const actions = [
    { do: 'complete' },
    { do: 'suspend', code: 'test', reason: [] },
    { do: 'start' },
    { do: 'terminate', code: 'test', reason: [] },
  ] as const;
  const kinds = ['completion', 'suspension', 'start', 'termination'] as const;
  for (let round = 0; round < 4; round += 1) {
    await systemClock.sleep(dice.below(5));
    const party = dice.chance(0.5) ? provider : consumer;
    const its = party === provider ? await peerPid() : pid;
    const row = its === null ? undefined : await party.transfers.find(tenant, its);
    const choice = dice.below(4);
    const [action, kind] = [actions[choice], kinds[choice]];
    if (row !== undefined && action !== undefined && kind !== undefined && mayTransfer(row.process, kind)) {
      await party.transfers.decide(tenant, row.pid, action).catch(() => undefined); // it may be too late by now
    }
  }
  heal();
  const calm = (row: { process: { state: string; pending: unknown } }) =>
    row.process.pending === null && !['INITIAL', 'REQUESTED'].includes(row.process.state);
  await eventually(
    async () => {
      const mine = await consumer.transfers.find(tenant, pid);
      const other = mine.peerPid === null ? undefined : await provider.transfers.find(tenant, mine.peerPid);
      return { mine, other };
    },
    ({ mine, other }) => calm(mine) && other !== undefined && calm(other) && mine.process.state === other.process.state,
  );
};

describe('simulation of the services on sqlite', () => {
  test(
    'both sides end in the same state, with the same signed agreement, for every seed',
    async () => {
      console.log(`services: seeds ${first} to ${first + seeds - 1}`);
      const endings = new Map<string, number>();
      const width = 8;
      for (let from = first; from < first + seeds; from += width) {
        const group = Array.from({ length: Math.min(width, first + seeds - from) }, (_, index) => runOne(from + index));
        for (const state of await Promise.all(group)) endings.set(state, (endings.get(state) ?? 0) + 1);
      }
      console.log(Object.fromEntries(endings));
      expect(endings.get('FINALIZED') ?? 0).toBeGreaterThan(seeds / 2);
      expect([...endings.values()].reduce((a, b) => a + b, 0)).toBe(seeds);
    },
    patience,
  );
});
