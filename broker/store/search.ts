import { fromBase64Url, textOf, toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { StorePage } from '../../contracts/store.ts';
import type { OfferReader, WordPlace } from './ports.ts';
import { termsOf } from './words.pure.ts';

/**
 * Text search over the listings. The rarest beginning of a word drives: its places are walked in order, and each listing is kept
 * when all other beginnings stand in it. One page walks a bounded number of places, so its cost does not grow with the store.
 */

export interface Question {
  readonly text: string;
  readonly cursor: string | undefined;
  readonly limit: number;
}

/** Where a page ended: the driving term and the place, or the last id of a walk over everything. */
interface Cursor {
  readonly term: string;
  readonly after: WordPlace;
}

const batchSize = 200;
const maxWalked = 2_000;
const maxCounted = 1_000;
const maxCursorLength = 1_024;

const encodeCursor = ({ term, after }: Cursor): string =>
  toBase64Url(utf8(JSON.stringify([term, after.word, after.id])));

const badCursor = (): AppError => new AppError('body-invalid', { detail: 'the cursor is none of this question' });

const readCursor = (text: string): Cursor => {
  const bytes = text.length <= maxCursorLength ? fromBase64Url(text) : undefined;
  let value: unknown;
  try {
    value = JSON.parse(textOf(bytes ?? new Uint8Array(0)) ?? '');
  } catch {
    throw badCursor();
  }
  const parts: readonly unknown[] = Array.isArray(value) ? value : [];
  const [term, word, id] = parts;
  if (parts.length !== 3 || typeof term !== 'string' || typeof word !== 'string' || typeof id !== 'string')
    throw badCursor();
  return { term, after: { word, id } };
};

/** All listings in order of id: a question without words. */
const browse = async (read: OfferReader, cursor: Cursor | undefined, limit: number): Promise<StorePage> => {
  if (cursor !== undefined && cursor.term !== '') throw badCursor();
  const ids = await read.ids(cursor?.after.id ?? '', limit + 1);
  const shown = ids.slice(0, limit);
  const last = ids.length > limit ? shown.at(-1) : undefined;
  return {
    entries: [...(await read.entries(shown))],
    cursor: last === undefined ? null : encodeCursor({ term: '', after: { word: '', id: last } }),
    ignored: [],
  };
};

/** Of a batch of places: those whose listing is met here first, and has every other term. */
const keep = async (
  read: OfferReader,
  places: readonly WordPlace[],
  term: string,
  others: readonly string[],
): Promise<readonly WordPlace[]> => {
  const ids = [...new Set(places.map(({ id }) => id))];
  const first = await read.firstWords(term, ids);
  let kept = places.filter(({ word, id }) => first.get(id) === word);
  for (const other of others) {
    if (kept.length === 0) return kept;
    const has = await read.firstWords(
      other,
      kept.map(({ id }) => id),
    );
    kept = kept.filter(({ id }) => has.has(id));
  }
  return kept;
};

/** Walks the places of the driving term until the page is full, the places end, or enough was walked. */
const walk = async (
  read: OfferReader,
  { term, after }: Cursor,
  others: readonly string[],
  limit: number,
): Promise<{ readonly ids: readonly string[]; readonly next: Cursor | undefined }> => {
  const found: WordPlace[] = [];
  let place = after;
  for (let walked = 0; walked < maxWalked; walked += batchSize) {
    const places = await read.scan(term, place, batchSize);
    found.push(...(await keep(read, places, term, others)));
    const full = found[limit - 1];
    if (full !== undefined && (found.length > limit || places.length === batchSize))
      return { ids: found.slice(0, limit).map(({ id }) => id), next: { term, after: full } };
    place = places.at(-1) ?? place;
    if (places.length < batchSize) return { ids: found.map(({ id }) => id), next: undefined };
  }
  return { ids: found.map(({ id }) => id), next: { term, after: place } };
};

/** The rarest of the terms that stand somewhere, and those that stand nowhere. */
const weigh = async (read: OfferReader, terms: readonly string[]) => {
  const counted: { readonly term: string; readonly count: number }[] = [];
  for (const term of terms) counted.push({ term, count: await read.count(term, maxCounted) });
  const known = counted.filter(({ count }) => count > 0).sort((a, b) => a.count - b.count);
  return {
    known: known.map(({ term }) => term),
    ignored: counted.filter(({ count }) => count === 0).map(({ term }) => term),
  };
};

/** Answers a question. @throws AppError `body-invalid` for a cursor of another question. */
export const search = async (read: OfferReader, { text, cursor, limit }: Question): Promise<StorePage> => {
  const from = cursor === undefined ? undefined : readCursor(cursor);
  const terms = termsOf(text);
  if (terms.length === 0) return browse(read, from, limit);
  if (from !== undefined && !terms.includes(from.term)) throw badCursor();
  const { known, ignored } = await weigh(read, terms);
  const term = from?.term ?? known[0];
  if (term === undefined) return { entries: [], cursor: null, ignored };
  const others = known.filter((other) => other !== term);
  const { ids, next } = await walk(read, from ?? { term, after: { word: term, id: '' } }, others, limit);
  return {
    entries: [...(await read.entries(ids))],
    cursor: next === undefined ? null : encodeCursor(next),
    ignored,
  };
};
