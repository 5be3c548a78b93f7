import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import {
  type ParticipantTables,
  participantMigrations,
  sqlParticipantStore,
} from '../../broker/adapters/sql/participant-store.ts';
import type { Participant, ParticipantStore } from '../../broker/registry/ports.ts';
import type { Did } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { onDatabases } from '../support/databases.ts';

const broker = 'did:web:broker.example' as Did;
const participantOf = (name: string, changes: Partial<Participant> = {}): Participant => ({
  registry: broker,
  did: `did:web:${name}.example` as Did,
  name,
  roles: ['holder', 'runtime'],
  state: 'invited',
  admittedAt: 1,
  joinedAt: null,
  leftAt: null,
  version: 1,
  ...changes,
});

const adapters: Readonly<Record<string, () => Promise<ParticipantStore>>> = onDatabases(
  async (db: Kysely<ParticipantTables>) => {
    await migrate(db, 'registry', participantMigrations);
    return sqlParticipantStore(db);
  },
);

describe.each(Object.entries(adapters))('ParticipantStore on %s', (_name, create) => {
  test('gives back what was saved, to its own register only', async () => {
    const store = await create();
    const alice = participantOf('alice');
    expect(await store.save(alice, null)).toBe('saved');
    expect(await store.find(broker, alice.did)).toEqual(alice);
    expect(await store.find('did:web:other.example' as Did, alice.did)).toBeUndefined();
    expect(await store.find(broker, 'did:web:bob.example' as Did)).toBeUndefined();
  });

  test('of two that save from one version one wins, and the other changes nothing', async () => {
    const store = await create();
    const alice = participantOf('alice');
    const saved = await Promise.all([store.save(alice, null), store.save({ ...alice, name: 'other' }, null)]);
    expect(saved.toSorted()).toEqual(['conflict', 'saved']);
    const joined = { ...alice, state: 'joined' as const, joinedAt: 5, version: 2 };
    expect(await store.save(joined, 1)).toBe('saved');
    expect(await store.save({ ...alice, state: 'left', leftAt: 6, version: 2 }, 1)).toBe('conflict');
    expect(await store.save(participantOf('bob'), 1)).toBe('conflict');
    expect(await store.find(broker, alice.did)).toEqual(joined);
  });

  test('pages in order of DID, all of them or those of one state', async () => {
    const store = await create();
    for (const name of ['c', 'a', 'd', 'b'])
      await store.save(participantOf(name, { state: name === 'b' ? 'left' : 'joined' }), null);
    const names = async (page: Parameters<ParticipantStore['page']>[1]) =>
      (await store.page(broker, page)).map(({ name }) => name).join('');
    expect(await names({ after: '', limit: 3 })).toBe('abc');
    expect(await names({ after: 'did:web:c.example', limit: 3 })).toBe('d');
    expect(await names({ after: '', limit: 9, state: 'joined' })).toBe('acd');
    expect(await store.page('did:web:other.example' as Did, { after: '', limit: 9 })).toEqual([]);
  });
});
