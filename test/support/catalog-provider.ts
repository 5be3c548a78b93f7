import { Hono } from 'hono';
import { createSqlCatalogStore } from '../../connector/adapters/sql/catalog-store.ts';
import { type CatalogTables, catalogMigrations } from '../../connector/adapters/sql/catalog-tables.ts';
import { createCatalogRoutes } from '../../connector/catalog/routes.ts';
import { createCatalog } from '../../connector/catalog/service.ts';
import { protocolPath } from '../../contracts/dsp/common.ts';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { us } from './hub-events.ts';
import { startHubParty } from './hub-parties.ts';
import { openCursors, visibleWhen } from './visibility.ts';

const newId = createIds(systemClock, systemRandom);

/** A provider with the connector's own catalog, which lets nobody but the broker see it. */
export const startProvider = async (broker: string) => {
  const party = await startHubParty();
  const { db } = openSqlite<CatalogTables>({ path: ':memory:' });
  await migrate(db, 'catalog', catalogMigrations);
  const base = `${party.origin}${protocolPath}`;
  const catalog = createCatalog({
    store: createSqlCatalogStore(db),
    cursors: openCursors,
    visibility: visibleWhen((caller) => caller === broker),
    clock: systemClock,
    newId: () => `urn:uuid:${newId()}`,
    seal: { seal: (text) => text },
    self: () => ({ did: party.did, base, title: 'Waterschap' }),
    checkUpstream: () => undefined,
    checkPath: async () => undefined,
    template: () => undefined,
    policyFaults: () => [],
  });
  const routes = {
    log: silentLogger,
    participantOf: () => us,
    base: () => base,
    authenticate: async (_participant: unknown, headers: Headers) => {
      const { did } = await party.authenticator.authenticate(headers);
      return { did };
    },
  };
  const app = new Hono();
  app.get('/.well-known/dspace-version', (context) =>
    context.json({ protocolVersions: [{ version: '2025-1', path: protocolPath, binding: 'HTTPS' }] }),
  );
  app.route(protocolPath, createCatalogRoutes(catalog, routes));
  party.serve(app);
  return { party, catalog };
};
