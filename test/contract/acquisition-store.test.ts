import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import {
  type AcquisitionTables,
  acquisitionMigrations,
  createSqlAcquisitionStore,
} from '../../connector/adapters/sql/acquisition-store.ts';
import type { AcquisitionStore } from '../../connector/management/ports.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { onDatabases } from '../support/databases.ts';

const us = 'us' as ParticipantId;
const provider = 'did:web:provider.example' as Did;
const dataset = 'urn:rain';

const adapters: Readonly<Record<string, () => Promise<AcquisitionStore>>> = onDatabases(
  async (db: Kysely<AcquisitionTables>) => {
    await migrate(db, 'acquisitions', acquisitionMigrations);
    return createSqlAcquisitionStore(db);
  },
);

describe.each(Object.entries(adapters))('AcquisitionStore on %s', (_name, create) => {
  test('gives what was begun for a dataset, the newest first, up to the limit', async () => {
    const store = await create();
    for (const negotiation of ['n1', 'n3', 'n2'])
      await store.begun({ participant: us, provider, dataset, negotiation });
    expect(await store.candidates(us, provider, dataset, 2)).toEqual([
      { negotiation: 'n3', transfer: null },
      { negotiation: 'n2', transfer: null },
    ]);
  });

  test('remembers the newest transfer; the same beginning again changes nothing', async () => {
    const store = await create();
    await store.begun({ participant: us, provider, dataset, negotiation: 'n1' });
    await store.transferred(us, 'n1', 't1');
    await store.transferred(us, 'n1', 't2');
    await store.begun({ participant: us, provider, dataset, negotiation: 'n1' });
    expect(await store.candidates(us, provider, dataset, 9)).toEqual([{ negotiation: 'n1', transfer: 't2' }]);
  });

  test('keeps participants, providers and datasets apart, and forgets what it is told to', async () => {
    const store = await create();
    const other = 'other' as ParticipantId;
    await store.begun({ participant: us, provider, dataset, negotiation: 'n1' });
    await store.begun({ participant: other, provider, dataset, negotiation: 'n1' });
    expect(await store.candidates(us, 'did:web:else.example' as Did, dataset, 9)).toEqual([]);
    expect(await store.candidates(us, provider, 'urn:snow', 9)).toEqual([]);
    await store.forget(us, 'n1');
    expect(await store.candidates(us, provider, dataset, 9)).toEqual([]);
    expect(await store.candidates(other, provider, dataset, 9)).toHaveLength(1);
  });
});
