import { z } from 'zod';
import { hasRules, ruleLists } from '../odrl/policy.ts';
import { message } from './common.ts';

/** Catalog: messages and objects of DSP 2025-1 (dsp §4). */

export const catalogRequestMessage = message('CatalogRequestMessage', { filter: z.array(z.json()).optional() });
export type CatalogRequestMessage = z.infer<typeof catalogRequestMessage>;

/** An offer in a catalog has no `target`: the dataset around it is its target. */
export const catalogOffer = z
  .looseObject({ '@type': z.literal('Offer').optional(), '@id': z.string().min(1).max(2048), ...ruleLists })
  .refine(hasRules, { message: 'needs a permission or a prohibition' })
  .refine((offer) => !('target' in offer), { message: 'has no target in a catalog' });
export type CatalogOffer = z.infer<typeof catalogOffer>;

export const dataService = z.looseObject({
  '@id': z.string().min(1),
  '@type': z.literal('DataService'),
  endpointURL: z.string().min(1),
});

export const distribution = z.looseObject({
  '@type': z.literal('Distribution'),
  format: z.string().min(1),
  accessService: z.union([z.string(), dataService], { error: 'is neither an id nor one DataService' }),
});

/** Any offer of somebody else's dataset: one that breaks the standard's form spoils itself, and not the catalog around it. */
const anyOffer = z.looseObject({ '@id': z.string().min(1).max(2048) });

const datasetShape = {
  '@id': z.string().min(1).max(2048),
  '@type': z.literal('Dataset'),
  hasPolicy: z.array(anyOffer).min(1),
  distribution: z.array(distribution).min(1),
};

export const dataset = z.looseObject(datasetShape);
export type Dataset = z.infer<typeof dataset>;

/** The answer of `GET /catalog/datasets/:id`: a dataset with `@context`. */
export const datasetAnswer = message('Dataset', datasetShape);

export const catalog = message('Catalog', {
  participantId: z.string().min(1),
  service: z.array(dataService).min(1).optional(),
  dataset: z.array(dataset).min(1).optional(),
}).refine((value) => !('hasPolicy' in value), { message: 'hasPolicy does not stand on a catalog' });
export type Catalog = z.infer<typeof catalog>;

export const versionDocument = z.looseObject({
  protocolVersions: z
    .array(
      z.looseObject({
        version: z.string(),
        path: z.string().startsWith('/'),
        binding: z.string(),
        auth: z.looseObject({ protocol: z.string(), version: z.string() }).optional(),
      }),
    )
    .min(1),
});
export type VersionDocument = z.infer<typeof versionDocument>;
