import { z } from 'zod';
import { assurances } from './ledger/agreement.ts';
import { did, hashOrNone, time } from './ledger/forms.ts';
import { pricePlan } from './ledger/price-plan.ts';

/** What a broker's store answers: offers of its members, as they stood in their catalogs. Open to all. */

/** `GET <broker>/store/offers?q=&cursor=&limit=` */
export const storeOffersPath = '/store/offers';

const storeOffer = z.looseObject({
  id: z.string().min(1).max(2048),
  /** Permission, prohibition and obligation as the catalog showed them. */
  rules: z.record(z.string(), z.json()),
  assurance: z.enum(assurances),
  /** Digest of the price plan that the rules name, or empty; the plan itself where the catalog showed it. */
  price: hashOrNone,
  pricePlan: z.union([pricePlan, z.null()]),
});
export type StoreOffer = z.infer<typeof storeOffer>;

export const storeEntry = z.looseObject({
  provider: z.looseObject({ did, name: z.string().max(200) }),
  dataset: z.string().min(1).max(2048),
  title: z.string().max(500),
  description: z.string().max(5000),
  keywords: z.array(z.string().max(200)).max(100),
  offers: z.array(storeOffer).min(1).max(100),
  /** When the broker last saw it in its provider's catalog. */
  harvestedAt: time,
});
export type StoreEntry = z.infer<typeof storeEntry>;

/** One page. `cursor` is null on the last; a page before it may be short, or even empty. */
export const storePage = z.looseObject({
  entries: z.array(storeEntry).max(100),
  cursor: z.union([z.string().max(1024), z.null()]),
  /** Words of the question that stand nowhere in the store, and were left out. */
  ignored: z.array(z.string()).max(100),
});
export type StorePage = z.infer<typeof storePage>;
