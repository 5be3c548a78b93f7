import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { memoryLogStore } from '../../broker/adapters/memory/log-store.ts';
import { sqlArtifactStore, sqlJoinCodeStore, sqlLogStore } from '../../broker/adapters/sql/log-store.ts';
import { type LogTables, logMigrations } from '../../broker/adapters/sql/log-tables.ts';
import type {
  ArtifactStore,
  Batch,
  JoinCodeStore,
  LogStore,
  NewEntry,
  StatementRow,
  SubjectRow,
  Wanted,
} from '../../broker/ledger/ports.ts';
import { leaseMigrations } from '../../kernel/sql/leases.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { onDatabases } from '../support/databases.ts';

type Stores = LogStore & ArtifactStore & JoinCodeStore;

const adapters: Readonly<Record<string, () => Promise<Stores>>> = {
  memory: async () => memoryLogStore(),
  ...onDatabases(async (db: Kysely<LogTables>) => {
    await migrate(db, 'leases', leaseMigrations);
    await migrate(db, 'ledger', logMigrations);
    return { ...sqlLogStore(db), ...sqlArtifactStore(db), ...sqlJoinCodeStore(db) };
  }),
};

const origin = 'broker.example/log/2026';
const hash = (name: string) => name.padEnd(42, 'x').slice(0, 42).concat('A');

const statement = (agreement: string, seq: string, index: number): StatementRow => ({
  agreementDigest: hash(agreement),
  index,
  seq,
  digest: hash(`P${agreement}${seq}`),
  last: '7',
  to: '2026-11-23T11:05:00.000Z',
  final: seq === '12',
  sums: {
    amount: { currency: 'EUR', scale: '4', value: '75' },
    salt: hash('salt'),
    totals: { requests: '3' },
  },
});

const agreementRow = (name: string, index: number, providerPid = `urn:uuid:${name}`): SubjectRow => ({
  kind: 'agreement',
  row: {
    agreementDigest: hash(name),
    index,
    agreement: `urn:agreement:${name}`,
    provider: 'did:web:provider.example',
    providerPid,
    consumer: 'did:web:consumer.example',
    assurance: 'plain-dsp',
    price: '',
    timestamp: 1_795_431_600_000,
  },
});

const entryAt = (index: number, subject: SubjectRow, leaf = hash(`leaf${index}`)): NewEntry => ({
  entry: { index, leaf, entry: `{"entry":${index}}`, at: 1_000 + index },
  subject,
  artifact: {
    index,
    digest: `digest${index}`,
    text: `artifact ${index}`,
    agreementDigest: subject.kind === 'public' ? null : subject.row.agreementDigest,
  },
});

const batchOf = (from: number, ...subjects: SubjectRow[]): Batch => ({
  from,
  fence: null,
  head: { size: from + subjects.length, root: hash(`root${from}`), stack: [{ level: from, hash: hash('peak') }] },
  entries: subjects.map((subject, place) => entryAt(from + place, subject)),
});

const nothing: Wanted = { leaves: [], agreements: [], pids: [], statements: [], joinCodes: [] };
const isPublic = (index: number, joinCode: string | null = null): SubjectRow => ({
  kind: 'public',
  row: { index, kind: 'key-event', text: `artifact ${index}`, at: 1_000 + index },
  joinCode,
});

describe.each(Object.entries(adapters))('LogStore, ArtifactStore, JoinCodeStore on %s', (_name, make) => {
  test('commits behind exactly the head it was made for, of each log apart', async () => {
    const store = await make();
    expect(await store.head(origin)).toBeUndefined();
    const first = batchOf(0, isPublic(0), agreementRow('a', 1));
    expect(await store.commit(origin, first)).toBe('committed');
    expect(await store.commit(origin, batchOf(0, isPublic(0)))).toBe('conflict');
    expect(await store.commit(origin, batchOf(1, isPublic(1)))).toBe('conflict');
    expect(await store.head(origin)).toEqual(first.head);
    expect(await store.commit('broker.example/log/2027', batchOf(0, isPublic(0)))).toBe('committed');
    expect(await store.commit(origin, batchOf(2, isPublic(2)))).toBe('committed');
    expect((await store.entries(origin, 1, 9)).map(({ index, entry }) => [index, entry])).toEqual([
      [1, '{"entry":1}'],
      [2, '{"entry":2}'],
    ]);
    expect((await store.publicRows(origin, 0)).map(({ index, kind, at }) => [index, kind, at])).toEqual([
      [0, 'key-event', 1_000],
      [2, 'key-event', 1_002],
    ]);
  });

  test('two commits at once: one wins', async () => {
    const store = await make();
    const both = await Promise.all([
      store.commit(origin, batchOf(0, isPublic(0))),
      store.commit(origin, batchOf(0, isPublic(0))),
    ]);
    expect(both.toSorted()).toEqual(['committed', 'conflict']);
    expect(await store.entries(origin, 0, 9)).toHaveLength(1);
  });

  test('a batch that breaks uniqueness leaves nothing of itself', async () => {
    const store = await make();
    await store.commit(origin, batchOf(0, agreementRow('a', 0), { kind: 'statement', row: statement('a', '1', 1) }));
    const before = await store.head(origin);
    const broken: SubjectRow[] = [
      agreementRow('a', 2),
      agreementRow('b', 2, 'urn:uuid:a'),
      { kind: 'statement', row: statement('a', '1', 2) },
    ];
    for (const subject of broken) await expect(store.commit(origin, batchOf(2, subject))).rejects.toThrow();
    const sameLeaf = { ...batchOf(2), entries: [entryAt(2, isPublic(2), hash('leaf0'))] };
    await expect(store.commit(origin, sameLeaf)).rejects.toThrow();
    expect(await store.head(origin)).toEqual(before);
    expect(await store.entries(origin, 0, 9)).toHaveLength(2);
    expect(await store.commit(origin, batchOf(2, agreementRow('b', 2)))).toBe('committed');
  });

  test('loads what was wanted, and nothing else', async () => {
    const store = await make();
    const seqs = ['1', '2', '9', '10', '11', '12'];
    const rows = seqs.map((seq, place): SubjectRow => ({ kind: 'statement', row: statement('a', seq, place + 2) }));
    const event: SubjectRow = {
      kind: 'agreement-event',
      row: { agreementDigest: hash('a'), index: 8, event: 'end', signers: ['did:web:x.example', 'did:web:y.example'] },
    };
    await store.commit(origin, batchOf(0, agreementRow('a', 0), agreementRow('b', 1), ...rows, event));
    const known = await store.load(origin, {
      leaves: [hash('leaf3'), hash('leaf99')],
      agreements: [hash('a'), hash('none')],
      pids: [{ provider: 'did:web:provider.example', providerPid: 'urn:uuid:b' }],
      statements: [
        { agreementDigest: hash('a'), seq: '9' },
        { agreementDigest: hash('a'), seq: '13' },
        { agreementDigest: hash('none'), seq: '1' },
      ],
      joinCodes: [],
    });
    expect(known.leaves).toEqual([{ leaf: hash('leaf3'), index: 3 }]);
    expect(known.agreements.map((row) => row.agreementDigest).toSorted()).toEqual([hash('a'), hash('b')]);
    expect(known.agreements.find((row) => row.agreementDigest === hash('a'))).toEqual(
      agreementRow('a', 0).kind === 'agreement' ? agreementRow('a', 0).row : undefined,
    );
    expect(known.statements.map((row) => row.seq).toSorted()).toEqual(['12', '9']);
    expect(known.statements.find((row) => row.seq === '12')).toEqual(statement('a', '12', 7));
    expect(known.events).toEqual([event.row]);
    expect(await store.load(origin, nothing)).toEqual({
      leaves: [],
      agreements: [],
      events: [],
      statements: [],
      joinCodes: [],
    });
  });

  test('a join code is used up by the commit that it came with', async () => {
    const store = await make();
    await store.add(origin, 'code', 5_000);
    const wanted = { ...nothing, joinCodes: ['code', 'other'] };
    expect((await store.load(origin, wanted)).joinCodes.map((code) => ({ ...code }))).toEqual([
      { hash: 'code', expires: 5_000 },
    ]);
    await store.commit(origin, batchOf(0, isPublic(0, 'code')));
    expect((await store.load(origin, wanted)).joinCodes).toEqual([]);
  });

  test('artifacts are found, public ones by digest, and erased by agreement', async () => {
    const store = await make();
    await store.commit(
      origin,
      batchOf(0, isPublic(0), agreementRow('a', 1), { kind: 'statement', row: statement('a', '1', 2) }),
    );
    expect(await store.byIndex(origin, 1)).toEqual({
      index: 1,
      digest: 'digest1',
      agreementDigest: hash('a'),
      text: 'artifact 1',
    });
    expect(await store.publicText(origin, 'digest0')).toBe('artifact 0');
    expect(await store.publicText(origin, 'digest1')).toBeUndefined();
    expect(await store.erase(origin, hash('a'))).toBe(2);
    expect(await store.erase(origin, hash('a'))).toBe(0);
    expect(await store.byIndex(origin, 1)).toBeUndefined();
    expect(await store.byIndex(origin, 0)).toBeDefined();
    expect(await store.entries(origin, 0, 9)).toHaveLength(3);
  });

  test('keeps one proof of double signing for each number and party', async () => {
    const store = await make();
    const jws = { payload: 'e30', signatures: [{ protected: 'e30', signature: 'AA' }] };
    const row = {
      agreementDigest: hash('a'),
      seq: '3',
      against: 'did:web:provider.example',
      proof: { type: 'equivocation-proof' as const, a: jws, b: jws },
    };
    await store.keepEquivocation(origin, row);
    await store.keepEquivocation(origin, { ...row, proof: { ...row.proof, a: { ...jws, payload: 'other' } } });
    await store.keepEquivocation(origin, { ...row, against: 'did:web:consumer.example' });
    const kept = await store.equivocations(origin, hash('a'));
    expect(kept.map(({ against }) => against).toSorted()).toEqual([
      'did:web:consumer.example',
      'did:web:provider.example',
    ]);
    expect(kept.find(({ against }) => against === row.against)).toEqual(row);
    expect(await store.equivocations(origin, hash('b'))).toEqual([]);
  });

  test('a batch of thousands', async () => {
    const store = await make();
    const subjects = Array.from(
      { length: 2_500 },
      (_, index): SubjectRow => ({
        kind: 'statement',
        row: statement(`s${index}`, '1', index),
      }),
    );
    expect(await store.commit(origin, batchOf(0, ...subjects))).toBe('committed');
    const known = await store.load(origin, {
      ...nothing,
      leaves: subjects.map((_, index) => hash(`leaf${index}`)),
      agreements: subjects.map((_, index) => hash(`s${index}`)),
    });
    expect([known.leaves.length, known.statements.length]).toEqual([2_500, 2_500]);
  });
});
