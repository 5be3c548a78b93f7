import type { z } from '@hono/zod-openapi';
import { endpointOf } from '../../contracts/dsp/transfer.ts';
import { formatTime } from '../../contracts/time.ts';
import type { Facts } from '../../policies/facts.ts';
import { reasonsOf } from '../exchange/refusal.ts';
import type {
  agreementView,
  assetView,
  foundDatasetView,
  judgedView,
  negotiationView,
  offerView,
  publishedView,
  templateView,
  transferView,
} from './forms.ts';
import { bestFirst, judgeOffer } from './judging.pure.ts';
import type {
  Ending,
  FoundDataset,
  NegotiationRecord,
  Offer,
  OfferedAsset,
  Published,
  StoreEntry,
  Template,
  TransferRecord,
  Upstream,
} from './ports.ts';

/** What the operator sees of what the services keep: no secret, no key, and times as text. */

type View<Schema extends z.ZodType> = z.input<Schema>;

const showUpstream = (upstream: Upstream): View<typeof assetView>['upstream'] => {
  if (upstream.kind !== 'http') return upstream;
  const { kind, url, credential } = upstream;
  return { kind, url, credential: credential === null ? null : { name: credential.name } };
};

export const showAsset = ({ asset, offers }: OfferedAsset): View<typeof assetView> => ({
  id: asset.id,
  title: asset.title,
  description: asset.description,
  keywords: [...asset.keywords],
  extra: asset.extra,
  upstream: showUpstream(asset.upstream),
  createdAt: formatTime(asset.createdAt),
  offers: offers.map(({ id }) => id),
});

const orNull = (text: string): string | null => (text === '' ? null : text);

export const showOffer = (offer: Offer): View<typeof offerView> => ({
  id: offer.id,
  asset: offer.asset,
  rules: offer.rules,
  assurance: offer.assurance,
  price: orNull(offer.price),
  silence: offer.silence,
  createdAt: formatTime(offer.createdAt),
  withdrawnAt: offer.withdrawnAt === null ? null : formatTime(offer.withdrawnAt),
});

export const showPublished = ({ asset, offer, price, withdrawn }: Published): View<typeof publishedView> => ({
  asset: showAsset({ asset, offers: [offer] }),
  offer: showOffer(offer),
  price,
  withdrawn: [...withdrawn],
});

export const showTemplate = ({ name, title, about, parameters }: Template): View<typeof templateView> => ({
  name,
  title,
  about,
  parameters: Object.fromEntries(
    Object.entries(parameters).map(([key, parameter]) => [
      key,
      { about: parameter.about, example: parameter.example, list: parameter.list === true },
    ]),
  ),
});

const showFoundOffer = ({ id, rules, assurance, price, plan }: FoundDataset['offers'][number]) => ({
  id,
  rules,
  assurance,
  priceDigest: orNull(price),
  price: plan,
});

export const showFound = (dataset: FoundDataset): View<typeof foundDatasetView> => ({
  id: dataset.id,
  title: dataset.title,
  description: dataset.description,
  keywords: [...dataset.keywords],
  formats: [...dataset.formats],
  offers: dataset.offers.map(showFoundOffer),
  unreadable: [...dataset.unreadable],
});

/** A dataset of the store with a forecast for each of its offers. */
export const showJudged = ({ provider, dataset, harvestedAt }: StoreEntry, facts: Facts): View<typeof judgedView> => {
  const judged = dataset.offers.map((offer) => {
    const known = offer.price === '' ? facts : { ...facts, pricePlan: offer.price };
    return { offer, judgement: judgeOffer(offer.rules, known) };
  });
  return {
    ...showFound(dataset),
    provider,
    harvestedAt,
    offers: bestFirst(judged).map(({ offer, judgement }) => ({
      ...showFoundOffer(offer),
      verdict: judgement.verdict,
      reasons: [...judgement.reasons],
      missing: [...judgement.missing],
    })),
  };
};

const showEnding = (ending: Ending | null): View<typeof negotiationView>['ending'] =>
  ending === null ? null : { by: ending.by, code: ending.code, reasons: [...reasonsOf(ending.reason)] };

const showProcess = (row: NegotiationRecord | TransferRecord) => ({
  id: row.pid,
  peer: row.peer,
  peerPid: row.peerPid,
  role: row.process.role,
  state: row.process.state,
  pending: row.process.pending?.kind ?? null,
  ending: showEnding(row.data.ending),
  createdAt: formatTime(row.createdAt),
  updatedAt: formatTime(row.updatedAt),
});

export const agreementIdOf = ({ data }: NegotiationRecord): string | null => {
  const id = data.agreement?.agreement['@id'];
  return typeof id === 'string' ? id : null;
};

const showMandate = (mandate: NegotiationRecord['data']['mandate']): View<typeof negotiationView>['mandate'] => {
  if (mandate == null || mandate === 'operator') return mandate ?? null;
  return { least: mandate.least, prices: [...mandate.prices] };
};

export const showNegotiation = (row: NegotiationRecord): View<typeof negotiationView> => ({
  ...showProcess(row),
  dataset: row.data.dataset,
  offer: row.data.offer,
  offerBy: row.data.offerBy,
  assurance: row.data.assurance,
  price: orNull(row.data.price),
  mandate: showMandate(row.data.mandate),
  agreementId: agreementIdOf(row),
  amends: row.data.amends?.agreement ?? null,
  status: row.data.status,
});

/** The data address without its properties: a grant is for the gateway alone. */
export const showTransfer = (row: TransferRecord): View<typeof transferView> => ({
  ...showProcess(row),
  agreementId: row.data.agreementId,
  format: row.data.format,
  endpoint: row.data.dataAddress === null ? null : endpointOf(row.data.dataAddress),
  received: row.data.inbox?.received ?? null,
});

/** The agreement of a negotiation, once there is one. */
export const showAgreement = (row: NegotiationRecord): View<typeof agreementView> | undefined => {
  const id = agreementIdOf(row);
  if (id === null || row.data.agreement === null) return undefined;
  return {
    id,
    digest: row.data.agreement.digest,
    negotiation: row.pid,
    role: row.process.role,
    peer: row.peer,
    dataset: row.data.dataset,
    assurance: row.data.assurance,
    price: orNull(row.data.price),
    status: row.data.status,
    agreement: row.data.agreement.agreement,
    createdAt: formatTime(row.createdAt),
  };
};
