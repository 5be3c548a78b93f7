import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { createSqlOfferStore, type OfferTables, offerMigrations } from '../../broker/adapters/sql/offer-store.ts';
import type { Listing, OfferStore, Provider } from '../../broker/store/ports.ts';
import type { Did } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { onDatabases } from '../support/databases.ts';

const anna: Provider = { did: 'did:web:anna.example' as Did, name: 'Anna' };
const bert: Provider = { did: 'did:web:bert.example' as Did, name: 'Bert' };
const offer = {
  id: 'urn:offer:1',
  rules: { permission: [{ action: 'use' }] },
  assurance: 'cosigned' as const,
  price: '',
  pricePlan: null,
};
const listing = (id: string, words: readonly string[], title = 'Rain'): Listing => ({
  id,
  dataset: `urn:asset:${id}`,
  title,
  description: 'd',
  keywords: ['k'],
  offers: [offer],
  digest: `${title} ${words.join(' ')}`,
  words,
});
const seen = (run: string, at = 1) => ({ run, at });
const start = (word: string) => ({ word, id: '' });

const adapters: Readonly<Record<string, () => Promise<OfferStore>>> = onDatabases(async (db: Kysely<OfferTables>) => {
  await migrate(db, 'offers', offerMigrations);
  return createSqlOfferStore(db);
});

describe.each(Object.entries(adapters))('OfferStore on %s', (_name, create) => {
  test('gives back listings in the order asked for, with their provider', async () => {
    const store = await create();
    await store.put(anna, seen('1', 7), [listing('a', ['rain']), listing('b', ['snow'])]);
    expect(await store.read.entries(['b', 'x', 'a'])).toEqual([
      expect.objectContaining({ dataset: 'urn:asset:b', provider: anna }),
      {
        provider: anna,
        dataset: 'urn:asset:a',
        title: 'Rain',
        description: 'd',
        keywords: ['k'],
        offers: [offer],
        harvestedAt: '1970-01-01T00:00:00.007Z',
      },
    ]);
    expect(await store.read.entries([])).toEqual([]);
    expect(await store.read.ids('', 10)).toEqual(['a', 'b']);
    expect(await store.read.ids('a', 10)).toEqual(['b']);
    expect(await store.read.ids('', 1)).toEqual(['a']);
  });

  test('removes single listings of their provider alone, with their words', async () => {
    const store = await create();
    await store.put(anna, seen('1'), [listing('a', ['rain']), listing('b', ['rain'])]);
    await store.put(bert, seen('1'), [listing('c', ['rain'])]);
    expect(await store.remove(anna.did, ['a', 'c', 'x'])).toBe(1);
    expect(await store.remove(anna.did, [])).toBe(0);
    expect(await store.read.ids('', 9)).toEqual(['b', 'c']);
    expect((await store.read.scan('rain', start(''), 9)).map(({ id }) => id)).toEqual(['b', 'c']);
  });

  test('keeps where the changes of a provider are read on, until it is forgotten', async () => {
    const store = await create();
    expect(await store.followed(anna.did)).toBeUndefined();
    await store.keepFollowed(anna.did, { cursor: 'one', crawledAt: 1 });
    await store.keepFollowed(anna.did, { cursor: 'two', crawledAt: 2 });
    expect(await store.followed(anna.did)).toEqual({ cursor: 'two', crawledAt: 2 });
    expect(await store.followed(bert.did)).toBeUndefined();
    await store.keepFollowed(anna.did, undefined);
    expect(await store.followed(anna.did)).toBeUndefined();
    await store.keepFollowed(anna.did, { cursor: 'three', crawledAt: 3 });
    await store.forget(anna.did);
    expect(await store.followed(anna.did)).toBeUndefined();
  });

  test('finds places of words by their beginning, in order, behind a place', async () => {
    const store = await create();
    await store.put(anna, seen('1'), [
      listing('a', ['water', 'waterstand']),
      listing('b', ['water']),
      listing('c', ['waterstand', 'wind']),
      listing('d', ['wat\u{10ffff}']),
    ]);
    const places = async (prefix: string, after = start(prefix), limit = 10) =>
      (await store.read.scan(prefix, after, limit)).map(({ word, id }) => `${word} ${id}`);
    expect(await places('water')).toEqual(['water a', 'water b', 'waterstand a', 'waterstand c']);
    expect(await places('water', { word: 'water', id: 'b' }, 1)).toEqual(['waterstand a']);
    expect(await places('waters')).toEqual(['waterstand a', 'waterstand c']);
    expect(await places('x')).toEqual([]);
    expect(await store.read.count('wat', 10)).toBe(4);
    expect(await store.read.count('wat', 2)).toBe(2);
    expect(await store.read.firstWords('water', ['a', 'b', 'c', 'd', 'e'])).toEqual(
      new Map([
        ['a', 'water'],
        ['b', 'water'],
        ['c', 'waterstand'],
      ]),
    );
    expect(await store.read.firstWords('water', [])).toEqual(new Map());
  });

  test('a listing is replaced with its words, an unchanged one only marked', async () => {
    const store = await create();
    await store.put(anna, seen('1', 1), [listing('a', ['old']), listing('b', ['same'])]);
    await store.put(anna, seen('2', 2), [listing('a', ['new'], 'Snow'), listing('b', ['same'])]);
    expect(await store.read.scan('old', start('old'), 10)).toEqual([]);
    expect(await store.read.scan('new', start('new'), 10)).toHaveLength(1);
    const [a, b] = await store.read.entries(['a', 'b']);
    expect(a?.title).toBe('Snow');
    expect(b?.harvestedAt).toBe('1970-01-01T00:00:00.002Z');
  });

  test('what a run did not see is removed, and only of its provider', async () => {
    const store = await create();
    const many = Array.from({ length: 60 }, (_, index) => listing(`m${String(index).padStart(2, '0')}`, ['many']));
    await store.put(anna, seen('1'), many);
    await store.put(bert, seen('1'), [listing('z', ['many'])]);
    await store.put(anna, seen('2'), many.slice(0, 5));
    expect(await store.finish(anna.did, '2')).toBe(55);
    expect(await store.read.count('many', 100)).toBe(6);
    expect(await store.read.ids('', 100)).toHaveLength(6);
    expect(await store.finish(anna.did, '2')).toBe(0);
  });

  test('a provider is forgotten with everything of it', async () => {
    const store = await create();
    await store.put(anna, seen('1'), [listing('a', ['rain'])]);
    await store.put(bert, seen('1'), [listing('b', ['rain'])]);
    expect(await store.providers()).toEqual([anna.did, bert.did]);
    await store.forget(anna.did);
    expect(await store.providers()).toEqual([bert.did]);
    expect(await store.read.ids('', 10)).toEqual(['b']);
    expect(await store.read.count('rain', 10)).toBe(1);
  });

  test('an empty page keeps the provider known', async () => {
    const store = await create();
    await store.put(anna, seen('1'), []);
    expect(await store.providers()).toEqual([anna.did]);
  });

  test('keeps what became of each catalog last, and forgets it with its provider', async () => {
    const store = await create();
    const result = { provider: bert.did, at: 7, datasets: 3, skipped: 1, removed: 2, fault: null };
    await store.keepResult(result);
    await store.keepResult({ ...result, provider: anna.did, fault: 'fetch-failed: 404' });
    await store.keepResult({ ...result, at: 9, datasets: 4 });
    expect(await store.results()).toEqual([
      { ...result, provider: anna.did, fault: 'fetch-failed: 404' },
      { ...result, at: 9, datasets: 4 },
    ]);
    await store.put(anna, seen('1'), [listing('a', ['rain'])]);
    await store.forget(anna.did);
    expect((await store.results()).map(({ provider }) => provider)).toEqual([bert.did]);
  });

  test('words and listings come in the order of their bytes, whatever the language of the database', async () => {
    const store = await create();
    const words = [
      'zee',
      'Zee',
      'éb',
      'eb',
      'e-b',
      'e_b',
      'e1',
      'ë',
      'ij',
      'ĳ',
      '水位',
      'water',
      'wäter',
      '𝒳',
      '\uffee',
    ];
    const ids = words.map((_, index) => `${'aBé_-'[index % 5]}${index}`);
    await store.put(
      anna,
      seen('1'),
      words.map((word, index) => listing(ids[index] ?? '', [word])),
    );
    const byBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b));
    const walked: string[] = [];
    for (let after = { word: '', id: '' }; ; ) {
      const [place] = await store.read.scan('', after, 1);
      if (place === undefined) break;
      walked.push(place.word);
      after = place;
    }
    expect(walked).toEqual(words.toSorted(byBytes));
    const listed: string[] = [];
    for (let after = ''; ; ) {
      const [id] = await store.read.ids(after, 1);
      if (id === undefined) break;
      listed.push(id);
      after = id;
    }
    expect(listed).toEqual(ids.toSorted(byBytes));
    expect((await store.read.scan('e', { word: 'e', id: '' }, 9)).map(({ word }) => word)).toEqual([
      'e-b',
      'e1',
      'e_b',
      'eb',
    ]);
  });
});
