import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSqlOfferStore, type OfferTables, offerMigrations } from '../broker/adapters/sql/offer-store.ts';
import { search } from '../broker/store/search.ts';
import { wordsOf } from '../broker/store/words.pure.ts';
import type { Did } from '../contracts/ids.ts';
import { seededRandom } from '../kernel/random.ts';
import { migrate } from '../kernel/sql/migrate.ts';
import { openSqlite, type Sqlite } from '../kernel/sql/sqlite.ts';
import { type BenchRow, isTiny } from './row.ts';

/** Entries in the store; a million take some minutes to put in: `BENCH_STORE_ENTRIES=1000000`. */
const entries = Number(process.env.BENCH_STORE_ENTRIES ?? (isTiny ? '1000' : '100000'));
const questions = isTiny ? 20 : 500;
const vocabulary = 20_000;
const wordsPerEntry = 12;
const batch = 500;

const random = seededRandom('store');
const share = (): number => Buffer.from(random.bytes(4)).readUInt32BE() / 2 ** 32;
/** Few words are frequent and many are rare, as in any language. */
const word = (): string => `w${Math.floor(vocabulary ** share()).toString(36)}x`;

const listing = (index: number) => {
  const title = Array.from({ length: wordsPerEntry }, word).join(' ');
  return {
    id: index.toString(36).padStart(8, '0'),
    dataset: `urn:asset:${index}`,
    title,
    description: '',
    keywords: [],
    offers: [{ id: `urn:offer:${index}`, rules: {}, assurance: 'cosigned' as const, price: '', pricePlan: null }],
    digest: String(index),
    words: wordsOf([title]),
  };
};

const fill = async ({ db }: Sqlite<OfferTables>) => {
  await migrate(db, 'offers', offerMigrations);
  const store = createSqlOfferStore(db);
  const provider = { did: 'did:web:provider.example' as Did, name: 'Provider' };
  for (let index = 0; index < entries; index += batch) {
    const listings = Array.from({ length: Math.min(batch, entries - index) }, (_, place) => listing(index + place));
    await store.put(provider, { run: '1', at: 0 }, listings);
  }
  return store;
};

/** Milliseconds of one question of one to three words, the 95th percentile. */
export const run = async (): Promise<BenchRow[]> => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-store-'));
  try {
    await using sqlite = openSqlite<OfferTables>({ path: join(folder, 'rows.sqlite'), fullSync: false });
    const store = await fill(sqlite);
    const times: number[] = [];
    let found = 0;
    for (let index = 0; index < questions; index += 1) {
      const text = Array.from({ length: 1 + (index % 3) }, word).join(' ');
      const start = process.hrtime.bigint();
      const page = await search(store.read, { text, cursor: undefined, limit: 20 });
      times.push(Number(process.hrtime.bigint() - start) / 1e6);
      found += page.entries.length;
    }
    if (found === 0) throw new Error('no question of the benchmark finds anything');
    const p95Ms = times.sort((a, b) => a - b)[Math.floor(times.length * 0.95)] ?? 0;
    return [
      {
        name: `catalogue search, ${entries.toLocaleString('en')} entries, p95`,
        value: p95Ms,
        unit: 'ms',
        limit: null,
        ratio: null,
        target: '< 50 ms at one million',
        isHit: entries < 1_000_000 ? null : p95Ms < 50,
        growth: 'logarithmic: a page walks at most 2,000 places',
      },
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
};
