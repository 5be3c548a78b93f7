import { join } from 'node:path';
import type { CatalogTables } from '../connector/adapters/sql/catalog-tables.ts';
import { openSqlite } from '../kernel/sql/sqlite.ts';
import { type ConnectorBench, connectorBench } from '../test/support/chain-world.ts';
import { type ConnectorProcess, startConnectorProcess } from '../test/support/connector-process.ts';
import { fillCatalog } from '../test/support/many-offers.ts';
import { median } from './row.ts';

/** Two connectors of ours, each a process of its own with its own database on disk. */

/** `BENCH_PROFILE=FOLDER` leaves a CPU profile of each side there. */
const profiled = (name: string) => {
  const folder = process.env.BENCH_PROFILE;
  return folder === undefined ? {} : { execArgv: ['--cpu-prof', `--cpu-prof-dir=${folder}/${name}`] };
};

/** One peer does here what a thousand do elsewhere. */
const asOftenAsTheyLike = {
  STEKKER_PEER_CALLS_PER_MINUTE: '1000000000',
  STEKKER_ALL_CALLS_PER_MINUTE: '1000000000',
  STEKKER_MANAGEMENT_CALLS_PER_MINUTE: '1000000000',
};

/** The product, or the same with EDC's mock identities. */
const programs = { own: {}, mock: { program: join(import.meta.dirname, '../test/interop/connector-program.ts') } };

export interface Peers extends AsyncDisposable {
  readonly provider: ConnectorBench;
  readonly providerRuns: ConnectorProcess;
  readonly consumerRuns: ConnectorProcess;
}

interface PeersOptions {
  readonly identity: keyof typeof programs;
  readonly env?: Record<string, string>;
  /** So many offers stand in the provider's catalog. */
  readonly offers?: number;
}

/** Puts offers into the database of a connector, which has made its tables and stopped. */
const fill = async (side: ConnectorBench, count: number): Promise<void> => {
  await (await side.start())[Symbol.asyncDispose]();
  const path = join(side.config.STEKKER_DATA, 'connector.sqlite');
  await using sqlite = openSqlite<CatalogTables>({ path, fullSync: false });
  await fillCatalog(sqlite.db, { participant: 'main', count });
};

export const peers = async ({ identity, env = {}, offers = 0 }: PeersOptions): Promise<Peers> => {
  const stack = new AsyncDisposableStack();
  const given = { ...asOftenAsTheyLike, ...env };
  const [provider, consumer] = [stack.use(await connectorBench(given)), stack.use(await connectorBench(given))];
  if (offers > 0) await fill(provider, offers);
  const start = (name: string, { env: its, did }: ConnectorBench) =>
    startConnectorProcess(identity === 'own' ? its : { ...its, MOCK_IDENTITY: did }, {
      ...profiled(name),
      ...programs[identity],
    });
  const [providerRuns, consumerRuns] = await Promise.all([start('provider', provider), start('consumer', consumer)]);
  stack.use(providerRuns);
  stack.use(consumerRuns);
  return { provider, providerRuns, consumerRuns, [Symbol.asyncDispose]: () => stack.disposeAsync() };
};

/** @throws Error for anything but 2xx. */
export const must = async (answer: ReturnType<ConnectorProcess['operate']>) => {
  const { status, body } = await answer;
  if (status >= 300) throw new Error(`a connector answered ${status}: ${JSON.stringify(body)}`);
  return body;
};

/** A page of fifty of a catalog with so many offers, as the consumer's operator gets it, ms. */
export const measureCatalogPage = async (offers: number): Promise<number> => {
  await using both = await peers({ identity: 'mock', offers });
  const page = async (): Promise<number> => {
    const start = performance.now();
    const { items } = await must(
      both.consumerRuns.operate('GET', `/v1/catalog?provider=${encodeURIComponent(both.provider.did)}`),
    );
    if ((items as readonly unknown[]).length !== 50) throw new Error('a page has not fifty datasets');
    return performance.now() - start;
  };
  await page();
  return median([await page(), await page(), await page()]);
};
