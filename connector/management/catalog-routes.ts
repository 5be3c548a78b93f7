import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { isJsonObject, type Json } from '../../contracts/json.ts';
import { pageOf, pageQuery, pageThrough } from '../../kernel/http/paging.ts';
import { asAppError } from '../../kernel/http/problem.ts';
import type { Api } from './api.ts';
import {
  assetView,
  byId,
  catalogQuery,
  datasetQuery,
  digestedPlanView,
  foundDatasetView,
  newAsset,
  newOffer,
  newPricePlan,
  offerView,
  publication,
  publicationMembers,
  publishedView,
  templateView,
} from './forms.ts';
import type { FoundDataset, FoundOffer, OtherCatalogs, OwnCatalog, Publication, Publisher, Template } from './ports.ts';
import { showAsset, showFound, showOffer, showPublished, showTemplate } from './views.ts';

/** What the owner offers, and what others offer. */

export interface CatalogRoutesOptions {
  readonly catalog: OwnCatalog & Publisher;
  readonly templates: readonly Template[];
  readonly catalogs: OtherCatalogs;
}

const tag = 'catalog';

const assetRoutes = ({ endpoint }: Api, { catalog }: CatalogRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/assets',
      id: 'listAssets',
      tag,
      summary: 'Own assets, on offer or not.',
      query: pageQuery,
      status: 200,
      answer: pageOf(assetView),
    },
    ({ participant, query }) =>
      pageThrough(
        query,
        (page) => catalog.assets(participant, page),
        ({ asset }) => asset.id,
        showAsset,
      ),
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/assets',
      id: 'addAsset',
      tag,
      summary: 'Register an asset: an address, a file or a folder.',
      body: newAsset,
      status: 201,
      answer: assetView,
    },
    async ({ participant, body }) => {
      const { id } = await catalog.addAsset(participant, body);
      return showAsset(await catalog.asset(participant, id));
    },
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/assets/{id}',
      id: 'getAsset',
      tag,
      summary: 'One asset.',
      params: byId,
      status: 200,
      answer: assetView,
    },
    async ({ participant, params }) => showAsset(await catalog.asset(participant, params.id)),
  );
};

const pricePlanRoutes = ({ endpoint }: Api, { catalog }: CatalogRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/price-plans',
      id: 'listPricePlans',
      tag,
      summary: 'Own price plans.',
      query: pageQuery,
      status: 200,
      answer: pageOf(digestedPlanView),
    },
    ({ participant, query }) =>
      pageThrough(
        query,
        (page) => catalog.pricePlans(participant, page),
        ({ digest }) => digest,
        (plan) => plan,
      ),
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/price-plans',
      id: 'addPricePlan',
      tag,
      summary: 'Register a price plan; it is known by its digest from then on.',
      body: newPricePlan,
      status: 201,
      answer: digestedPlanView,
    },
    ({ participant, body }) => catalog.addPricePlan(participant, body),
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/price-plans/{id}',
      id: 'getPricePlan',
      tag,
      summary: 'One price plan, by its digest.',
      params: byId,
      status: 200,
      answer: digestedPlanView,
    },
    async ({ participant, params }) => ({
      digest: params.id,
      plan: await catalog.pricePlan(participant, params.id),
    }),
  );
};

const offerRoutes = ({ endpoint }: Api, { catalog }: CatalogRoutesOptions): void => {
  endpoint(
    {
      method: 'get',
      path: '/v1/offers',
      id: 'listOffers',
      tag,
      summary: 'Own offers, withdrawn ones too.',
      query: pageQuery,
      status: 200,
      answer: pageOf(offerView),
    },
    ({ participant, query }) =>
      pageThrough(
        query,
        (page) => catalog.offers(participant, page),
        ({ id }) => id,
        showOffer,
      ),
  );
  endpoint(
    {
      method: 'post',
      path: '/v1/offers',
      id: 'addOffer',
      tag,
      summary: 'Offer an asset under rules and a price.',
      body: newOffer,
      status: 201,
      answer: offerView,
    },
    async ({ participant, body }) => showOffer(await catalog.addOffer(participant, body)),
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/offers/{id}',
      id: 'getOffer',
      tag,
      summary: 'One offer.',
      params: byId,
      status: 200,
      answer: offerView,
    },
    async ({ participant, params }) => showOffer(await catalog.offer(participant, params.id)),
  );
  endpoint(
    {
      method: 'delete',
      path: '/v1/offers/{id}',
      id: 'withdrawOffer',
      tag,
      summary: 'Withdraw an offer; agreements that were made stand.',
      params: byId,
      status: 204,
    },
    async ({ participant, params }) => {
      await catalog.withdraw(participant, params.id);
      return undefined;
    },
  );
};

/** Those members of a body that have the right form by themselves: the others cannot be looked into. */
const readableMembers = (body: Json): Partial<Publication> => {
  if (!isJsonObject(body)) return {};
  const read = Object.entries(publicationMembers).flatMap(([name, schema]) => {
    const parsed = schema.safeParse(body[name]);
    return parsed.success && parsed.data !== undefined ? [[name, parsed.data] as const] : [];
  });
  return Object.fromEntries(read); // each member was parsed by the schema of its name
};

const publicationRoutes = ({ endpoint }: Api, { catalog, templates }: CatalogRoutesOptions): void => {
  endpoint(
    {
      method: 'post',
      path: '/v1/publications',
      id: 'publish',
      tag,
      summary: 'Publish an asset, a policy and a price in one step; the same again is harmless.',
      body: publication,
      moreFaults: (body) => catalog.publicationFaults(readableMembers(body)),
      status: 201,
      answer: publishedView,
    },
    async ({ participant, body }) => showPublished(await catalog.publish(participant, body)),
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/policy-templates',
      id: 'listPolicyTemplates',
      tag,
      summary: 'Policy templates and their parameters.',
      status: 200,
      answer: pageOf(templateView),
    },
    async () => ({ items: templates.map(showTemplate), next: null }),
  );
};

/** A dataset with the plan of each offer; an offer whose plan its provider does not show is set apart, and why. */
const withPlans = async (
  { catalogs }: CatalogRoutesOptions,
  participant: ParticipantId,
  provider: Did,
  found: FoundDataset,
): Promise<FoundDataset> => {
  const offers: FoundOffer[] = [];
  const unreadable = [...found.unreadable];
  for (const offer of found.offers) {
    try {
      offers.push({ ...offer, plan: await catalogs.pricePlan(participant, provider, offer) });
    } catch (error) {
      const { detail, title } = asAppError(error);
      unreadable.push({ id: offer.id, why: detail ?? title });
    }
  }
  return { ...found, offers, unreadable };
};

const otherRoutes = ({ endpoint }: Api, options: CatalogRoutesOptions): void => {
  const { catalogs } = options;
  endpoint(
    {
      method: 'get',
      path: '/v1/catalog',
      id: 'readCatalog',
      tag,
      summary: 'One page of the catalog of a provider, as it shows itself to us.',
      query: catalogQuery,
      status: 200,
      answer: pageOf(foundDatasetView),
    },
    async ({ participant, query: { provider, after } }) => {
      const { datasets, next } = await catalogs.page(participant, provider, after === '' ? undefined : after);
      return { items: datasets.map(showFound), next: next ?? null };
    },
  );
  endpoint(
    {
      method: 'get',
      path: '/v1/catalog/{id}',
      id: 'readDataset',
      tag,
      summary: 'One dataset of a provider, with its price plans.',
      params: byId,
      query: datasetQuery,
      status: 200,
      answer: foundDatasetView,
    },
    async ({ participant, params, query }) => {
      const found = await catalogs.dataset(participant, query.provider, params.id);
      return showFound(await withPlans(options, participant, query.provider, found));
    },
  );
};

export const addCatalogRoutes = (api: Api, options: CatalogRoutesOptions): void => {
  assetRoutes(api, options);
  pricePlanRoutes(api, options);
  offerRoutes(api, options);
  publicationRoutes(api, options);
  otherRoutes(api, options);
};
