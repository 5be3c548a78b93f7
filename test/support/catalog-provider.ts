import { Hono } from 'hono';
import { createSqlCatalogStore } from '../../connector/adapters/sql/catalog-store.ts';
import { type CatalogTables, catalogMigrations } from '../../connector/adapters/sql/catalog-tables.ts';
import { createCatalogExtensionRoutes } from '../../connector/catalog/extension-routes.ts';
import { createCatalogRoutes } from '../../connector/catalog/routes.ts';
import { createCatalog } from '../../connector/catalog/service.ts';
import { announced } from '../../connector/extensions.ts';
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

export interface ProviderOptions {
  /** Whether it announces the feed of its changes. */
  readonly feed?: boolean;
}

/** A provider with the connector's own catalog, which lets nobody but the broker see it. */
export const startProvider = async (broker: string, { feed = false }: ProviderOptions = {}) => {
  const services = (origin: string) => ({ StekkerExtensions: `${origin}/.well-known/stekker` });
  const party = await startHubParty(feed ? { services } : {});
  const { db } = openSqlite<CatalogTables>({ path: ':memory:' });
  await migrate(db, 'catalog', catalogMigrations);
  const store = createSqlCatalogStore(db);
  const base = `${party.origin}${protocolPath}`;
  const catalog = createCatalog({
    store,
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
  const asked: string[] = [];
  app.use('*', async (context, next) => {
    asked.push(`${context.req.method} ${context.req.path}`);
    await next();
  });
  if (feed) app.get('/.well-known/stekker', (context) => context.json(announced(['catalog'])));
  const address = () => `${party.origin}/ext/1/catalog`;
  app.route('/ext/1/catalog', createCatalogExtensionRoutes(catalog, { ...routes, address }));
  app.get('/.well-known/dspace-version', (context) =>
    context.json({ protocolVersions: [{ version: '2025-1', path: protocolPath, binding: 'HTTPS' }] }),
  );
  app.route(protocolPath, createCatalogRoutes(catalog, routes));
  party.serve(app);
  return { party, catalog, store, asked };
};
