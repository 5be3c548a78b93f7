import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import {
  createSqlStatusStore,
  type StatusTables,
  statusMigrations,
} from '../../connector/adapters/sql/status-store.ts';
import type { Notice, StatusStore } from '../../connector/status/ports.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { onDatabases } from '../support/databases.ts';

const name = { participant: 'us' as ParticipantId, broker: 'did:web:broker.example' as Did };
const followed = { n: 3, wordAt: 10, heardAt: 11 };
const notice = (subject: string, changes: Partial<Notice> = {}): Notice => ({
  issuer: 'did:web:issuer.example' as Did,
  subject,
  type: 'revoked',
  at: 1,
  effectiveAt: 2,
  evidence: { payload: 'e30', signatures: [{ protected: 'e30', signature: 'AAAA' }] },
  isHeld: false,
  ...changes,
});

const adapters: Readonly<Record<string, () => Promise<StatusStore>>> = onDatabases(async (db: Kysely<StatusTables>) => {
  await migrate(db, 'status', statusMigrations);
  return createSqlStatusStore(db);
});

describe.each(Object.entries(adapters))('StatusStore on %s', (_name, create) => {
  test('gives back what was saved, to its participant and for its broker only', async () => {
    const store = await create();
    expect(await store.load(name)).toBeUndefined();
    await store.save(name, { followed, put: [notice('a'), notice('b', { evidence: null })], remove: [] });
    expect(await store.load(name)).toEqual({ followed, notices: [notice('a'), notice('b', { evidence: null })] });
    expect(await store.load({ ...name, participant: 'other' as ParticipantId })).toBeUndefined();
    expect(await store.load({ ...name, broker: 'did:web:other.example' as Did })).toBeUndefined();
  });

  test('a later word takes the place of the one before, a held one stands beside it', async () => {
    const store = await create();
    await store.save(name, { followed, put: [notice('a', { type: 'suspended' })], remove: [] });
    const reinstated = notice('a', { type: 'reinstated', at: 5 });
    const held = [notice('a', { isHeld: true }), notice('a', { isHeld: true, type: 'suspended' })];
    await store.save(name, { followed: { ...followed, n: null }, put: [reinstated, ...held], remove: [] });
    const both = await store.load(name);
    expect(both?.followed.n).toBeNull();
    expect(both?.notices).toHaveLength(3);
    expect(both?.notices).toEqual(expect.arrayContaining([reinstated, ...held]));
    await store.save(name, { followed, put: [], remove: held });
    expect((await store.load(name))?.notices).toEqual([reinstated]);
  });
});
