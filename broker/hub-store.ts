import type { Hono } from 'hono';
import { AppError } from '../contracts/errors.ts';
import type { Did } from '../contracts/ids.ts';
import { createIds } from '../kernel/random.ts';
import { startLeasedPart } from '../kernel/sql/leased-part.ts';
import { createMemberCatalogs } from './adapters/http/member-catalogs.ts';
import { createMemberFeeds } from './adapters/http/member-feeds.ts';
import { createSqlOfferStore } from './adapters/sql/offer-store.ts';
import type { Base } from './base.ts';
import type { HarvestNow } from './management/ports.ts';
import type { Registry } from './registry/service.ts';
import { type Harvester, type HarvestOptions, startHarvester } from './store/harvest.ts';
import type { CatalogMembers, Harvested, OfferStore, Provider } from './store/ports.ts';
import { createStoreRoutes } from './store/routes.ts';

/** The store of the hub: the catalogs of whoever is a member now. */

export interface HubStore {
  /** Begins to read catalogs, once our own DID document is served: members ask it who we are. One process does it. */
  readonly begin: () => AsyncDisposable;
  /** Reads the catalog of a member soon. Returns at once. */
  readonly soon: (member: Did) => void;
  /** Removes the offers of somebody who left. */
  readonly forget: (member: Did) => Promise<void>;
  readonly harvest: HarvestNow;
  /** What became of each catalog last. */
  readonly last: () => Promise<readonly Harvested[]>;
  readonly routes: Hono;
}

const pageSize = 200;

/** An accreditor has no connector, and so no catalog; whoever is something else as well has one. */
const hasCatalog = ({ roles }: { readonly roles: readonly string[] }): boolean =>
  roles.some((role) => role !== 'accreditor');

const membersOf = (registry: Pick<Registry, 'page'>): CatalogMembers => ({
  list: async () => {
    const members: Provider[] = [];
    for (let after = ''; ; ) {
      const page = await registry.page({ after, limit: pageSize, state: 'joined' });
      members.push(...page.filter(hasCatalog).map(({ did, name }) => ({ did, name })));
      const last = page.at(-1);
      if (last === undefined || page.length < pageSize) return members;
      after = last.did;
    }
  },
});

const harvesting = (base: Base, store: OfferStore, registry: Pick<Registry, 'page'>): HarvestOptions => {
  const { config, client, resolver, tokens, clock, random, log } = base;
  const newId = createIds(clock, random);
  const reading = {
    client,
    resolver,
    tokens,
    clock,
    newId: () => `urn:uuid:${newId()}`,
    allowLoopbackHttp: config.STEKKER_ALLOW_LOOPBACK_HTTP,
  };
  return {
    store,
    members: membersOf(registry),
    read: createMemberCatalogs(reading),
    feeds: createMemberFeeds(reading),
    newId,
    clock,
    log,
    intervalMs: config.STEKKER_HARVEST_SECONDS * 1_000,
  };
};

/** Word for the process that reads catalogs: a DID, or everybody. An empty word says nothing; the interval repairs. */
const harvestChannel = 'harvest';
const everybody = '*';

const listening = ({ wakeups }: Base, harvester: Harvester): AsyncDisposable => {
  const forget = wakeups.listen(harvestChannel, (member) => {
    if (member !== '') harvester.soon(member === everybody ? undefined : (member as Did));
  });
  return {
    [Symbol.asyncDispose]: async () => {
      forget();
      await harvester[Symbol.asyncDispose]();
    },
  };
};

export const composeStore = (base: Base, registry: Pick<Registry, 'page' | 'member'>): HubStore => {
  const { db, leases, wakeups, isShared, clock, log } = base;
  const store = createSqlOfferStore(db);
  const begin = () => listening(base, startHarvester(harvesting(base, store, registry)));
  const soon = (member: Did | undefined) => wakeups.notify(harvestChannel, member ?? everybody);
  return {
    // Alone there is nobody to wait for: a lease that a crash left would only delay the first reading.
    begin: () => (isShared ? startLeasedPart({ leases, name: 'harvest', clock, log, begin }) : begin()),
    soon,
    forget: store.forget,
    harvest: async (member) => {
      if (member !== undefined && (await registry.member(member)) === undefined)
        throw new AppError('not-found', { detail: `${member} is no member` });
      soon(member);
    },
    last: store.results,
    routes: createStoreRoutes({ read: store.read, log }),
  };
};
