import { CompiledQuery, createQueryId, type Kysely, type KyselyPlugin, type RootOperationNode } from 'kysely';
import { describe, expect, test } from 'vitest';
import { createSqlCatalogStore } from '../../connector/adapters/sql/catalog-store.ts';
import { type CatalogTables, catalogMigrations } from '../../connector/adapters/sql/catalog-tables.ts';
import type { Offer } from '../../connector/catalog/ports.ts';
import { createCatalog } from '../../connector/catalog/service.ts';
import { createVisibility } from '../../connector/catalog/visibility.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { manualClock } from '../../kernel/clock.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { databases } from '../support/databases.ts';
import { fillCatalog } from '../support/many-offers.ts';
import { openCursors } from '../support/visibility.ts';

const us = 'us' as ParticipantId;
const reader = 'did:web:reader.example' as Did;
const clock = manualClock(1_795_431_600_000);

interface Opened {
  readonly db: Kysely<CatalogTables>;
  /** Parts of the plan of a statement that read a whole table, or all that a participant has in it. */
  readonly scans: (sql: string, parameters: readonly unknown[]) => Promise<readonly string[]>;
}

const isWhole = (detail: string): boolean =>
  (/^SCAN (?!walk)/.test(detail) && !detail.includes('CONSTANT ROW')) || detail.endsWith('(participant=?)');

type Scans = (db: Kysely<CatalogTables>) => Opened['scans'];

const sqliteScans: Scans = (db) => async (sql, parameters) => {
  const { rows } = await db.executeQuery<{ detail: string }>(
    CompiledQuery.raw(`explain query plan ${sql}`, [...parameters]),
  );
  return rows.map(({ detail }) => detail).filter((detail) => isWhole(detail) && !detail.includes('catalog_head'));
};

/** Nodes of a plan of PostgreSQL, with what they look for in an index. */
const nodesOf = (plan: unknown): readonly Record<string, unknown>[] => {
  const node = plan as Record<string, unknown>;
  return [node, ...((node.Plans as readonly unknown[] | undefined) ?? []).flatMap(nodesOf)];
};

const postgresScans: Scans = (db) => async (sql, parameters) => {
  const { rows } = await db.executeQuery<Record<string, readonly { readonly Plan: unknown }[]>>(
    CompiledQuery.raw(`explain (format json) ${sql}`, [...parameters]),
  );
  const [plan] = rows[0]?.['QUERY PLAN'] ?? [];
  const nodes = nodesOf(plan?.Plan).filter((node) => node['Relation Name'] !== 'catalog_head');
  const whole = (node: Record<string, unknown>) =>
    node['Node Type'] === 'Seq Scan' ||
    (node['Node Type'] !== 'Bitmap Heap Scan' &&
      node['Index Name'] !== undefined &&
      !/ AND |turns_at/.test(String(node['Index Cond'] ?? '')));
  return nodes.filter(whole).map((node) => JSON.stringify(node));
};

/** Sees to it that the planner knows how many rows there are. */
const analyze = (db: Kysely<CatalogTables>) => db.executeQuery(CompiledQuery.raw('analyze'));

const scansOf: Readonly<Record<string, Scans>> = { sqlite: sqliteScans, postgres: postgresScans };

const openers = Object.entries(databases).map(([name, empty]) => {
  const open = async (): Promise<Opened> => {
    const { db } = await empty<CatalogTables>();
    await migrate(db, 'catalog', catalogMigrations);
    const scans = scansOf[name];
    if (scans === undefined) throw new Error(`how a plan of ${name} is read is not known here`);
    return { db, scans: scans(db) };
  };
  return [name, open] as const;
});

/** Counts what a piece of work asks of the database. */
const watched = (db: Kysely<CatalogTables>) => {
  const asked: RootOperationNode[] = [];
  let rows = 0;
  const plugin: KyselyPlugin = {
    transformQuery: ({ node }) => {
      asked.push(node);
      return node;
    },
    transformResult: async ({ result }) => {
      rows += result.rows.length;
      return result;
    },
  };
  const watchedDb = db.withPlugin(plugin);
  return {
    db: watchedDb,
    take: async (work: () => Promise<unknown>) => {
      asked.length = 0;
      rows = 0;
      await work();
      const statements = asked.map((node) => db.getExecutor().compileQuery(node, createQueryId()));
      return { statements, rows };
    },
  };
};

const serviceOn = (db: Kysely<CatalogTables>) =>
  createCatalog({
    store: createSqlCatalogStore(db),
    visibility: createVisibility({ canCosign: async () => true }),
    cursors: openCursors,
    clock,
    newId: () => 'urn:new',
    seal: { seal: (text) => text },
    self: () => ({ did: 'did:web:us.example' as Did, base: 'https://us.example/dsp/2025-1', title: 'Us' }),
    checkUpstream: () => undefined,
    checkPath: async () => undefined,
    template: () => undefined,
    policyFaults: () => [],
  });

const middle = (count: number): string => `urn:asset:${String(Math.floor(count / 2)).padStart(7, '0')}`;

/** What each kind of request costs, and the plans that read a whole table. */
const measure = async ({ db, scans }: Opened, count: number) => {
  await fillCatalog(db, { participant: us, count });
  await analyze(db);
  const { db: watchedDb, take } = watched(db);
  const service = serviceOn(watchedDb);
  const first = await service.page(us, reader, undefined);
  const works: Readonly<Record<string, () => Promise<unknown>>> = {
    'first page': () => service.page(us, reader, undefined),
    'a page in the middle': () =>
      service.page(us, reader, openCursors.seal(JSON.stringify(['page', reader, 'after', middle(count)]))),
    'the page before': () =>
      service.page(us, reader, openCursors.seal(JSON.stringify(['page', reader, 'before', middle(count)]))),
    'one dataset': () => service.dataset(us, reader, middle(count)),
    'an offer for a negotiation': () =>
      service.find(us, reader, middle(count), middle(count).replace('asset', 'offer')),
    'list of assets': () => service.assets(us, { after: middle(count), limit: 100 }),
    'list of offers': () => service.offers(us, { after: middle(count).replace('asset', 'offer'), limit: 100 }),
    'list of price plans': () => service.pricePlans(us, { after: '', limit: 100 }),
    'a new offer': () =>
      service.addOffer(us, {
        id: `urn:offer:new`,
        asset: middle(count),
        rules: { permission: [{ action: 'use' }] } as Offer['rules'],
      }),
  };
  const costs: Record<string, { readonly statements: number; readonly rows: number }> = {};
  const whole: string[] = [];
  for (const [name, work] of Object.entries(works)) {
    const { statements, rows } = await take(work);
    costs[name] = { statements: statements.length, rows };
    for (const { sql, parameters } of statements)
      whole.push(...(await scans(sql, parameters)).map((scan) => `${name}: ${scan}: ${sql}`));
  }
  return { costs, whole, first };
};

describe.each(openers)('a large catalog on %s', (_name, open) => {
  test('every request costs the same statements and rows, whether there are 500 offers or 20 000', async () => {
    const few = await measure(await open(), 500);
    const many = await measure(await open(), 20_000);
    expect(few.first.catalog.dataset).toHaveLength(50);
    expect(many.costs).toEqual(few.costs);
    expect(many.costs['first page']?.rows).toBeLessThan(200);
    expect(many.costs['a page in the middle']?.rows).toBeGreaterThan(100);
  });

  test('no request reads a whole table', async () => {
    const { whole, costs } = await measure(await open(), 20_000);
    expect(whole).toEqual([]);
    expect(Object.keys(costs)).toHaveLength(9);
  });

  test('offers that this caller may not see cost it nothing', async () => {
    const { db } = await open();
    await fillCatalog(db, { participant: us, count: 5_000, reader: 'did:web:somebody-else.example' });
    const { db: watchedDb, take } = watched(db);
    const service = serviceOn(watchedDb);
    const { rows } = await take(async () => {
      expect(await service.page(us, reader, undefined)).toMatchObject({ next: undefined, previous: undefined });
    });
    expect(rows).toBe(0);
    const its = await service.page(us, 'did:web:somebody-else.example' as Did, undefined);
    expect(its.catalog.dataset).toHaveLength(50);
  });

  test('offers that are shown to all but this caller are looked at a page at a time', async () => {
    const { db } = await open();
    await fillCatalog(db, { participant: us, count: 1_000, without: reader });
    const { db: watchedDb, take } = watched(db);
    const service = serviceOn(watchedDb);
    let next: string | undefined;
    const { rows } = await take(async () => {
      const page = await service.page(us, reader, undefined);
      expect(page.catalog.dataset).toBeUndefined();
      next = page.next;
    });
    expect(next).toBeDefined();
    expect(rows).toBeLessThan(200);
  });
});
