import type { Clock } from '../../kernel/clock.ts';
import { pageOf } from '../../kernel/http/paging.ts';
import type { Api } from './api.ts';
import { judgedView, searchQuery } from './forms.ts';
import { ownFacts } from './own-facts.ts';
import type { StoreSearch, Wallet } from './ports.ts';
import { showJudged } from './views.ts';

/** The broker's store, each offer judged by what we know of ourselves: what may we get, and why not the rest. */

export interface SearchRoutesOptions {
  readonly store: StoreSearch;
  readonly wallet: Pick<Wallet, 'facts'>;
  readonly clock: Clock;
}

export const addSearchRoutes = ({ endpoint }: Api, { store, wallet, clock }: SearchRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/search',
      id: 'search',
      tag: 'catalog',
      summary: 'Search the store of the broker; each offer says whether it fits us for this purpose and application.',
      query: searchQuery,
      status: 200,
      answer: pageOf(judgedView),
    },
    async ({ participant, query: { q, after, purpose, application } }) => {
      const facts = await ownFacts({ wallet, clock }, participant, { purpose, application });
      const { entries, next } = await store.search({ q, cursor: after });
      return { items: entries.map((entry) => showJudged(entry, facts)), next: next ?? null };
    },
  );
};
