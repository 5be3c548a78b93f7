import { catalog, dataset, datasetAnswer } from '../../contracts/dsp/catalog.ts';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { check } from '../../contracts/ledger/forms.ts';
import { type PricePlan, pricePlan, pricePlanDigest } from '../../contracts/ledger/price-plan.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { faultsOf } from '../../kernel/http/body.ts';
import type { PeerAnswer, PeerTransport } from '../exchange/ports.ts';
import { peerAnswered } from '../exchange/refusal.ts';
import { type FoundDataset, type FoundOffer, nextLink, readDataset } from './offers.pure.ts';
import type { Providers } from './ports.ts';

/** The consumer's side of the catalog (dsp §4): what somebody else offers us, read strictly. */

export interface FoundPage {
  readonly datasets: readonly FoundDataset[];
  /** Where the next page is asked for; undefined on the last. */
  readonly next: string | undefined;
}

export interface CatalogClient {
  /** One page of a provider's catalog; `at` is the `next` of the page before. */
  readonly page: (participant: ParticipantId, provider: Did, at?: string) => Promise<FoundPage>;
  /** One dataset. @throws AppError `not-found`, also when we may not see it. */
  readonly dataset: (participant: ParticipantId, provider: Did, id: string) => Promise<FoundDataset>;
  /** The price plan of an offer, as shown or as its provider serves it; null for an offer without a price. */
  readonly pricePlan: (participant: ParticipantId, provider: Did, offer: FoundOffer) => Promise<PricePlan | null>;
}

export interface CatalogClientOptions {
  readonly transport: PeerTransport;
  readonly providers: Providers;
  readonly newId: () => string;
}

const digestOf = (plan: PricePlan): string => pricePlanDigest(nodeCrypto, plan);

const unreadable = (provider: Did, what: string, cause: unknown, faults: AppError['faults'] = []): AppError =>
  new AppError('fetch-failed', { detail: `${what} of ${provider} is not in the standard's form`, cause, faults });

/** A page may only lead to pages of the same origin: our proof of who we are goes along. */
const pageAddress = (base: string, at: string, provider: Did): string => {
  if (URL.canParse(at, base) && new URL(at, base).origin === new URL(base).origin) return new URL(at, base).href;
  throw new AppError('fetch-failed', { detail: `the catalog of ${provider} leads to a page of somebody else` });
};

const requirePage = ({ status, body }: PeerAnswer, provider: Did) => {
  if (status !== 200) throw peerAnswered(provider, { status, body }, 'the catalog request');
  const read = catalog.safeParse(body);
  if (!read.success) throw unreadable(provider, 'the catalog', read.error, faultsOf(read.error));
  if (read.data.participantId !== provider)
    throw unreadable(provider, 'the catalog', new Error('participantId is somebody else'));
  return read.data;
};

const readPage = async (
  { transport, providers, newId }: CatalogClientOptions,
  place: { readonly participant: ParticipantId; readonly provider: Did; readonly at: string | undefined },
): Promise<FoundPage> => {
  const { participant, provider, at } = place;
  const base = await providers.base(provider);
  const url = at === undefined ? `${base}/catalog/request` : pageAddress(base, at, provider);
  const id = newId();
  const body = { '@context': [dspaceContext], '@type': 'CatalogRequestMessage', '@id': id };
  const answer = await transport.post({ participant, peer: provider, url, id, body });
  const shown = requirePage(answer, provider).dataset ?? [];
  const next = nextLink(answer.link);
  const address = next === undefined ? undefined : pageAddress(base, next, provider);
  if (address === url)
    throw new AppError('fetch-failed', { detail: `a page of the catalog of ${provider} leads to itself` });
  return { datasets: shown.map((one) => readDataset(one, digestOf)), next: address };
};

const readOne = async (
  { transport, providers }: CatalogClientOptions,
  place: { readonly participant: ParticipantId; readonly provider: Did; readonly id: string },
): Promise<FoundDataset> => {
  const { participant, provider, id } = place;
  const base = await providers.base(provider);
  const url = `${base}/catalog/datasets/${encodeURIComponent(id)}`;
  const answer = await transport.get({ participant, peer: provider, url });
  if (answer.status === 404) throw new AppError('not-found', { detail: `${provider} offers us no dataset ${id}` });
  if (answer.status !== 200) throw peerAnswered(provider, answer, `the dataset ${id}`);
  const framed = datasetAnswer.safeParse(answer.body);
  const read = framed.success ? dataset.safeParse(answer.body) : framed;
  if (!read.success) throw unreadable(provider, `the dataset ${id}`, read.error, faultsOf(read.error));
  if (read.data['@id'] !== id) throw unreadable(provider, `the dataset ${id}`, new Error('another @id'));
  return readDataset(read.data, digestOf);
};

const fetchPlan = async (
  { transport, providers }: CatalogClientOptions,
  place: { readonly participant: ParticipantId; readonly provider: Did; readonly digest: string },
): Promise<PricePlan> => {
  const { participant, provider, digest } = place;
  const url = await providers.pricePlan(provider, digest);
  const answer = url === undefined ? undefined : await transport.get({ participant, peer: provider, url });
  const plan = answer?.status === 200 ? check(pricePlan, answer.body) : undefined;
  if (plan?.ok !== true || digestOf(plan.value) !== digest)
    throw new AppError('offer-refused', { detail: `${provider} does not show the price plan that its offer names` });
  return plan.value;
};

export const createCatalogClient = (options: CatalogClientOptions): CatalogClient => ({
  page: (participant, provider, at) => readPage(options, { participant, provider, at }),
  dataset: (participant, provider, id) => readOne(options, { participant, provider, id }),
  pricePlan: async (participant, provider, { price, plan }) => {
    if (price === '') return null;
    return plan ?? fetchPlan(options, { participant, provider, digest: price });
  },
});
