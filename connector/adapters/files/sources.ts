import type { HttpFetch, Source, Sources, Upstream } from '../../data-plane/ports.ts';
import { createFileSource } from './file-source.ts';
import { giveAnswer, nothingThere } from './local-answer.ts';

/** Upstreams as sources: an HTTP(S) origin with a header only its owner knows, a file, a folder. */

export interface SourcesOptions {
  readonly fetch: HttpFetch;
  /** The header value that the owner sealed when the asset was published. */
  readonly unseal: (sealed: string) => string;
}

/** Everything below an address; an address with a query of its own is one document. */
const createHttpSource = ({ fetch, unseal }: SourcesOptions, upstream: Extract<Upstream, { kind: 'http' }>): Source => {
  fetch.check(upstream.url);
  const { origin, pathname, search } = new URL(upstream.url);
  const base = pathname.replace(/\/+$/, '');
  const { credential } = upstream;
  const hidden = credential === null ? [] : [credential.name, unseal(credential.sealed)];
  return {
    ask: ({ method, rest, query, headers }, sink) => {
      const below = rest === '/' ? '' : rest;
      if (search !== '' && (below !== '' || query !== '')) return giveAnswer(sink, nothingThere(method));
      const path = search === '' ? `${base}${below}` || '/' : pathname;
      return fetch.ask({ origin, path: `${path}${search}${query}`, method, headers: [...headers, ...hidden] }, sink);
    },
  };
};

export const createSources = (options: SourcesOptions): Sources => ({
  open: (upstream) => (upstream.kind === 'http' ? createHttpSource(options, upstream) : createFileSource(upstream)),
});
