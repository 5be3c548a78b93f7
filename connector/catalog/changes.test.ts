import fc from 'fast-check';
import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { catalogChanges } from '../../contracts/catalog-changes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { JsonObject } from '../../contracts/json.ts';
import { manualClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { openCursors } from '../../test/support/visibility.ts';
import { createSqlCatalogStore } from '../adapters/sql/catalog-store.ts';
import { type CatalogTables, catalogMigrations } from '../adapters/sql/catalog-tables.ts';
import { createCatalogExtensionRoutes } from './extension-routes.ts';
import { createCatalog } from './service.ts';
import { createVisibility } from './visibility.ts';

const us = 'us' as ParticipantId;
const anna = 'did:web:anna.example' as Did;
const bert = 'did:web:bert.example' as Did;
const begin = Date.parse('2026-11-26T12:00:00Z');
const use: JsonObject = { permission: [{ action: 'use' }] };
const only = (...names: readonly string[]): JsonObject => ({
  permission: [
    { action: 'use', constraint: [{ leftOperand: 'recipient', operator: 'isAnyOf', rightOperand: [...names] }] },
  ],
});
const timed = (operator: string, at: number): JsonObject => ({
  permission: [
    {
      action: 'use',
      constraint: [{ leftOperand: 'dateTime', operator, rightOperand: new Date(at).toISOString() }],
    },
  ],
});

const world = async () => {
  const { db } = openSqlite<CatalogTables>({ path: ':memory:' });
  await migrate(db, 'catalog', catalogMigrations);
  const store = createSqlCatalogStore(db);
  const clock = manualClock(begin);
  const plain = new Set<Did>();
  const catalog = createCatalog({
    store,
    clock,
    visibility: createVisibility({ canCosign: async (_participant, caller) => !plain.has(caller) }),
    cursors: openCursors,
    newId: () => 'urn:new',
    seal: { seal: (text) => text },
    self: () => ({ did: 'did:web:us.example' as Did, base: 'https://us.example/dsp/2025-1', title: 'Us' }),
    checkUpstream: () => undefined,
    checkPath: async () => undefined,
    template: () => undefined,
    policyFaults: () => [],
  });
  const assets = new Set<string>();
  const publish = async (
    offer: string,
    asset: string,
    rules = use,
    assurance: 'cosigned' | 'plain-dsp' = 'cosigned',
  ) => {
    if (!assets.has(asset))
      await catalog.addAsset(us, { id: asset, title: asset, upstream: { kind: 'file', path: '/data/x' } });
    assets.add(asset);
    await catalog.addOffer(us, { id: offer, asset, rules, assurance });
  };
  const start = async (caller: Did) => (await catalog.changes(us, caller, { cursor: undefined, limit: 50 })).cursor;
  const follow = async (caller: Did, cursor: string, limit = 50) => {
    const told: string[] = [];
    for (let at = cursor; ; ) {
      const page = await catalog.changes(us, caller, { cursor: at, limit });
      told.push(...page.changes.map(({ dataset, change }) => `${change} ${dataset}`));
      at = page.cursor;
      if (!page.isMore) return { told, cursor: at };
    }
  };
  const crawl = async (caller: Did) => {
    const seen = new Map<string, string>();
    for (let cursor: string | undefined, isFirst = true; isFirst || cursor !== undefined; isFirst = false) {
      const page = await catalog.page(us, caller, cursor);
      const datasets = (page.catalog.dataset ?? []) as readonly JsonObject[];
      for (const dataset of datasets) seen.set(String(dataset['@id']), JSON.stringify(dataset));
      cursor = page.next;
    }
    return seen;
  };
  return { catalog, store, clock, plain, publish, start, follow, crawl };
};

describe('changes of the catalog', () => {
  test('are told in order, from the cursor on, and never before it', async () => {
    const { publish, start, follow, catalog } = await world();
    await publish('o1', 'a');
    const first = await start(anna);
    expect((await follow(anna, first)).told).toEqual([]);
    await publish('o2', 'b');
    await publish('o3', 'a');
    await catalog.withdraw(us, 'o2');
    const { told, cursor } = await follow(anna, first);
    expect(told).toEqual(['added b', 'updated a', 'removed b']);
    expect((await follow(anna, cursor)).told).toEqual([]);
    expect((await follow(anna, first, 1)).told).toEqual(told); // the same again, however long the pages are
  });

  test('tell nobody of a dataset that it never could see', async () => {
    const { publish, start, follow, catalog } = await world();
    const cursors = [await start(anna), await start(bert)] as const;
    await publish('o1', 'a', only(anna));
    await publish('o2', 'a', only(bert));
    await catalog.withdraw(us, 'o1');
    expect((await follow(anna, cursors[0])).told).toEqual(['added a', 'removed a']);
    expect((await follow(bert, cursors[1])).told).toEqual(['added a']);
  });

  test('losing sight of a dataset by the clock reads as removed, and getting it as added', async () => {
    const { publish, start, follow, clock } = await world();
    const cursor = await start(anna);
    await publish('o1', 'a', timed('lt', begin + 60_000));
    await publish('o2', 'b', timed('gteq', begin + 90_000));
    expect((await follow(anna, cursor)).told).toEqual(['added a']);
    clock.advance(60_000);
    expect((await follow(anna, cursor)).told).toEqual(['added a', 'removed a']);
    clock.advance(60_000);
    expect((await follow(anna, cursor)).told).toEqual(['added a', 'removed a', 'added b']);
  });

  test('what the clock took away is told also when the offer was withdrawn before anybody looked', async () => {
    const { publish, start, follow, clock, catalog } = await world();
    await publish('o1', 'a', timed('lt', begin + 60_000));
    const cursor = await start(anna);
    clock.advance(120_000);
    await catalog.withdraw(us, 'o1');
    expect((await follow(anna, cursor)).told).toEqual(['removed a']);
  });

  test('a caller whose extensions came or went reads everything again', async () => {
    const { publish, start, follow, plain } = await world();
    await publish('o1', 'a');
    const cursor = await start(anna);
    plain.add(anna);
    await expect(follow(anna, cursor)).rejects.toMatchObject({ code: 'cursor-expired' });
    const again = await start(anna);
    await publish('o2', 'b');
    await publish('o3', 'c', use, 'plain-dsp');
    expect((await follow(anna, again)).told).toEqual(['added c']);
  });

  test('a cursor from before what is forgotten, or from a later state of the rows, has expired', async () => {
    const { publish, start, follow, store, catalog } = await world();
    const old = await start(anna);
    await publish('o1', 'a');
    const now = await start(anna);
    await store.forgetChanges(us, begin + 1, 100);
    await expect(follow(anna, old)).rejects.toMatchObject({ code: 'cursor-expired' });
    expect((await follow(anna, now)).told).toEqual([]);
    const later = openCursors.seal(JSON.stringify(['changes', anna, 99, true]));
    await expect(follow(anna, later)).rejects.toMatchObject({ code: 'cursor-expired' });
    await expect(catalog.changes(us, bert, { cursor: now, limit: 50 })).rejects.toMatchObject({
      code: 'request-invalid',
    });
  });

  test('whoever follows them knows the same as whoever reads everything', async () => {
    const rules = fc.oneof(
      fc.constant(use),
      fc.constantFrom(only(anna), only(bert), only(anna, bert)),
      fc
        .tuple(fc.constantFrom('lt', 'lteq', 'gt', 'gteq', 'eq', 'neq'), fc.integer({ min: 0, max: 9 }))
        .map(([operator, seconds]) => timed(operator, begin + seconds * 1_000)),
    );
    const step = fc.oneof(
      fc.record({ do: fc.constant('publish' as const), asset: fc.constantFrom('a', 'b', 'c'), rules }),
      fc.record({ do: fc.constant('withdraw' as const), place: fc.nat(9) }),
      fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 999, 1_000, 3_000) }),
      fc.record({ do: fc.constant('follow' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const { publish, start, follow, crawl, catalog, clock } = await world();
        const readers = await Promise.all(
          [anna, bert].map(async (did) => ({ did, cursor: await start(did), known: new Set<string>() })),
        );
        const catchUp = async () => {
          for (const reader of readers) {
            const { told, cursor } = await follow(reader.did, reader.cursor, 2);
            reader.cursor = cursor;
            for (const [change, dataset = ''] of told.map((line) => line.split(' '))) {
              if (change === 'removed') expect(reader.known.delete(dataset)).toBe(true);
              else if (change === 'updated') expect(reader.known.has(dataset)).toBe(true);
              else expect(reader.known.has(dataset)).toBe(false);
              if (change === 'added') reader.known.add(dataset);
            }
          }
        };
        const offers: string[] = [];
        for (const one of steps) {
          if (one.do === 'publish') {
            offers.push(`o${offers.length}`);
            await publish(offers.at(-1) ?? '', one.asset, one.rules);
          } else if (one.do === 'withdraw') {
            const offer = offers[one.place % Math.max(1, offers.length)];
            if (offer !== undefined)
              await catalog.withdraw(us, offer).catch((error: unknown) => {
                if (!(error instanceof AppError && error.code === 'not-found')) throw error;
              });
          } else if (one.do === 'wait') clock.advance(one.ms);
          else await catchUp();
        }
        await catchUp();
        for (const { did, known } of readers) expect([...known].sort()).toEqual([...(await crawl(did)).keys()].sort());
      }),
      { numRuns: 150 },
    );
  });
});

describe('the route of the changes', () => {
  const served = async () => {
    const its = await world();
    const app = new Hono();
    const options = {
      log: silentLogger,
      participantOf: () => us,
      address: () => 'https://us.example/ext/1/catalog',
      authenticate: async (_participant: ParticipantId, headers: Headers) => {
        const caller = headers.get('authorization');
        if (caller === null) throw new AppError('unauthenticated');
        return { did: caller as Did };
      },
    };
    app.route('/ext/1/catalog', createCatalogExtensionRoutes(its.catalog, options));
    const ask = async (query: string, caller: string | null = anna) => {
      const headers: Record<string, string> = caller === null ? {} : { authorization: caller };
      const response = await app.fetch(new Request(`https://us.example/ext/1/catalog/changes${query}`, { headers }));
      const body = JSON.parse(await response.text());
      return { status: response.status, body, link: response.headers.get('link') };
    };
    return { ...its, ask };
  };

  test('answers pages in the form of the contract, with a link while there is more', async () => {
    const { ask, publish } = await served();
    const first = await ask('');
    expect(catalogChanges.parse(first.body).changes).toEqual([]);
    await publish('o1', 'urn:a');
    await publish('o2', 'urn:b');
    const page = await ask(`?cursor=${encodeURIComponent(first.body.cursor)}&limit=1`);
    expect(catalogChanges.parse(page.body).changes).toMatchObject([
      { dataset: 'urn:a', change: 'added', at: '2026-11-26T12:00:00.000Z', digest: expect.stringMatching(/^.{43}$/) },
    ]);
    const next = /<https:\/\/us\.example\/ext\/1\/catalog\/changes(.*)>; rel="next"/.exec(page.link ?? '')?.[1] ?? '';
    const last = await ask(next);
    expect(last).toMatchObject({ status: 200, body: { changes: [{ dataset: 'urn:b' }] }, link: null });
  });

  test('refuses strangers, wrong limits and cursors, and says 410 for one that expired', async () => {
    const { ask, publish, store } = await served();
    const { cursor } = (await ask('')).body;
    expect((await ask('', null)).status).toBe(401);
    for (const limit of ['0', '201', '-1', 'x', '1e2']) expect((await ask(`?limit=${limit}`)).status).toBe(400);
    expect((await ask('?cursor=x')).status).toBe(400);
    await publish('o1', 'a');
    await store.forgetChanges(us, begin + 1, 9);
    expect(await ask(`?cursor=${encodeURIComponent(cursor)}`)).toMatchObject({
      status: 410,
      body: { type: 'urn:stekker:1:error:cursor-expired' },
    });
  });
});
