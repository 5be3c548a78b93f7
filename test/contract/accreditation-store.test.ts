import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import type { Accreditation, AccreditationStore, KeyEventStore } from '../../broker/accreditation/ports.ts';
import {
  type AccreditationTables,
  accreditationMigrations,
  offerTopic,
  sqlAccreditationStore,
  sqlKeyEventStore,
} from '../../broker/adapters/sql/accreditation-store.ts';
import type { Did } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations } from '../../kernel/sql/outbox.ts';
import { onDatabases } from '../support/databases.ts';

interface Stores {
  readonly accreditations: AccreditationStore;
  readonly keyEvents: KeyEventStore;
  readonly tasks: () => Promise<readonly string[]>;
}

const adapters: Readonly<Record<string, () => Promise<Stores>>> = onDatabases(
  async (db: Kysely<AccreditationTables>) => {
    await migrate(db, 'outbox', outboxMigrations);
    await migrate(db, 'accreditation', accreditationMigrations);
    return {
      accreditations: sqlAccreditationStore(db),
      keyEvents: sqlKeyEventStore(db),
      tasks: async () =>
        (await db.selectFrom('outbox').selectAll().orderBy('id').execute()).map((row) => `${row.topic} ${row.subject}`),
    };
  },
);

const accreditor = 'did:web:accreditor.example' as Did;
const holder = 'did:web:holder.example' as Did;
const accreditationOf = (id: string, changes: Partial<Accreditation> = {}): Accreditation => ({
  accreditor,
  id,
  holder,
  application: { id: 'urn:stekker:1:app:evacuatie', version: '1.2.0', digest: 'sha256-abc' },
  purposes: ['urn:p:1', 'urn:p:2'],
  criteria: { id: 'urn:c', version: '1' },
  level: null,
  decidedAt: 10,
  validUntil: 110,
  ...changes,
});

describe.each(Object.entries(adapters))('AccreditationStore on %s', (_name, create) => {
  test('keeps a decision with the task of its offer', async () => {
    const { accreditations, tasks } = await create();
    expect(await accreditations.decide(accreditationOf('a', { level: 'high' }))).toBe('saved');
    expect(await accreditations.find(accreditor, 'a')).toEqual(accreditationOf('a', { level: 'high' }));
    expect(await accreditations.find(holder, 'a')).toBeUndefined();
    expect(await tasks()).toEqual([`${offerTopic} a`]);
  });

  test('the same again is known, another decision under the id is a conflict', async () => {
    const { accreditations, tasks } = await create();
    await accreditations.decide(accreditationOf('a'));
    expect(await accreditations.decide(accreditationOf('a', { decidedAt: 20, validUntil: 120 }))).toBe('known');
    for (const changes of [{ validUntil: 120 }, { purposes: ['urn:p:1'] }, { level: 'high' }])
      expect(await accreditations.decide(accreditationOf('a', changes))).toBe('conflict');
    expect(await accreditations.find(accreditor, 'a')).toEqual(accreditationOf('a'));
    expect(await tasks()).toHaveLength(1);
  });

  test('finds by holder and pages in order of id', async () => {
    const { accreditations } = await create();
    for (const id of ['c', 'a', 'b']) await accreditations.decide(accreditationOf(id));
    await accreditations.decide(accreditationOf('d', { holder: accreditor }));
    const ids = (found: readonly Accreditation[]) => found.map(({ id }) => id).join('');
    expect(ids(await accreditations.ofHolder(accreditor, holder))).toBe('abc');
    expect(ids(await accreditations.page(accreditor, { after: 'a', limit: 2 }))).toBe('bc');
    expect(ids(await accreditations.page(accreditor, { after: 'c', limit: 2 }))).toBe('d');
  });
});

describe.each(Object.entries(adapters))('KeyEventStore on %s', (_name, create) => {
  const eventOf = (payload: string) => ({ payload, signatures: [{ protected: '', signature: '' }] });

  test('keeps the first event for a document, and gives it back ever after', async () => {
    const { keyEvents } = await create();
    const kept = await Promise.all(
      ['Zmlyc3Q', 'c2Vjb25k'].map((one) => keyEvents.keepFirst(accreditor, 'doc', eventOf(one))),
    );
    expect(kept[0]).toEqual(kept[1]);
    expect(await keyEvents.keepFirst(accreditor, 'doc', eventOf('dGhpcmQ'))).toEqual(kept[0]);
    expect(await keyEvents.keepFirst(accreditor, 'other doc', eventOf('dGhpcmQ'))).toEqual(eventOf('dGhpcmQ'));
    expect(await keyEvents.keepFirst(holder, 'doc', eventOf('dGhpcmQ'))).toEqual(eventOf('dGhpcmQ'));
  });
});
