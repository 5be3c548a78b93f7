import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import {
  createSqlAlarmStore,
  createSqlFollowedStore,
  createSqlLogPinStore,
  type FollowedTables,
  followedMigrations,
} from '../../connector/adapters/sql/followed-store.ts';
import {
  createSqlPromiseStore,
  createSqlRegistrationStore,
  type RegistrationTables,
  registrationMigrations,
} from '../../connector/adapters/sql/registration-store.ts';
import type {
  AlarmStore,
  FollowedStore,
  KeptAlarm,
  LogPinStore,
  PinnedLog,
  PromiseStore,
  Registration,
  RegistrationStore,
} from '../../connector/evidence/ports.ts';
import { utf8 } from '../../contracts/bytes.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Followed } from '../../contracts/ledger/follow.ts';
import { checkpointText, readVerifierKey, signatureLine } from '../../contracts/ledger/note.ts';
import { readPublicArtifact } from '../../contracts/ledger/public-entries.ts';
import { leafHash, rootOf } from '../../contracts/ledger/tree.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations } from '../../kernel/sql/outbox.ts';
import { onDatabases } from '../support/databases.ts';
import { leafJwk } from '../support/evidence-world.ts';
import { signEd25519 } from '../support/keys.ts';
import { consumerDid, introduce, keys, origin, providerDid } from '../support/ledger-world.ts';
import { logKeys } from '../support/log-bench.ts';

const us = 'us' as ParticipantId;
const others = 'others' as ParticipantId;
const artifact = { payload: 'e30', signatures: [{ protected: 'e30', signature: 'AA' }] };
const rowOf = (digest: string, changes: Partial<Registration> = {}): Registration => ({
  participant: us,
  digest,
  kind: 'usage-statement',
  agreementDigest: 'a1',
  subject: '1',
  artifact,
  sums: null,
  leafKey: leafJwk(5),
  createdAt: 100,
  outcome: { state: 'waiting' },
  ...changes,
});
const registered = (index: number, at = 500): Registration['outcome'] => ({
  state: 'registered',
  at,
  origin,
  index,
  promise: artifact,
  leafHash: 'h',
  artifact,
});

interface Stores {
  readonly registrations: RegistrationStore;
  readonly promises: PromiseStore;
  readonly tasks: () => Promise<readonly { readonly id: string; readonly subject: string; readonly due_at: number }[]>;
}

const adapters: Readonly<Record<string, () => Promise<Stores>>> = onDatabases(
  async (db: Kysely<RegistrationTables>) => {
    await migrate(db, 'outbox', outboxMigrations as never);
    await migrate(db, 'registration', registrationMigrations);
    return {
      registrations: createSqlRegistrationStore(db),
      promises: createSqlPromiseStore(db),
      tasks: async () =>
        db.selectFrom('outbox').select(['id', 'subject', 'due_at']).where('topic', '=', 'registrations').execute(),
    };
  },
);

describe.each(Object.entries(adapters))('RegistrationStore on %s', (_name, create) => {
  test('adds each artifact of a participant once, with its task', async () => {
    const { registrations, tasks } = await create();
    expect(await registrations.add(rowOf('d1'), 900)).toBe(true);
    expect(await registrations.add(rowOf('d1', { subject: '7' }), 100)).toBe(false);
    expect(await registrations.add(rowOf('d1', { participant: others }), 100)).toBe(true);
    expect(await registrations.find(us, 'd1')).toEqual(rowOf('d1'));
    expect(await registrations.find(us, 'd2')).toBeUndefined();
    const dues = (await tasks()).map(({ subject, due_at }) => `${subject} ${due_at}`);
    expect(dues.toSorted()).toEqual(['d1 100', 'd1 900']);
  });

  test('of many at once exactly one adds', async () => {
    const { registrations, tasks } = await create();
    const added = await Promise.all(Array.from({ length: 20 }, () => registrations.add(rowOf('d1'), 1)));
    expect([added.filter(Boolean).length, (await tasks()).length]).toEqual([1, 1]);
  });

  test('settles once; the leaf key goes with the promise, and stays with a refusal', async () => {
    const { registrations } = await create();
    await registrations.add(rowOf('d1'), 1);
    await registrations.settle({ ...rowOf('d1'), leafKey: null, outcome: registered(7) }, []);
    await registrations.settle({ ...rowOf('d1'), outcome: { state: 'refused', at: 600, reason: 'late' } }, []);
    expect(await registrations.find(us, 'd1')).toEqual({ ...rowOf('d1'), leafKey: null, outcome: registered(7) });
    await registrations.add(rowOf('d2'), 1);
    const refused = { ...rowOf('d2'), outcome: { state: 'refused', at: 600, reason: 'no' } } as const;
    await registrations.settle(refused, []);
    expect(await registrations.find(us, 'd2')).toEqual(refused);
  });

  test('finds a subject: what is registered before what waits, before what was refused', async () => {
    const { registrations } = await create();
    const subject = { kind: 'usage-statement', agreementDigest: 'a1', subject: '1' } as const;
    const digestOf = async () => (await registrations.bySubject(us, subject))?.digest;
    expect(await digestOf()).toBeUndefined();
    await registrations.add(rowOf('d1', { createdAt: 1 }), 1);
    await registrations.settle({ ...rowOf('d1'), outcome: { state: 'refused', at: 2, reason: 'no' } }, []);
    expect(await digestOf()).toBe('d1');
    await registrations.add(rowOf('d2', { createdAt: 2 }), 1);
    expect(await digestOf()).toBe('d2');
    await registrations.add(rowOf('d3', { createdAt: 3 }), 1);
    await registrations.settle({ ...rowOf('d2'), leafKey: null, outcome: registered(4) }, []);
    expect(await digestOf()).toBe('d2');
    expect(await registrations.bySubject(others, subject)).toBeUndefined();
    expect(await registrations.bySubject(us, { ...subject, subject: '2' })).toBeUndefined();
    expect(await registrations.bySubject(us, { ...subject, kind: 'agreement' })).toBeUndefined();
  });

  test('wakes what waited, only in the transaction that settles', async () => {
    const { registrations, tasks } = await create();
    await registrations.add(rowOf('d1'), 1);
    await registrations.add(rowOf('d2', { subject: '2' }), 9_000);
    const settled = { ...rowOf('d1'), leafKey: null, outcome: registered(4) };
    await registrations.settle(settled, [{ digest: 'd2', dueAt: 50 }]);
    await registrations.settle(settled, [{ digest: 'd2', dueAt: 10 }]); // settled already
    const due = (await tasks()).filter(({ subject }) => subject === 'd2').map(({ due_at }) => due_at);
    expect(due).toEqual([50]);
  });

  test('tries again: a waiting one earlier, never later; a refused one anew; a registered one not', async () => {
    const { registrations, tasks } = await create();
    const dueOf = async (digest: string) =>
      (await tasks()).filter(({ subject }) => subject === digest).map(({ due_at }) => due_at);
    await registrations.add(rowOf('d1'), 9_000);
    await registrations.again(us, 'd1', 40);
    await registrations.again(us, 'd1', 80);
    expect(await dueOf('d1')).toEqual([40]);
    await registrations.settle({ ...rowOf('d1'), outcome: { state: 'refused', at: 60, reason: 'no' } }, []);
    await registrations.again(us, 'd1', 90);
    expect((await registrations.find(us, 'd1'))?.outcome).toEqual({ state: 'waiting' });
    expect(await dueOf('d1')).toEqual([40, 90]);
    await registrations.settle({ ...rowOf('d1'), leafKey: null, outcome: registered(4) }, []);
    await registrations.again(us, 'd1', 95);
    expect((await registrations.find(us, 'd1'))?.outcome.state).toBe('registered');
  });
});

describe.each(Object.entries(adapters))('PromiseStore on %s', (_name, create) => {
  test('gives open promises by index until they are marked, and those that nothing covers', async () => {
    const { registrations, promises } = await create();
    for (const [digest, index, at] of [
      ['d1', 9, 100],
      ['d2', 4, 200],
      ['d3', 700, 300],
    ] as const) {
      await registrations.add(rowOf(digest, { subject: digest }), 1);
      const outcome = registered(index, at);
      await registrations.settle({ ...rowOf(digest, { subject: digest }), leafKey: null, outcome }, []);
    }
    await registrations.add(rowOf('d4', { subject: 'd4' }), 1);
    const open = async (below: number, limit = 10) =>
      (await promises.open(origin, { below, limit })).map(({ digest }) => digest);
    expect(await open(10)).toEqual(['d2', 'd1']);
    expect(await open(9)).toEqual(['d2']);
    expect(await open(1_000, 1)).toEqual(['d2']);
    expect(await promises.open('other/log', { below: 1_000, limit: 10 })).toEqual([]);
    await promises.mark(us, 'd2', 'proven');
    await promises.mark(us, 'd2', 'broken'); // it was proven
    await promises.mark(us, 'd1', 'broken');
    expect(await open(1_000)).toEqual(['d3']);
    const uncovered = async (from: number, before: number) =>
      (await promises.uncovered(origin, { from, before, limit: 10 })).map(({ digest }) => digest);
    expect(await uncovered(10, 400)).toEqual(['d3']);
    expect(await uncovered(10, 300)).toEqual([]);
    expect(await uncovered(701, 400)).toEqual([]);
  });
});

const openFollowed = async (db: Kysely<FollowedTables>) => {
  await migrate(db, 'followed', followedMigrations);
  return db;
};
const opened = onDatabases(openFollowed);

const followedAdapters: Readonly<Record<string, () => Promise<FollowedStore>>> = onDatabases(
  async (db: Kysely<FollowedTables>) => createSqlFollowedStore(await openFollowed(db)),
);

const keyLeaves = [introduce(providerDid, keys.provider), introduce(consumerDid, keys.consumer)];

/** A tree of so many entries, whose first two are key events. */
const followedTo = (size: number): Followed => {
  const root = rootOf(
    nodeCrypto,
    Array.from({ length: size }, (_, n) => leafHash(nodeCrypto, utf8(`entry ${n}`))),
  );
  const key = readVerifierKey(nodeCrypto, logKeys.vkey);
  if (!key.ok) throw new Error(key.reason);
  const checkpoint = { origin, size, root: Uint8Array.from(root) };
  const text = checkpointText(checkpoint);
  const publics = keyLeaves.slice(0, size).map((leaf, index) => {
    const artifact_ = readPublicArtifact(leaf.artifact);
    if (!artifact_.ok) throw new Error(artifact_.reason);
    return { index, entry: leaf.entry, value: { ...leaf.artifact }, artifact: artifact_.value };
  });
  return {
    checkpoint,
    note: `${text}\n${signatureLine(origin, key.value.keyId, signEd25519(keys.log, utf8(text)))}`,
    stack: [{ level: 3, hash: new Uint8Array(32).fill(size) }],
    publics: publics as Followed['publics'],
  };
};

describe.each(Object.entries(followedAdapters))('FollowedStore on %s', (_name, create) => {
  test('gives back what was saved, and goes on from it', async () => {
    const store = await create();
    expect(await store.load(origin)).toBeUndefined();
    expect(await store.save(origin, 0, followedTo(1))).toBe(true);
    expect(await store.load(origin)).toEqual(followedTo(1));
    expect(await store.save(origin, 1, followedTo(5))).toBe(true);
    expect(await store.load(origin)).toEqual(followedTo(5));
    expect(await store.load('other/log')).toBeUndefined();
  });

  test('of two that go on from one size, one is refused and changes nothing', async () => {
    const store = await create();
    expect(await store.save(origin, 0, followedTo(1))).toBe(true);
    expect(await store.save(origin, 0, followedTo(2))).toBe(false);
    const both = await Promise.all([store.save(origin, 1, followedTo(5)), store.save(origin, 1, followedTo(6))]);
    expect(both.filter(Boolean)).toHaveLength(1);
    expect(await store.save(origin, 1, followedTo(7))).toBe(false);
    expect([5, 6]).toContain((await store.load(origin))?.checkpoint.size);
  });
});

describe.each(Object.entries(opened))('FollowedStore on a damaged database, %s', (_name, open) => {
  test.each([
    ['a checkpoint that is none', (db: Kysely<FollowedTables>) => db.updateTable('followed_log').set({ note: 'x' })],
    ['an entry that is none', (db: Kysely<FollowedTables>) => db.updateTable('followed_entry').set({ entry: '{}' })],
    [
      'an artifact that is none',
      (db: Kysely<FollowedTables>) => db.updateTable('followed_entry').set({ artifact: '{}' }),
    ],
  ])('refuses %s', async (_what, damage) => {
    const db = await open();
    const store = createSqlFollowedStore(db);
    await store.save(origin, 0, followedTo(2));
    await damage(db).execute();
    await expect(store.load(origin)).rejects.toMatchObject({ code: 'data-damaged' });
  });
});

const pinAdapters: Readonly<Record<string, () => Promise<LogPinStore>>> = onDatabases(
  async (db: Kysely<FollowedTables>) => createSqlLogPinStore(await openFollowed(db)),
);

describe.each(Object.entries(pinAdapters))('LogPinStore on %s', (_name, create) => {
  test('keeps the first, for each broker', async () => {
    const store = await create();
    const log = (vkey: string): PinnedLog => ({
      broker: 'did:web:broker.example' as Did,
      origin,
      url: 'https://broker.example/log/2026',
      vkey,
      registryKey: 'r',
      policy: 'p',
    });
    expect(await store.pinned('https://a.example')).toBeUndefined();
    const both = await Promise.all(['k1', 'k2'].map((vkey) => store.pin('https://a.example', log(vkey))));
    expect(both[0]).toEqual(both[1]);
    expect(await store.pinned('https://a.example')).toEqual(both[0]);
    expect(await store.pin('https://b.example', log('k3'))).toEqual(log('k3'));
  });
});

const alarmAdapters: Readonly<Record<string, () => Promise<AlarmStore>>> = onDatabases(
  async (db: Kysely<FollowedTables>) => createSqlAlarmStore(await openFollowed(db)),
);

describe.each(Object.entries(alarmAdapters))('AlarmStore on %s', (_name, create) => {
  test('keeps each once, and lists the newest first', async () => {
    const store = await create();
    const alarm = (id: string, at: number): KeptAlarm => ({
      id,
      at,
      code: 'log-not-believed',
      participant: id === 'a' ? us : null,
      detail: 'x',
      evidence: { seen: null, shown: [1, 'two'] },
    });
    expect(await store.keep(alarm('a', 1))).toBe(true);
    expect(await store.keep(alarm('a', 2))).toBe(false);
    expect(await store.keep(alarm('b', 3))).toBe(true);
    expect(await store.list(10)).toEqual([alarm('b', 3), alarm('a', 1)]);
    expect(await store.list(1)).toEqual([alarm('b', 3)]);
  });
});
