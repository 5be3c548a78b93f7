import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import { createSqlEventStore, type EventTables, eventMigrations } from '../../broker/adapters/sql/event-store.ts';
import type { EventStore, NewEvent } from '../../broker/events/ports.ts';
import type { Did } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { onDatabases } from '../support/databases.ts';

const anna = 'did:web:anna.example' as Did;
const bert = 'did:web:bert.example' as Did;
const issuer = 'did:web:issuer.example' as Did;
const evidence = { payload: 'e30', signatures: [{ protected: 'e30', signature: 'AAAA' }] };

const revocation = (subject: string, at = 1, changes: Partial<NewEvent> = {}): NewEvent => ({
  key: `revoked ${subject} ${at}`,
  type: 'revoked',
  subject,
  at,
  effectiveAt: at,
  evidence,
  audience: null,
  notice: { issuer, at },
  source: null,
  ...changes,
});
const ending = (subject: string, audience: readonly Did[], at = 1, changes: Partial<NewEvent> = {}): NewEvent => ({
  ...revocation(subject, at),
  key: `ended ${subject}`,
  type: 'agreement-ended',
  evidence: null,
  audience,
  ...changes,
});
const keysOf = (subject: string, at = 1, changes: Partial<NewEvent> = {}): NewEvent => ({
  ...revocation(subject, at),
  key: `keys ${subject} ${at}`,
  type: 'keys',
  evidence: null,
  notice: null,
  ...changes,
});

const adapters: Readonly<Record<string, () => Promise<EventStore>>> = onDatabases(async (db: Kysely<EventTables>) => {
  await migrate(db, 'events', eventMigrations);
  return createSqlEventStore(db);
});

describe.each(Object.entries(adapters))('EventStore on %s', (_name, create) => {
  test('gives back events in order, with evidence and audience', async () => {
    const store = await create();
    expect(await store.read.head()).toBe(0);
    await store.append(revocation('a'), null);
    await store.append(ending('b', [anna, bert, anna]), null);
    const events = await store.read.since(0, 10);
    expect(events.map(({ seq, type, subject }) => [seq, type, subject])).toEqual([
      [1, 'revoked', 'a'],
      [2, 'agreement-ended', 'b'],
    ]);
    expect(events[0]).toMatchObject({ evidence, audience: null });
    expect([...(events[1]?.audience ?? [])].sort()).toEqual([anna, bert]);
    expect(await store.read.since(1, 10)).toHaveLength(1);
    expect(await store.read.since(0, 1)).toHaveLength(1);
    expect(await store.read.head()).toBe(2);
  });

  test('the same key is one event, also when it is handed in at once', async () => {
    const store = await create();
    const results = await Promise.all([store.append(keysOf('a'), null), store.append(keysOf('a'), null)]);
    expect([...results].sort()).toEqual(['appended', 'known']);
    expect(await store.read.head()).toBe(1);
  });

  test('refuses an event made on another last word', async () => {
    const store = await create();
    expect(await store.append(revocation('a', 5), 4)).toBe('conflict');
    expect(await store.append(revocation('a', 5, { type: 'suspended' }), null)).toBe('appended');
    expect(await store.append(revocation('a', 6), null)).toBe('conflict');
    expect(await store.append(revocation('a', 6), 5)).toBe('appended');
    expect(await store.notices('a')).toEqual([{ issuer, type: 'revoked', at: 6 }]);
    expect(await store.notices('b')).toEqual([]);
    expect(await store.read.head()).toBe(2);
  });

  test('counts for each recipient without gaps: what is for all, and what is for it alone', async () => {
    const store = await create();
    await store.append(revocation('a'), null);
    await store.append(ending('b', [anna]), null);
    await store.append(revocation('c'), null);
    await store.append(ending('d', [bert]), null);
    await store.append(ending('e', [anna]), null);
    const missed = async (did: Did, n: number) => {
      const told = await store.read.missed(did, n, 10);
      return told && { position: told.position, subjects: told.events.map(({ subject }) => subject) };
    };
    expect(await missed(anna, 0)).toEqual({ position: { seq: 5, n: 4 }, subjects: ['a', 'b', 'c', 'e'] });
    expect(await missed(anna, 2)).toEqual({ position: { seq: 5, n: 4 }, subjects: ['c', 'e'] });
    expect(await missed(bert, 1)).toEqual({ position: { seq: 5, n: 3 }, subjects: ['c', 'd'] });
    expect(await missed(issuer, 2)).toEqual({ position: { seq: 5, n: 2 }, subjects: [] });
    expect(await missed(issuer, 3)).toBeUndefined();
    expect(await store.read.missed(anna, 0, 3)).toBeUndefined();
  });

  test('what was pruned cannot be told any more, and the count goes on', async () => {
    const store = await create();
    await store.append(revocation('a', 1), null);
    await store.append(ending('b', [anna], 2), null);
    await store.append(revocation('c', 10), null);
    await store.prune(10);
    expect(await store.read.missed(anna, 1, 10)).toBeUndefined();
    expect((await store.read.missed(anna, 2, 10))?.events.map(({ subject }) => subject)).toEqual(['c']);
    await store.append(ending('d', [anna], 11), null);
    expect((await store.read.missed(anna, 2, 10))?.position).toEqual({ seq: 4, n: 4 });
    await store.prune(100);
    expect((await store.read.missed(anna, 4, 10))?.position).toEqual({ seq: 4, n: 4 });
    expect(await store.read.head()).toBe(4);
  });

  test('a snapshot holds the last word about each subject, and what concerns the recipient alone', async () => {
    const store = await create();
    await store.append(revocation('a', 1, { type: 'suspended' }), null);
    await store.append(revocation('a', 2, { type: 'reinstated' }), 1);
    await store.append(revocation('c', 3), null);
    await store.append(ending('b', [anna], 4), null);
    await store.append(keysOf('k', 5), null);
    await store.prune(100);
    const told = await store.read.inForce(anna, 0);
    expect(told.position).toEqual({ seq: 5, n: 5 });
    expect(told.events.map(({ type, subject }) => [type, subject])).toEqual([
      ['reinstated', 'a'],
      ['revoked', 'c'],
      ['agreement-ended', 'b'],
    ]);
    expect((await store.read.inForce(bert, 0)).events.map(({ subject }) => subject)).toEqual(['a', 'c']);
    expect((await store.read.inForce(bert, 3)).events.map(({ subject }) => subject)).toEqual(['c']);
  });

  test('an entry of a log is heard once, also when its event was pruned', async () => {
    const store = await create();
    const at = (index: number, log = 'log/1') => ({ log, index });
    expect(await store.read.heardOf('log/1')).toBe(0);
    expect(await store.append(keysOf('a', 1, { source: at(3) }), null)).toBe('appended');
    expect(await store.read.heardOf('log/1')).toBe(4);
    await store.prune(100);
    expect(await store.append(keysOf('a', 1, { source: at(3) }), null)).toBe('known');
    expect(await store.append(keysOf('b', 1, { source: at(2) }), null)).toBe('known');
    expect(await store.append(keysOf('c', 1, { source: at(0, 'log/2') }), null)).toBe('appended');
    expect(await store.append(ending('d', [anna], 1, { source: at(4) }), null)).toBe('appended');
    expect(await store.append(ending('d', [anna], 1, { source: at(9), key: 'other' }), null)).toBe('conflict');
    expect([await store.read.heardOf('log/1'), await store.read.heardOf('log/2')]).toEqual([5, 1]);
    expect(await store.read.head()).toBe(3);
  });

  test('entries without news are heard too, and nothing is taken back', async () => {
    const store = await create();
    await store.heard('log/1', 7);
    await store.heard('log/1', 5);
    expect(await store.read.heardOf('log/1')).toBe(7);
    expect(await store.append(keysOf('a', 1, { source: { log: 'log/1', index: 6 } }), null)).toBe('known');
    expect(await store.append(keysOf('b', 1, { source: { log: 'log/1', index: 7 } }), null)).toBe('appended');
    expect(await store.read.heardOf('log/1')).toBe(8);
  });

  test('an event for all is one row, whatever the number of members', async () => {
    await using sqlite = openSqlite<EventTables>({ path: ':memory:' });
    const { db } = sqlite;
    await migrate(db, 'events', eventMigrations);
    const store = createSqlEventStore(db);
    for (let index = 0; index < 5; index += 1) await store.append(revocation(`a-${index}`), null);
    for (let member = 0; member < 375; member += 1)
      expect((await store.read.missed(`did:web:m${member}.example` as Did, 0, 10))?.position.n).toBe(5);
    const rows = await db.selectFrom('event_recipient').selectAll().execute();
    expect(rows).toEqual([]);
    expect(await db.selectFrom('event').selectAll().execute()).toHaveLength(5);
  });
});
