import { describe, expect, test } from 'vitest';
import { openBlockMeter } from '../../connector/metering/block-meter.ts';
import type { Recall } from '../../connector/metering/lender.ts';
import type { StatementStore } from '../../connector/metering/ports.ts';
import type { MeteringOptions } from '../../connector/metering/service.ts';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import type { FilePort } from '../../kernel/files.ts';
import { silentLogger } from '../../kernel/log.ts';
import { type Random, seededRandom } from '../../kernel/random.ts';
import { eventually } from '../support/dsp-pair.ts';
import {
  agreementFor,
  closed,
  closeEntry,
  createMeterNetwork,
  disputesOf,
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
 * A provider with several journals, each the one of a worker that dies at any write or word to the statement writer, and comes
 * again; now and then all of them die with their process and the machine. A consumer states with it all the while. In the end
 * every served access stands in one statement, once, and never was more exposed than the window holds. (ledger §8, §17)
 */
const seeds = Number(process.env.STEKKER_SEEDS ?? 40);
const first = process.env.STEKKER_SEED ?? 'journals';
const workerCount = 3;
const window = { requests: 16, bytes: 24 << 20, cost: 50, ageMs: 900_000 };

const pick = (random: Random, below: number): number =>
  ((random.bytes(1)[0] ?? 0) * 256 + (random.bytes(1)[0] ?? 0)) % below;

type OpenedWorker = Awaited<ReturnType<typeof openBlockMeter>>;

interface Worker {
  readonly number: number;
  life: Life;
  opened: OpenedWorker | undefined;
}

interface World {
  readonly random: Random;
  readonly files: TornFiles;
  readonly network: MeterNetwork;
  readonly provider: MeterParty;
  readonly consumer: MeterParty;
  readonly agreement: string;
  readonly workers: readonly Worker[];
  readonly process: { life: Life };
  /** Requests of which the first byte left, and those that a complete statement holds. */
  readonly served: Set<string>;
  readonly stated: Set<string>;
  /** Accesses of which both sides acknowledged the end. */
  readonly whole: Map<string, number>;
  deaths: number;
  refusals: number;
  label: string;
}

const newLife = (): Life => ({ isOver: false, left: Number.POSITIVE_INFINITY });

/** Time does not go on for the dead. */
const mortalClock = (life: Life): Clock => ({
  ...systemClock,
  sleep: (ms, signal) =>
    systemClock.sleep(ms, signal).then(() => (life.isOver ? new Promise<void>(() => undefined) : undefined)),
});

const mortalFiles = (files: FilePort, life: Life, die: () => void): FilePort => {
  const mortal = mortalPort(files, life, die);
  return { ...mortal, allocate: async (...parameters) => mortalPort(await mortal.allocate(...parameters), life, die) };
};

/** A worker on its own folder: what it was before is gone. It may die again while it starts. */
const startWorker = async (world: World, worker: Worker): Promise<void> => {
  const { provider, files } = world;
  const journal = provider.metering.journalOf(worker.number);
  provider.metering.lender.disconnect(journal);
  const life = newLife();
  if (pick(world.random, 6) === 0) life.left = 1 + pick(world.random, 12);
  worker.life = life;
  worker.opened = undefined;
  const die = () => {
    life.isOver = true;
  };
  const { lender } = provider.metering;
  const connect = (recall: Recall) =>
    mortalPort(
      lender.connect(journal, async (...asked) =>
        life.isOver ? new Promise<void>(() => undefined) : recall(...asked),
      ),
      life,
      die,
      ['giveBack', 'uncount'],
    );
  const from = await provider.options.marks.get(journal);
  const made = await openBlockMeter({
    files: mortalFiles(files, life, die),
    folder: `/journal/${journal}`,
    clock: mortalClock(life),
    log: silentLogger,
    from,
    segmentBytes: 8_192,
    connect,
  }).catch((error: unknown) => {
    if (!life.isOver) throw error;
    return undefined;
  });
  if (worker.life === life) worker.opened = made;
};

const isAlive = ({ life, opened: its }: Worker): boolean => !life.isOver && its !== undefined;

const reviveWorkers = async (world: World): Promise<void> => {
  for (const worker of world.workers)
    for (let tries = 0; !isAlive(worker) && tries < 20; tries += 1) {
      world.deaths += 1;
      await startWorker(world, worker);
    }
};

/** The process ends with all its workers, and the machine with it: what was not synced is lost or torn. */
const restartAll = async (world: World): Promise<void> => {
  const { provider, workers, files, random } = world;
  for (const { life } of workers) life.isOver = true;
  world.process.life.isOver = true;
  await Promise.resolve(provider.metering[Symbol.asyncDispose]()).catch(() => undefined);
  files.restart(random);
  world.process.life = newLife();
  await provider.restart();
  await reviveWorkers(world);
};

/** Opens at a worker as the data plane does; what nobody hears is no answer. */
const openAt = async ({ opened: its, life }: Worker, entry: UsageOpen): Promise<boolean> => {
  if (its === undefined) return false;
  const { meter } = its;
  const answer = await new Promise<unknown>((resolve) => {
    const open = () => meter.open(entry, resolve);
    if (meter.prepare(entry.agreement, open, true)) open();
    void systemClock.sleep(400).then(() => resolve('silence'));
  });
  return answer === null && !life.isOver;
};

const closeAt = ({ opened: its, life }: Worker, entry: UsageClose): Promise<boolean> =>
  new Promise((resolve) => {
    its?.meter.close(entry, (failed) => resolve(failed || life.isOver));
    void systemClock.sleep(400).then(() => resolve(true));
  });

const fetchOnce = async (world: World, mayDie = true): Promise<void> => {
  const { random, consumer, agreement, served, stated, whole, label } = world;
  const worker = world.workers[pick(random, workerCount)];
  const entry: UsageOpen = openEntry(agreement);
  const body = 'x'.repeat(1 + pick(random, 40));
  if (worker === undefined || (await opened(consumer, entry)) !== null) return;
  const isServed = await openAt(worker, entry);
  if (!isServed) {
    world.refusals += 1;
    await closed(consumer, closeEntry(entry, '', { outcome: 'ok', status: '503', units: {} }));
    return;
  }
  served.add(entry.request);
  const exposed = [...served].filter((request) => !stated.has(request)).length;
  expect(exposed, `${label}: more is exposed than the window holds`).toBeLessThanOrEqual(window.requests);
  const isLost = mayDie && pick(random, 6) === 0; // still under way when its worker dies, or until the end
  if (isLost) worker.life.left = Math.min(worker.life.left, 1 + pick(random, 3));
  const ends = await Promise.all([
    isLost ? true : closeAt(worker, closeEntry(entry, body)),
    closed(consumer, closeEntry(entry, body)),
  ]);
  if (ends.every((failed) => !failed)) whole.set(entry.request, body.length);
};

const disturb = async (world: World): Promise<void> => {
  const { random, workers, network } = world;
  const isCut = pick(random, 3) > 0; // nothing is stated for a while: the window fills
  network.fate = () => (isCut ? 'lose' : 'deliver');
  if (pick(random, 8) === 0) await restartAll(world);
  else await reviveWorkers(world);
  for (const { life } of workers) if (pick(random, 3) === 0) life.left = 1 + pick(random, 12);
  await systemClock.sleep(pick(random, 12));
};

const settleWorld = async (world: World): Promise<void> => {
  const { provider, consumer, agreement, network } = world;
  network.fate = () => 'deliver';
  for (const worker of world.workers) {
    await startWorker(world, worker); // whatever was under way is lost
    worker.life.left = Number.POSITIVE_INFINITY;
  }
  for (let isOver = false; !isOver; isOver = world.workers.every(isAlive)) await reviveWorkers(world);
  for (const { life } of world.workers) life.left = Number.POSITIVE_INFINITY;
  await Promise.all([1, 2, 3, 4].map(() => fetchOnce(world, false))); // handed over only when the agreement has ended
  for (const party of [provider, consumer]) await party.metering.agreementEnded(us, agreement);
  for (const party of [provider, consumer])
    await eventually(
      () => statementOf(party, agreement, 'newest'),
      (found) => found?.state === 'complete' && found.payload.final,
    );
};

const checkWorld = async ({ provider, consumer, agreement, served, whole, label }: World): Promise<void> => {
  const last = await statementOf(provider, agreement, 'newest');
  const count = Number(last?.payload.last);
  const rowsOf = (party: MeterParty) =>
    eventually(
      () => party.options.usage.page({ participant: us, role: party.role, agreement }, { after: 0, limit: 1_000 }),
      (rows) => rows.length === count,
    );
  const rows = await rowsOf(provider);
  expect(rows.map(({ n, leaf }) => [n, leaf])).toEqual((await rowsOf(consumer)).map(({ n, leaf }) => [n, leaf]));
  const byRequest = new Map(rows.map((row) => [row.request, row]));
  expect(byRequest.size, `${label}: doubled`).toBe(rows.length);
  for (const request of served)
    expect(byRequest.has(request), `${label}: ${request} was served and is lost`).toBe(true);
  for (const [request, bytes] of whole)
    expect(byRequest.get(request), `${label}: ${request}`).toMatchObject({ bytes: String(bytes) });
  const stated = rows.reduce((sum, { units }) => sum + Number(units.bytes ?? 0), 0);
  expect(Number(last?.sums.totals.bytes ?? 0), label).toBe(stated);
  const key = { participant: us, role: 'provider', agreement } as const;
  expect(await provider.options.unstated.list(key), `${label}: left behind`).toEqual([]);
  expect((await disputesOf(provider, agreement)).map(({ kind }) => kind)).not.toContain('equivocation');
};

const createWorld = async (label: string): Promise<World> => {
  const random = seededRandom(label);
  const network = createMeterNetwork();
  const files = tornFiles();
  const stated = new Set<string>();
  const process = { life: newLife() };
  const hearing = (statements: StatementStore): StatementStore => ({
    ...statements,
    save: (key, statement, more) => {
      if (statement.state === 'complete') for (const { request } of statement.rows ?? []) stated.add(request);
      return statements.save(key, statement, more);
    },
  });
  const mortal = (options: MeteringOptions): MeteringOptions => {
    const { life } = process;
    const die = () => undefined;
    return {
      ...options,
      files: mortalPort(files, life, die),
      unstated: mortalPort(options.unstated, life, die),
      statements: mortalPort(hearing(options.statements), life, die),
    };
  };
  const changes = { intervalMs: 15, pace: { firstMs: 2, longestMs: 10 }, segmentBytes: 8_192 };
  const provider = await startMeterParty(network, { role: 'provider', files, mortal, changes: { ...changes, window } });
  const consumer = await startMeterParty(network, { role: 'consumer', changes });
  const at = systemClock.now() - 1_000;
  const info = agreementFor('provider', { at });
  await provider.metering.agreementInForce(info);
  await consumer.metering.agreementInForce(agreementFor('consumer', { at }));
  const workers = Array.from({ length: workerCount }, (_, index) => ({
    number: index + 1,
    life: newLife(),
    opened: undefined,
  }));
  return {
    ...{ random, files, network, provider, consumer, agreement: info.agreement, workers, process, stated, label },
    served: new Set(),
    whole: new Map(),
    deaths: 0,
    refusals: 0,
  };
};

const runSeed = async (label: string): Promise<World> => {
  const world = await createWorld(label);
  try {
    await reviveWorkers(world);
    for (let round = 0; round < 8; round += 1) {
      await Promise.all(Array.from({ length: 2 + pick(world.random, 5) }, () => fetchOnce(world)));
      await disturb(world);
    }
    await settleWorld(world);
    await checkWorld(world);
    return world;
  } finally {
    for (const { opened: its, life } of world.workers) if (!life.isOver) await its?.[Symbol.asyncDispose]();
    await world.provider[Symbol.asyncDispose]();
    await world.consumer[Symbol.asyncDispose]();
  }
};

describe('simulation of several journals', () => {
  test(`${seeds} seeds: workers die at any write, and nothing is lost, doubled, or beyond the window`, async () => {
    let deaths = 0;
    let served = 0;
    let refusals = 0;
    for (let number = 0; number < seeds; number += 1) {
      const label = `${first} ${number}`;
      try {
        const world = await runSeed(label);
        deaths += world.deaths;
        served += world.served.size;
        refusals += world.refusals;
      } catch (error) {
        throw new Error(`seed ${label} failed`, { cause: error });
      }
    }
    expect(deaths).toBeGreaterThan(2 * seeds);
    expect(served).toBeGreaterThan(8 * seeds);
    process.stdout.write(`${served} served, ${refusals} refused, ${deaths} workers died, seed ${first}\n`);
  });
});
