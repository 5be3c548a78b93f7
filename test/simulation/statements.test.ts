import { describe, expect, test } from 'vitest';
import type { MeteringOptions } from '../../connector/metering/service.ts';
import type { UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { systemClock } from '../../kernel/clock.ts';
import { type Random, seededRandom } from '../../kernel/random.ts';
import { eventually } from '../support/dsp-pair.ts';
import {
  agreementFor,
  closed,
  closeEntry,
  createMeterNetwork,
  deliverLate,
  digestOf,
  disputesOf,
  type Fate,
  type MeterNetwork,
  type MeterParty,
  openEntry,
  opened,
  startMeterParty,
  statementOf,
  us,
} from '../support/meter-pair.ts';
import { type Life, mortalPort } from '../support/mortal-port.ts';
import { type TornFiles, tornFiles } from '../support/torn-files.ts';

/**
 * Two connectors with real journals, rows and signatures, over a network that loses, repeats and delivers late, while either
 * of them goes down before or after any of its operations. In the end: the same statements on both sides, every access at
 * most once, none that both sides recorded is lost, and no number was ever signed twice. (ledger §17)
 */
const seeds = Number(process.env.STEKKER_SEEDS ?? 100);
const first = process.env.STEKKER_SEED ?? 'statements';

const pick = (random: Random, below: number): number =>
  ((random.bytes(1)[0] ?? 0) * 256 + (random.bytes(1)[0] ?? 0)) % below;

interface Mortal {
  party: MeterParty;
  readonly files: TornFiles;
  life: Life;
}

const mortalNames = [
  'files',
  'seqs',
  'accounts',
  'marks',
  'unstated',
  'drafts',
  'statements',
  'usage',
  'disputes',
  'transport',
  'signer',
  'registrar',
] as const;

const startMortal = async (network: MeterNetwork, role: 'provider' | 'consumer'): Promise<Mortal> => {
  const files = tornFiles();
  const its: { life: Life; did: MeterParty['did'] | undefined } = {
    life: { isOver: false, left: Number.POSITIVE_INFINITY },
    did: undefined,
  };
  const mortal = (options: MeteringOptions): MeteringOptions => {
    const { life } = its;
    const die = (): void => {
      life.isOver = true;
      if (its.did !== undefined) network.apps.delete(its.did);
    };
    const ports = mortalNames.map((name) => [name, mortalPort(options[name], life, die, ['newest'])]);
    return { ...options, ...Object.fromEntries(ports) };
  };
  const party = await startMeterParty(network, {
    role,
    files,
    mortal,
    changes: { intervalMs: 15, pace: { firstMs: 2, longestMs: 10 }, segmentBytes: 8_192 },
  });
  its.did = party.did;
  return {
    party,
    files,
    get life() {
      return its.life;
    },
    set life(next: Life) {
      its.life = next;
    },
  };
};

/** What is left of a process ends; the machine starts again from what was durable. */
const revive = async (mortal: Mortal, random: Random): Promise<void> => {
  try {
    await mortal.party.metering[Symbol.asyncDispose]();
  } catch {
    // it could not end in order: it is dead
  }
  mortal.files.restart(random);
  mortal.life = { isOver: false, left: Number.POSITIVE_INFINITY };
  await mortal.party.restart();
};

const reviveIfDead = async (mortal: Mortal, random: Random): Promise<boolean> => {
  if (!mortal.life.isOver) return false;
  await revive(mortal, random);
  return true;
};

interface World {
  readonly random: Random;
  readonly network: MeterNetwork;
  readonly provider: Mortal;
  readonly consumer: Mortal;
  readonly agreement: string;
  /** Accesses of which both sides acknowledged the end. */
  readonly whole: Map<string, number>;
  crashes: number;
}

const fates: readonly Fate[] = ['deliver', 'deliver', 'deliver', 'deliver', 'lose', 'lose-answer', 'repeat'];

const fetchOnce = async (world: World): Promise<void> => {
  const { random, provider, consumer, agreement } = world;
  const entry: UsageOpen = openEntry(agreement);
  const body = 'x'.repeat(1 + pick(random, 40));
  if ((await opened(consumer.party, entry)) !== null || (await opened(provider.party, entry)) !== null) return;
  const isBroken = pick(random, 5) === 0;
  const kept = body.slice(0, pick(random, body.length));
  const short = {
    bytes: kept.length,
    digest: digestOf(kept),
    outcome: 'partial',
    units: { requests: '1', ...(kept === '' ? {} : { bytes: String(kept.length) }) },
  } as const;
  const ends = await Promise.all([
    closed(provider.party, closeEntry(entry, body)),
    closed(consumer.party, closeEntry(entry, body, isBroken ? short : {})),
  ]);
  if (ends.every((failed) => !failed)) world.whole.set(entry.request, isBroken ? kept.length : body.length);
};

const disturb = async (world: World): Promise<void> => {
  const { random, network } = world;
  for (const mortal of [world.provider, world.consumer]) {
    if (await reviveIfDead(mortal, random)) world.crashes += 1;
    if (pick(random, 5) === 0) mortal.life.left = 1 + pick(random, 25);
  }
  const late = network.messages[pick(random, Math.max(1, network.messages.length))];
  if (late !== undefined && pick(random, 3) === 0) await deliverLate(network, late);
  await systemClock.sleep(pick(random, 12));
};

/** The network heals, nobody dies any more, the agreement ends. */
const settleWorld = async (world: World): Promise<void> => {
  const { network, provider, consumer, random, agreement } = world;
  network.fate = () => 'deliver';
  for (const mortal of [provider, consumer]) {
    mortal.life.left = Number.POSITIVE_INFINITY;
    await reviveIfDead(mortal, random);
  }
  for (const { party } of [provider, consumer]) await party.metering.agreementEnded(us, agreement);
  for (const { party } of [provider, consumer])
    await eventually(
      () => statementOf(party, agreement, 'newest'),
      (found) => found?.state === 'complete' && found.payload.final,
    );
};

const rowsOf = async ({ party }: Mortal, agreement: string, count: number) => {
  const key = { participant: us, role: party.role, agreement };
  return eventually(
    () => party.options.usage.page(key, { after: 0, limit: 1_000 }),
    (rows) => rows.length === count,
  );
};

const checkWorld = async (world: World, label: string): Promise<void> => {
  const { provider, consumer, agreement, network, whole } = world;
  const last = await statementOf(provider.party, agreement, 'newest');
  for (let seq = 1; seq <= Number(last?.payload.seq); seq += 1) {
    const ours = await statementOf(provider.party, agreement, seq);
    const theirs = await statementOf(consumer.party, agreement, seq);
    expect(ours?.digest, `${label} seq ${seq}`).toBe(theirs?.digest);
    expect(ours?.artifact, `${label} seq ${seq}`).toEqual(theirs?.artifact);
  }
  const count = Number(last?.payload.last);
  const rows = await rowsOf(provider, agreement, count);
  const theirs = await rowsOf(consumer, agreement, count);
  expect(rows.map(({ n, leaf }) => [n, leaf])).toEqual(theirs.map(({ n, leaf }) => [n, leaf]));
  expect(new Set(rows.map(({ request }) => request)).size, `${label}: doubled`).toBe(rows.length);
  const byRequest = new Map(rows.map((row) => [row.request, row]));
  for (const [request, bytes] of whole)
    expect(byRequest.get(request), `${label}: ${request} is lost`).toMatchObject({ bytes: String(bytes) });
  const stated = rows.reduce((sum, { units }) => sum + Number(units.bytes ?? 0), 0);
  expect(Number(last?.sums.totals.bytes ?? 0), label).toBe(stated);
  for (const { party } of [provider, consumer]) {
    const kinds = (await disputesOf(party, agreement)).map(({ kind }) => kind);
    expect(kinds, label).not.toContain('equivocation');
  }
  const signed = network.messages
    .filter(({ path }) => path === 'signed')
    .map(({ body }) => body as { payload: string });
  const bySeq = Map.groupBy(signed, ({ payload }) =>
    String(JSON.parse(Buffer.from(payload, 'base64url').toString()).seq),
  );
  for (const [seq, all] of bySeq)
    expect(new Set(all.map(({ payload }) => payload)).size, `${label}: seq ${seq} was signed twice`).toBe(1);
};

const runSeed = async (label: string): Promise<{ crashes: number; statements: number }> => {
  const random = seededRandom(label);
  const network = createMeterNetwork();
  const provider = await startMortal(network, 'provider');
  const consumer = await startMortal(network, 'consumer');
  const at = systemClock.now() - 1_000;
  const info = agreementFor('provider', { at });
  const { agreement } = info;
  await provider.party.metering.agreementInForce(info);
  await consumer.party.metering.agreementInForce(agreementFor('consumer', { at }));
  network.fate = () => fates[pick(random, fates.length)] ?? 'deliver';
  const world: World = { random, network, provider, consumer, agreement, whole: new Map(), crashes: 0 };
  try {
    for (let round = 0; round < 8; round += 1) {
      await Promise.all(Array.from({ length: 1 + pick(random, 3) }, () => fetchOnce(world)));
      await disturb(world);
    }
    await settleWorld(world);
    await checkWorld(world, label);
    const statements = Number((await statementOf(provider.party, agreement, 'newest'))?.payload.seq);
    return { crashes: world.crashes, statements };
  } finally {
    await provider.party[Symbol.asyncDispose]();
    await consumer.party[Symbol.asyncDispose]();
  }
};

describe('simulation of statements', () => {
  test(`${seeds} seeds: the same statements on both sides, nothing doubled, nothing lost`, async () => {
    let crashes = 0;
    let statements = 0;
    for (let number = 0; number < seeds; number += 1) {
      const label = `${first} ${number}`;
      try {
        const done = await runSeed(label);
        crashes += done.crashes;
        statements += done.statements;
      } catch (error) {
        throw new Error(`seed ${label} failed`, { cause: error });
      }
    }
    expect(crashes).toBeGreaterThan(seeds / 2);
    expect(statements).toBeGreaterThan(seeds);
  });
});
