import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import type { CatalogChangeEntry } from '../../contracts/catalog-changes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { canonicalize } from '../../contracts/json.ts';
import { formatTime } from '../../contracts/time.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Cursors } from './cursors.ts';
import type { CatalogChange, CatalogStore, ChangedOffers, Offer, Viewer, Visibility } from './ports.ts';
import { showDataset } from './rules.ts';
import type { Turning } from './turning.ts';

/**
 * What changed in the catalog, as one caller sees it (dsp §12.4). Each change is looked at twice: as the dataset looked to
 * this caller just before it, and as it looked with it. So nobody learns of a dataset that it could never see, and whoever
 * loses the right to see one reads that it was removed.
 */

export interface ChangesOptions extends Pick<Turning, 'turn'> {
  readonly store: CatalogStore;
  readonly visibility: Visibility;
  readonly places: Cursors;
  readonly self: (participant: ParticipantId) => { readonly base: string };
}

export interface ChangesPage {
  readonly changes: readonly CatalogChangeEntry[];
  readonly cursor: string;
  /** Whether there are changes behind this page already. */
  readonly isMore: boolean;
}

export interface Changes {
  /**
   * The changes behind a cursor. Without one: none, and the cursor from which on everything will be told; whoever reads the
   * whole catalog after that misses nothing.
   *
   * @throws AppError `request-invalid` for a cursor of somebody else, `cursor-expired` when the whole catalog must be read.
   */
  readonly changes: (
    participant: ParticipantId,
    caller: Did,
    asked: { readonly cursor: string | undefined; readonly limit: number },
  ) => Promise<ChangesPage>;
}

/** Offers whose time has come that a reader waits for; the others are told with a later page. */
const turnedAtOnce = 20;

const digestOf = (dataset: ReturnType<typeof showDataset>): string =>
  toBase64Url(nodeCrypto.sha256(utf8(canonicalize(dataset))));

/** How a dataset looks, by digest; empty for one that is not shown. */
const looksOf = async (
  { store, visibility, self }: ChangesOptions,
  viewer: Viewer,
  { asset, before, after }: ChangedOffers,
  { wasAt, at }: CatalogChange,
): Promise<{ readonly was: string; readonly is: string }> => {
  const { participant } = asset;
  const seen = (offers: readonly Offer[], time: number) =>
    offers.filter((offer) => visibility.sees(viewer, offer, time));
  const [old, now] = [seen(before, wasAt), seen(after, at)];
  const digests = new Set([...old, ...now].map(({ price }) => price).filter((digest) => digest !== ''));
  const plans = await store.read.plans(participant, [...digests]);
  const look = (offers: readonly Offer[]): string =>
    offers.length === 0 ? '' : digestOf(showDataset(asset, offers, { base: self(participant).base, plans }));
  return { was: look(old), is: look(now) };
};

const kindOf = (was: string, is: string): CatalogChangeEntry['change'] => {
  if (was === '') return 'added';
  return is === '' ? 'removed' : 'updated';
};

const entriesFor = async (
  options: ChangesOptions,
  participant: ParticipantId,
  viewer: Viewer,
  changes: readonly CatalogChange[],
): Promise<readonly CatalogChangeEntry[]> => {
  const entries: CatalogChangeEntry[] = [];
  for (const change of changes) {
    const changed = await options.store.read.changed(participant, change);
    if (changed === undefined) continue;
    const { was, is } = await looksOf(options, viewer, changed, change);
    if (was === is) continue;
    const { dataset, at } = change;
    entries.push({ dataset, change: kindOf(was, is), at: formatTime(at), digest: is });
  }
  return entries;
};

export const createChanges = (options: ChangesOptions): Changes => ({
  changes: async (participant, caller, { cursor, limit }) => {
    const { store, visibility, places } = options;
    await options.turn(turnedAtOnce);
    const viewer = await visibility.viewer(participant, caller);
    const { canCosign } = viewer;
    const { head, forgotten } = await store.read.head(participant);
    if (cursor === undefined)
      return { changes: [], cursor: places.change(caller, { seq: head, canCosign }), isMore: false };
    const place = places.readChange(caller, cursor);
    // A caller that learnt or lost our extensions sees another catalog, and no change of the catalog says so.
    if (place.seq < forgotten || place.seq > head || place.canCosign !== canCosign)
      throw new AppError('cursor-expired');
    const found = await store.read.changes(participant, place.seq, limit + 1);
    const looked = found.slice(0, limit);
    const seq = looked.at(-1)?.seq ?? place.seq;
    return {
      changes: await entriesFor(options, participant, viewer, looked),
      cursor: places.change(caller, { seq, canCosign }),
      isMore: found.length > limit,
    };
  },
});
