import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { createMemoryProcessStore } from '../../connector/adapters/memory/process-store.ts';
import { createProcessCache } from '../../connector/adapters/sql/process-cache.ts';
import {
  createSqlProcessStore,
  type ProcessTables,
  processMigrations,
} from '../../connector/adapters/sql/process-store.ts';
import type { ProcessRow, ProcessStore } from '../../connector/exchange/ports.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { systemClock } from '../../kernel/clock.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations } from '../../kernel/sql/outbox.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { databases, onDatabases } from '../support/databases.ts';

type Row = ProcessRow<'REQUESTED' | 'DONE', 'go', { readonly note: string }>;
type Store = ProcessStore<'REQUESTED' | 'DONE', 'go', { readonly note: string }>;

const us = 'us' as ParticipantId;
const peer = 'did:web:peer.example' as Did;
const rowOf = (pid: string, changes: Partial<Row> = {}): Row => ({
  participant: us,
  pid,
  peer,
  peerPid: null,
  peerBase: 'https://peer.example/dsp',
  process: { role: 'provider', state: 'REQUESTED', pending: null },
  outgoing: null,
  settledPeer: '',
  trace: '',
  data: { note: 'a' },
  createdAt: 1,
  updatedAt: 2,
  version: 1,
  ...changes,
});
const received = (id: string) => ({ peer, id, bodyHash: 'h', status: 200, answer: null, newest: 'n' });

const adapters: Readonly<Record<string, () => Promise<Store>>> = {
  memory: async () => createMemoryProcessStore('things'),
  'sqlite, remembered': async () => {
    const { db } = openSqlite<ProcessTables>({ path: ':memory:' });
    await migrate(db, 'outbox', outboxMigrations as never);
    await migrate(db, 'process', processMigrations);
    return createSqlProcessStore(db, 'things', { cache: createProcessCache(systemClock) });
  },
  ...onDatabases(async (db: Kysely<ProcessTables>) => {
    await migrate(db, 'outbox', outboxMigrations as never);
    await migrate(db, 'process', processMigrations);
    return createSqlProcessStore(db, 'things');
  }),
};

describe.each(Object.entries(adapters))('ProcessStore on %s', (_name, create) => {
  test('gives back what was saved', async () => {
    const store = await create();
    const row = rowOf('p1', {
      process: { role: 'consumer', state: 'REQUESTED', pending: { kind: 'go', leadsTo: 'DONE', message: 'm1' } },
      outgoing: { path: '/x', body: { '@id': 'm1' } },
      peerPid: 'q1',
      trace: '4bf92f3577b34da6a3ce929d0e0e4736',
    });
    expect(await store.save({ row, send: true, work: false })).toBe('saved');
    expect(await store.find(us, 'p1')).toEqual(row);
    expect(await store.find('other' as ParticipantId, 'p1')).toBeUndefined();
  });

  test('a change with an old version is a conflict and changes nothing', async () => {
    const store = await create();
    await store.save({ row: rowOf('p1'), send: false, work: false });
    expect(await store.save({ row: rowOf('p1', { version: 2, data: { note: 'b' } }), send: false, work: false })).toBe(
      'saved',
    );
    for (const version of [1, 2, 4]) {
      const change = {
        row: rowOf('p1', { version, data: { note: 'c' } }),
        names: { x: `y${version}` },
        received: received(`r${version}`),
        send: true,
        work: true,
      };
      expect(await store.save(change), `version ${version}`).toBe('conflict');
    }
    expect((await store.find(us, 'p1'))?.data.note).toBe('b');
    expect(await store.findByName(us, 'x', 'y2')).toBeUndefined();
    expect(await store.findReceived(us, peer, 'r2')).toBeUndefined();
  });

  test('a name is unique, and finds its process', async () => {
    const store = await create();
    await store.save({ row: rowOf('p1'), names: { agreement: 'a1' }, send: false, work: false });
    expect((await store.findByName(us, 'agreement', 'a1'))?.pid).toBe('p1');
    expect(await store.save({ row: rowOf('p2'), names: { agreement: 'a1' }, send: false, work: false })).toBe(
      'name-taken',
    );
    expect(await store.find(us, 'p2')).toBeUndefined();
    expect(
      await store.save({ row: rowOf('p1', { version: 2 }), names: { agreement: 'a1' }, send: false, work: false }),
    ).toBe('saved');
  });

  test('an accepted message is remembered once', async () => {
    const store = await create();
    await store.save({ row: rowOf('p1'), received: received('m1'), send: false, work: false });
    expect(await store.findReceived(us, peer, 'm1')).toEqual(received('m1'));
    expect(await store.findReceived(us, 'did:web:other.example' as Did, 'm1')).toBeUndefined();
    expect(
      await store.save({ row: rowOf('p1', { version: 2 }), received: received('m1'), send: false, work: false }),
    ).toBe('conflict');
  });

  test('a token counts once, whatever else the change does', async () => {
    const store = await create();
    const token = { issuer: peer, jti: 'j1', expiresAt: 99 };
    expect(await store.save({ row: rowOf('p1'), token, send: false, work: false })).toBe('saved');
    expect(await store.save({ row: rowOf('p2'), token, send: false, work: false })).toBe('token-used');
    expect(await store.find(us, 'p2')).toBeUndefined();
  });

  test('of many at once exactly one wins', async () => {
    const store = await create();
    await store.save({ row: rowOf('p1'), send: false, work: false });
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        store.save({ row: rowOf('p1', { version: 2, data: { note: String(index) } }), send: false, work: false }),
      ),
    );
    expect(results.filter((result) => result === 'saved')).toHaveLength(1);
    expect(results.filter((result) => result === 'conflict')).toHaveLength(19);
  });

  test('finds the processes of a group, and none of another participant or change that failed', async () => {
    const store = await create();
    const group = { name: 'agreement', value: 'a1' };
    for (const pid of ['c', 'a', 'b'])
      await store.save({ row: rowOf(pid), groups: { agreement: pid === 'b' ? 'a2' : 'a1' }, send: false, work: false });
    await store.save({ row: rowOf('b'), groups: { agreement: 'a1' }, send: false, work: false });
    const pids = async (page: { after?: string; limit: number }, of = us) =>
      (await store.listGroup(of, group, page)).map((row) => row.pid);
    expect(await pids({ limit: 10 })).toEqual(['a', 'c']);
    expect(await pids({ limit: 1 })).toEqual(['a']);
    expect(await pids({ after: 'a', limit: 10 })).toEqual(['c']);
    expect(await pids({ limit: 10 }, 'other' as ParticipantId)).toEqual([]);
  });

  test('lists in order, page by page', async () => {
    const store = await create();
    for (const pid of ['c', 'a', 'b']) await store.save({ row: rowOf(pid), send: false, work: false });
    expect((await store.list(us, { limit: 2 })).map((row) => row.pid)).toEqual(['a', 'b']);
    expect((await store.list(us, { after: 'b', limit: 2 })).map((row) => row.pid)).toEqual(['c']);
  });
});

describe.each(Object.entries(databases))('tasks of a process on %s', (_name, empty) => {
  test('are saved with the change, each at its own time, and stay as they are', async () => {
    const { db } = await empty<ProcessTables>();
    await migrate(db, 'outbox', outboxMigrations as never);
    await migrate(db, 'process', processMigrations);
    const store: Store = createSqlProcessStore(db, 'things');
    const tasks = (dueAt: number) => [{ topic: 'things-later', id: 't1', dueAt }];
    await store.save({ row: rowOf('p1'), tasks: tasks(900), send: false, work: false });
    await store.save({ row: rowOf('p1', { version: 2 }), tasks: tasks(5), send: false, work: false });
    await store.save({ row: rowOf('p2', { version: 2 }), tasks: tasks(5), send: false, work: false }); // a conflict
    const rows = await db.selectFrom('outbox').select(['topic', 'id', 'subject', 'due_at']).execute();
    expect(rows).toEqual([{ topic: 'things-later', id: 't1', subject: 'p1', due_at: 900 }]);
  });
});
