import { describe, expect, test } from 'vitest';
import {
  createSqlApplicationStore,
  createSqlGrantStore,
  type DataPlaneTables,
  dataPlaneMigrations,
} from '../../connector/adapters/sql/data-plane-store.ts';
import type { Application, Grant, IssuedToken } from '../../connector/data-plane/ports.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { databases } from '../support/databases.ts';

const us = 'us' as ParticipantId;
const others = 'others' as ParticipantId;

const openTables = async (empty: (typeof databases)[string]) => {
  const { db } = await empty<DataPlaneTables>();
  await migrate(db, 'data-plane', dataPlaneMigrations);
  return db;
};

const grant: Grant = {
  participant: us,
  transfer: 'urn:uuid:1',
  agreementId: 'urn:uuid:a',
  consumer: 'did:web:consumer.example' as Did,
  secretHash: 'h1',
  expiresAt: null,
  openedAt: 5,
};

const token: IssuedToken = {
  participant: us,
  jti: 'j1',
  transfer: grant.transfer,
  grant: 'h1',
  agreement: 'digest',
  application: 'urn:app:x@1',
  purpose: 'urn:p',
  run: '',
  jkt: 'k',
  facts: {
    credentials: ['urn:c'],
    validUntil: 9,
    memberships: [{ memberOf: 'did:web:b', roles: ['user'] }],
    accreditations: [],
  },
  siToken: 'a.b.c',
  proof: 'd.e.f',
  issuedAt: 1,
  expiresAt: 2,
};

describe.each(Object.entries(databases))('GrantStore on %s', (_name, empty) => {
  const open = () => openTables(empty);

  test('a grant takes the place of the one before, and is gone when it is removed', async () => {
    const store = createSqlGrantStore(await open());
    await store.put(grant);
    await store.put({ ...grant, secretHash: 'h2', expiresAt: 7, openedAt: 6 });
    expect(await store.all()).toEqual([{ ...grant, secretHash: 'h2', expiresAt: 7, openedAt: 6 }]);
    expect(await store.find(us, grant.transfer)).toEqual({ ...grant, secretHash: 'h2', expiresAt: 7, openedAt: 6 });
    expect(await store.find(others, grant.transfer)).toBeUndefined();
    expect(await store.ofAgreement(us, grant.agreementId)).toMatchObject([{ transfer: grant.transfer }]);
    expect(await store.ofAgreement(others, grant.agreementId)).toEqual([]);
    expect(await store.ofAgreement(us, 'urn:uuid:other')).toEqual([]);
    await store.remove(others, grant.transfer);
    expect(await store.all()).toHaveLength(1);
    await store.remove(us, grant.transfer);
    await store.remove(us, grant.transfer);
    expect(await store.all()).toEqual([]);
  });

  test('the same secret never opens two transfers', async () => {
    const store = createSqlGrantStore(await open());
    await store.put(grant);
    await expect(store.put({ ...grant, transfer: 'urn:uuid:2' })).rejects.toThrow(/unique/i);
  });

  test('a token is kept with its evidence, for its participant alone, once', async () => {
    const store = createSqlGrantStore(await open());
    await store.putToken(token);
    expect(await store.findToken(us, 'j1')).toEqual(token);
    expect(await store.findToken(others, 'j1')).toBeUndefined();
    expect(await store.findToken(us, 'j2')).toBeUndefined();
    await expect(store.putToken(token)).rejects.toThrow(/unique/i);
  });
});

const application: Application = { participant: us, id: 'urn:app:x@1', keyHash: 'k1', createdAt: 3 };

describe.each(Object.entries(databases))('ApplicationStore on %s', (_name, empty) => {
  const open = () => openTables(empty);

  test('an application is added once for each participant, with a key of its own', async () => {
    const store = createSqlApplicationStore(await open());
    expect(await store.add(application)).toBe('saved');
    expect(await store.add({ ...application, keyHash: 'k2' })).toBe('conflict');
    expect(await store.add({ ...application, id: 'urn:app:y@1' })).toBe('conflict');
    expect(await store.add({ ...application, participant: others, keyHash: 'k3' })).toBe('saved');
    expect(await store.all()).toEqual([{ ...application, participant: others, keyHash: 'k3' }, application]);
  });

  test('what is removed is gone, and only that', async () => {
    const store = createSqlApplicationStore(await open());
    await store.add(application);
    expect(await store.remove(others, application.id)).toBe(false);
    expect(await store.remove(us, application.id)).toBe(true);
    expect(await store.remove(us, application.id)).toBe(false);
    expect(await store.all()).toEqual([]);
  });
});
