import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { isAppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import { pricePlanDigest } from '../../contracts/ledger/price-plan.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import { type ListingTools, readListings } from './listings.pure.ts';
import type {
  CatalogFeeds,
  CatalogLimits,
  CatalogMembers,
  ChangedDatasets,
  Harvested,
  OfferStore,
  Provider,
  ReadCatalog,
} from './ports.ts';
import { wordsOf } from './words.pure.ts';

/** Reads the catalogs of members into the store: at an interval, on demand, and soon after somebody joined. */

export interface HarvestOptions {
  readonly store: OfferStore;
  readonly members: CatalogMembers;
  readonly read: ReadCatalog;
  /** Changes of catalogs, where members tell them: less to read than everything. */
  readonly feeds?: CatalogFeeds;
  readonly newId: () => string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly intervalMs: number;
  readonly limits?: Partial<HarvestLimits>;
}

export interface HarvestLimits extends CatalogLimits {
  readonly maxDatasets: number;
  /** Catalogs read at once; a slow member takes one of these places and no more. */
  readonly maxConcurrent: number;
  /** A catalog whose changes are followed is read as a whole this often all the same. */
  readonly recrawlMs: number;
}

export interface Harvester extends AsyncDisposable {
  /** Reads one catalog, or all; answers when it is done. */
  readonly harvest: (provider?: Did) => Promise<readonly Harvested[]>;
  /**
   * Reads a catalog behind whatever happens, and tries again when it is not there yet: for those who just joined. Without a
   * provider: all of them, once.
   */
  readonly soon: (provider?: Did) => void;
}

const defaultLimits: HarvestLimits = {
  maxPages: 1_000,
  maxPageBytes: 4 << 20,
  maxBytes: 256 << 20,
  maxMs: 120_000,
  maxDatasets: 50_000,
  maxConcurrent: 8,
  recrawlMs: 86_400_000,
};
const soonTries = 3;
const soonPauseMs = 2_000;
/** A member that is slow when this stops is not waited for: what it answers later is not taken. */
const stopMs = 1_000;

const hash = (text: string): string => toBase64Url(nodeCrypto.sha256(utf8(text)));
/** 96 bits: enough for a store, short enough for an index that holds it for every word. */
const idLength = 16;

const toolsFor = (provider: Did): ListingTools => ({
  idOf: (dataset) => hash(`${provider}\n${dataset}`).slice(0, idLength),
  digestOf: hash,
  planDigestOf: (plan) => pricePlanDigest(nodeCrypto, plan),
  wordsOf,
});

interface Bounds {
  readonly limits: HarvestLimits;
  readonly isStopped: () => boolean;
}

/** Takes one page of changes: what a changed dataset no longer shows in a readable form goes as well. */
const takeChanges = async (
  { store, clock, newId }: HarvestOptions,
  provider: Provider,
  { shown, removed }: ChangedDatasets,
): Promise<{ readonly datasets: number; readonly skipped: number; readonly removed: number }> => {
  const tools = toolsFor(provider.did);
  const found = readListings(
    shown.map(({ dataset }) => dataset),
    tools,
  );
  const kept = new Set(found.listings.map(({ id }) => id));
  const gone = [...removed, ...shown.map(({ id }) => id)].map(tools.idOf).filter((id) => !kept.has(id));
  await store.put(provider, { run: newId(), at: clock.now() }, found.listings);
  const count = await store.remove(provider.did, gone);
  return { datasets: found.listings.length, skipped: found.skipped, removed: count };
};

/** Reads what changed since the last time; undefined when the catalog must be read as a whole. */
const followOne = async (
  options: HarvestOptions,
  { limits, isStopped }: Bounds,
  provider: Provider,
): Promise<Harvested | undefined> => {
  const { store, feeds, clock, log } = options;
  const { did } = provider;
  const followed = await store.followed(did);
  if (feeds === undefined || followed === undefined || clock.now() - followed.crawledAt >= limits.recrawlMs)
    return undefined;
  const counts = { datasets: 0, skipped: 0, removed: 0 };
  try {
    for await (const page of feeds.follow(did, followed.cursor, limits)) {
      if (isStopped()) return { provider: did, at: clock.now(), ...counts, fault: 'stopped' };
      const taken = await takeChanges(options, provider, page);
      counts.datasets += taken.datasets;
      counts.skipped += taken.skipped;
      counts.removed += taken.removed;
      await store.keepFollowed(did, { ...followed, cursor: page.cursor });
    }
  } catch (error) {
    log.info({ error, provider: did }, 'the changes of a catalog cannot be followed; all of it is read');
    return undefined;
  }
  log.info({ provider: did, ...counts }, 'the changes of a catalog were read');
  return { provider: did, at: clock.now(), ...counts, fault: null };
};

/** Where a member's changes begin now, before its catalog is read; undefined where there is no feed, or none to be had. */
const feedOf = ({ feeds, log }: HarvestOptions, { did }: Provider): Promise<string | undefined> =>
  feeds === undefined
    ? Promise.resolve(undefined)
    : feeds.begin(did).catch((error: unknown) => {
        log.info({ error, provider: did }, 'the changes of a catalog cannot be had');
        return undefined;
      });

const harvestOne = async (options: HarvestOptions, bounds: Bounds, provider: Provider): Promise<Harvested> => {
  const followed = await followOne(options, bounds, provider);
  if (followed !== undefined) return followed;
  const { store, clock } = options;
  const crawledAt = clock.now();
  const cursor = await feedOf(options, provider);
  const crawled = await crawlOne(options, bounds, provider);
  if (crawled.fault === null)
    await store.keepFollowed(provider.did, cursor === undefined ? undefined : { cursor, crawledAt });
  return crawled;
};

/** Reads all of one catalog. What was seen before stays when it cannot be read to its end. */
const crawlOne = async (
  options: HarvestOptions,
  { limits, isStopped }: Bounds,
  provider: Provider,
): Promise<Harvested> => {
  const { store, read, clock, newId, log } = options;
  const run = newId();
  const tools = toolsFor(provider.did);
  let datasets = 0;
  let skipped = 0;
  const done = (fault: string | null, removed: number): Harvested => {
    const result = { provider: provider.did, at: clock.now(), datasets, skipped, removed, fault };
    log[fault === null ? 'info' : 'warn'](result, 'a catalog was read');
    return result;
  };
  try {
    for await (const page of read(provider.did, limits)) {
      if (isStopped()) return done('stopped', 0);
      const found = readListings(page, tools);
      datasets += found.listings.length;
      skipped += found.skipped;
      if (datasets + skipped > limits.maxDatasets) return done(`it shows more than ${limits.maxDatasets} datasets`, 0);
      await store.put(provider, { run, at: clock.now() }, found.listings);
    }
    return done(null, await store.finish(provider.did, run));
  } catch (error) {
    return done(isAppError(error) ? `${error.code}: ${error.message}` : 'internal-error', 0);
  }
};

/** Runs work over a list, so many at once. */
const inPool = async <Item>(
  items: readonly Item[],
  size: number,
  work: (item: Item) => Promise<void>,
): Promise<void> => {
  const rest = items.values();
  const worker = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(size, items.length) }, worker));
};

/** Whoever left is no longer found. */
const forgetOthers = async ({ store, log }: HarvestOptions, members: readonly Provider[]): Promise<void> => {
  const current = new Set(members.map(({ did }) => did));
  for (const did of await store.providers()) {
    if (current.has(did)) continue;
    await store.forget(did);
    log.info({ did }, 'the offers of a former member were removed');
  }
};

/** Starts harvesting. */
export const startHarvester = (options: HarvestOptions): Harvester => {
  const { members, clock, log, intervalMs } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const stopped = new AbortController();
  const running = new Map<Did, Promise<Harvested>>();
  const waiting = new Map<Did, Promise<Harvested>>();
  const behind = new Set<Promise<void>>();

  /** One reading of a catalog at a time. Who asks while it runs gets the next: the one that runs may have passed the news. */
  const one = (provider: Provider): Promise<Harvested> => {
    const { did } = provider;
    const due = waiting.get(did);
    if (due !== undefined) return due;
    const before = running.get(did);
    const begin = (): Promise<Harvested> => {
      waiting.delete(did);
      const started = harvestOne(options, { limits, isStopped: () => stopped.signal.aborted }, provider).finally(() =>
        running.delete(did),
      );
      running.set(did, started);
      return started;
    };
    if (before === undefined) return begin();
    const next = before.then(begin);
    waiting.set(did, next);
    return next;
  };
  const harvest = async (only?: Did): Promise<readonly Harvested[]> => {
    const all = await members.list();
    const wanted = all.filter(({ did }) => only === undefined || did === only);
    const results: Harvested[] = [];
    await inPool(wanted, limits.maxConcurrent, async (provider) => {
      if (stopped.signal.aborted) return;
      const result = await one(provider);
      results.push(result);
      await options.store.keepResult(result);
    });
    if (only === undefined) await forgetOthers(options, all);
    return results;
  };
  const trySoon = async (provider: Did | undefined): Promise<void> => {
    if (provider === undefined) return void (await harvest());
    for (let tries = 0; tries < soonTries && !stopped.signal.aborted; tries += 1) {
      const [result] = await harvest(provider);
      if (result?.fault === null) return;
      await clock.sleep(soonPauseMs, stopped.signal);
    }
  };
  const keepGoing = (work: Promise<void>): void => {
    const tracked: Promise<void> = work
      .catch((error: unknown) => log.error({ error }, 'catalogs could not be read'))
      .finally(() => behind.delete(tracked));
    behind.add(tracked);
  };
  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      await harvest().catch((error: unknown) => log.error({ error }, 'catalogs could not be read'));
      await clock.sleep(intervalMs, stopped.signal);
    }
  };
  keepGoing(loop());

  return {
    harvest,
    soon: (provider) => keepGoing(trySoon(provider)),
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      const waited = new AbortController();
      await Promise.race([Promise.all([...behind]), clock.sleep(stopMs, waited.signal)]);
      waited.abort();
    },
  };
};
