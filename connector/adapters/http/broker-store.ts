import { AppError } from '../../../contracts/errors.ts';
import { parseJson } from '../../../contracts/json.ts';
import { type StoreEntry as Harvested, type StorePage, storeOffersPath, storePage } from '../../../contracts/store.ts';
import type { GuardedClient } from '../../../kernel/http/client.ts';
import type { StoreEntry, StoreSearch } from '../../management/ports.ts';

/** Searches the store of the broker over HTTP. What it answers was harvested from others: only its form is trusted. */

export interface BrokerStoreOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  /** Origin of the broker; undefined for a connector that has none. */
  readonly broker: string | undefined;
}

const timeoutMs = 10_000;
const limits = { maxBytes: 8 << 20, maxDepth: 40 };

const entryOf = ({ provider, dataset, title, description, keywords, offers, harvestedAt }: Harvested): StoreEntry => ({
  provider: { did: provider.did, name: provider.name },
  harvestedAt,
  dataset: {
    id: dataset,
    title,
    description,
    keywords,
    formats: [],
    offers: offers.map(({ id, rules, assurance, price, pricePlan }) => ({
      id,
      rules,
      assurance,
      price,
      plan: pricePlan,
    })),
    unreadable: [],
  },
});

/** The page of an answer; undefined when it is none. */
const readPage = (bytes: Uint8Array): StorePage | undefined => {
  try {
    return storePage.parse(parseJson(bytes, limits));
  } catch {
    return undefined;
  }
};

export const createBrokerStore = ({ client, broker }: BrokerStoreOptions): StoreSearch => ({
  search: async ({ q, cursor }) => {
    if (broker === undefined)
      throw new AppError('not-found', {
        detail: 'this connector has no broker: set STEKKER_BROKER_URL, or name a provider',
      });
    const query = new URLSearchParams({ q, ...(cursor === '' ? {} : { cursor }) });
    const answer = await client.request({
      method: 'GET',
      url: `${broker}${storeOffersPath}?${query}`,
      headers: { accept: 'application/json' },
      timeoutMs,
      maxBytes: limits.maxBytes,
    });
    if (answer.status === 400)
      throw new AppError('request-invalid', { detail: 'the broker does not understand this question' });
    if (answer.status !== 200)
      throw new AppError('fetch-failed', { detail: `the broker's store answered ${answer.status}` });
    const page = readPage(answer.body);
    if (page === undefined)
      throw new AppError('fetch-failed', { detail: "the broker's store does not say what it should" });
    return { entries: page.entries.map(entryOf), next: page.cursor ?? undefined };
  },
});
