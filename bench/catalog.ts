import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSqlCatalogStore } from '../connector/adapters/sql/catalog-store.ts';
import { type CatalogTables, catalogMigrations } from '../connector/adapters/sql/catalog-tables.ts';
import { type CatalogService, createCatalog } from '../connector/catalog/service.ts';
import { createVisibility } from '../connector/catalog/visibility.ts';
import type { Did, ParticipantId } from '../contracts/ids.ts';
import { systemClock } from '../kernel/clock.ts';
import { migrate } from '../kernel/sql/migrate.ts';
import { openSqlite } from '../kernel/sql/sqlite.ts';
import { fillCatalog } from '../test/support/many-offers.ts';
import { openCursors } from '../test/support/visibility.ts';
import { type BenchRow, isTiny, threadSeconds } from './row.ts';

/** A page of fifty datasets, one dataset by its id, and the whole catalog, each as one caller sees it; SQLite, no network. */

const sizes = isTiny ? [100, 300] : [1_000, 10_000, 100_000];
const turns = isTiny ? 5 : 200;

const us = 'us' as ParticipantId;
const reader = 'did:web:reader.example' as Did;

const open = async (folder: string, count: number) => {
  const sqlite = openSqlite<CatalogTables>({ path: join(folder, `${count}.sqlite`), fullSync: false });
  await migrate(sqlite.db, 'catalog', catalogMigrations);
  await fillCatalog(sqlite.db, { participant: us, count });
  const catalog = createCatalog({
    store: createSqlCatalogStore(sqlite.db),
    visibility: createVisibility({ canCosign: async () => true }),
    cursors: openCursors,
    clock: systemClock,
    newId: () => 'urn:new',
    seal: { seal: (text) => text },
    self: () => ({ did: 'did:web:us.example' as Did, base: 'https://us.example/dsp/2025-1', title: 'Us' }),
    checkUpstream: () => undefined,
    checkPath: async () => undefined,
    template: () => undefined,
    policyFaults: () => [],
  });
  return { catalog, [Symbol.asyncDispose]: () => sqlite[Symbol.asyncDispose]() };
};

const idAt = (place: number): string => String(place).padStart(7, '0');

/** Milliseconds of processor time of one call, on average: the clock of the processor is too coarse for one alone. */
const costOf = async (work: (turn: number) => Promise<unknown>): Promise<number> => {
  const before = process.threadCpuUsage();
  for (let turn = 0; turn < turns; turn += 1) await work(turn);
  return (threadSeconds(before) * 1_000) / turns;
};

/** Datasets of a whole crawl in a second of processor time. */
const crawl = async (catalog: CatalogService, count: number): Promise<number> => {
  const before = process.threadCpuUsage();
  let [seen, cursor] = [0, undefined as string | undefined];
  do {
    const page = await catalog.page(us, reader, cursor);
    seen += Array.isArray(page.catalog.dataset) ? page.catalog.dataset.length : 0;
    cursor = page.next;
  } while (cursor !== undefined);
  if (seen !== count) throw new Error(`a crawl saw ${seen} of ${count} datasets`);
  return seen / threadSeconds(before);
};

const measure = async (catalog: CatalogService, count: number) => {
  const step = Math.max(1, Math.floor(count / turns));
  const cursorAt = (turn: number) =>
    openCursors.seal(JSON.stringify(['page', reader, 'after', `urn:asset:${idAt((turn * step) % (count - 50))}`]));
  await catalog.page(us, reader, undefined);
  return {
    page: await costOf((turn) => catalog.page(us, reader, cursorAt(turn))),
    dataset: await costOf((turn) => catalog.dataset(us, reader, `urn:asset:${idAt((turn * step) % count)}`)),
    crawl: await crawl(catalog, count),
  };
};

type Measured = Awaited<ReturnType<typeof measure>>;

const rowsOf = (count: number, its: Measured, least: Measured): BenchRow[] => {
  const offers = `${count.toLocaleString('en')} offers`;
  const row = (name: string, unit: string, kind: keyof Measured, growth: string): BenchRow => ({
    name: `catalog, ${offers}: ${name}`,
    value: its[kind],
    unit,
    limit: its === least ? null : least[kind],
    ratio: its === least ? null : its[kind] / least[kind],
    target: its === least ? 'what the others are held against' : 'as the smallest catalog of this run',
    isHit: null,
    growth,
  });
  return [
    row('page of 50', 'ms', 'page', 'constant, but for the depth of an index'),
    row('dataset by id', 'ms', 'dataset', 'constant, but for the depth of an index'),
    row('whole crawl', 'datasets/s', 'crawl', 'linear in the datasets, by the page'),
  ];
};

export const run = async (): Promise<BenchRow[]> => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-catalog-'));
  try {
    const rows: BenchRow[] = [];
    let least: Measured | undefined;
    for (const count of sizes) {
      await using opened = await open(folder, count);
      const its = await measure(opened.catalog, count);
      least ??= its;
      rows.push(...rowsOf(count, its, least));
    }
    return rows;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};
