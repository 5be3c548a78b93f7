import { z } from 'zod';
import { hashOrNone, time } from './ledger/forms.ts';

/** The feed of a catalog's changes (dsp §12.4): what a provider answers, and what whoever follows it reads. */

/** `GET <root>/ext/1/catalog/changes?cursor=&limit=` */
export const catalogChangesPath = '/changes';

export const catalogChange = z.looseObject({
  dataset: z.string().min(1).max(2048),
  change: z.enum(['added', 'updated', 'removed']),
  at: time,
  /** `b64u H(JCS(dataset as the catalog shows it to this caller))`; empty for one that was removed. */
  digest: hashOrNone,
});
export type CatalogChangeEntry = z.infer<typeof catalogChange>;

/** One page. There are more while a `Link` with `rel="next"` comes with it; a page may be empty all the same. */
export const catalogChanges = z.looseObject({
  changes: z.array(catalogChange).max(200),
  cursor: z.string().min(1).max(4096),
});
