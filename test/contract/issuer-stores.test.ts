import type { Kysely } from 'kysely';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  issuanceTopic,
  sqlCredentialStore,
  sqlNoticeStore,
  sqlRequestStore,
  sqlStatusListStore,
  standingTopic,
} from '../../broker/adapters/sql/credential-store.ts';
import { type CredentialTables, credentialMigrations } from '../../broker/adapters/sql/credential-tables.ts';
import type {
  CredentialStore,
  IssuedCredential,
  Notice,
  NoticeStore,
  RequestStore,
  StatusListStore,
} from '../../broker/credentials/ports.ts';
import type { Did } from '../../contracts/ids.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations } from '../../kernel/sql/outbox.ts';
import { onDatabases } from '../support/databases.ts';
import { start } from '../support/identities.ts';
import { holder, issuedOf, issuer, requestOf } from '../support/issued.ts';

interface Stores {
  readonly requests: RequestStore;
  readonly credentials: CredentialStore;
  readonly notices: NoticeStore;
  readonly lists: StatusListStore;
  /** Tasks that were asked for: `topic subject`. */
  readonly tasks: () => Promise<readonly string[]>;
}

const adapters: Readonly<Record<string, () => Promise<Stores>>> = onDatabases(async (db: Kysely<CredentialTables>) => {
  await migrate(db, 'outbox', outboxMigrations);
  await migrate(db, 'credentials', credentialMigrations);
  return {
    requests: sqlRequestStore(db),
    credentials: sqlCredentialStore(db),
    notices: sqlNoticeStore(db),
    lists: sqlStatusListStore(db),
    tasks: async () =>
      (await db.selectFrom('outbox').selectAll().orderBy('id').execute()).map((row) => `${row.topic} ${row.subject}`),
  };
});

const stranger = 'did:web:stranger.example' as Did;
const noticeOf = ({ id, version }: IssuedCredential): Notice => ({
  issuer,
  subject: id,
  version,
  jws: { payload: `cGF5bG9hZA${version}`, signatures: [{ protected: '', signature: '' }] },
});

describe.each(Object.entries(adapters))('RequestStore on %s', (_name, create) => {
  let stores: Stores;
  beforeEach(async () => {
    stores = await create();
    await stores.lists.open(issuer, 'revocation', 9);
    await stores.lists.open(issuer, 'suspension', 9);
  });

  test('gives back what was received, with its task, to its own issuer only', async () => {
    const { requests, tasks } = stores;
    expect(await requests.receive(requestOf('r1'), 9)).toBe('received');
    expect(await requests.find(issuer, 'r1')).toEqual(requestOf('r1'));
    expect(await requests.find(stranger, 'r1')).toBeUndefined();
    expect(await tasks()).toEqual([`${issuanceTopic} r1`]);
  });

  test('takes so many open requests of one holder and no more', async () => {
    const { requests, tasks } = stores;
    for (const id of ['r1', 'r2']) expect(await requests.receive(requestOf(id), 2)).toBe('received');
    expect(await requests.receive(requestOf('r3'), 2)).toBe('full');
    expect(await requests.find(issuer, 'r3')).toBeUndefined();
    expect(await requests.receive(requestOf('r4', { holder: stranger }), 2)).toBe('received');
    await requests.settle(requestOf('r1'), 'ISSUED', start);
    expect(await requests.receive(requestOf('r5'), 2)).toBe('received');
    expect(await tasks()).toHaveLength(4);
  });

  test('a decision stands once, with what was made for it', async () => {
    const { requests, credentials } = stores;
    await requests.receive(requestOf('r1'), 9);
    const first = issuedOf(1);
    expect(await requests.decide(requestOf('r1'), [first.id], [{ credential: first, before: 0 }])).toBe('saved');
    const second = issuedOf(2);
    expect(await requests.decide(requestOf('r1'), [second.id], [{ credential: second, before: 1 }])).toBe('decided');
    expect((await requests.find(issuer, 'r1'))?.decision).toEqual([first.id]);
    expect(await credentials.find(issuer, first.id)).toEqual(first);
    expect(await credentials.find(issuer, second.id)).toBeUndefined();
  });

  test('what was made for another state of things is not saved', async () => {
    const { requests, credentials } = stores;
    for (const id of ['r1', 'r2', 'r3']) await requests.receive(requestOf(id), 9);
    await requests.decide(requestOf('r1'), [issuedOf(1).id], [{ credential: issuedOf(1), before: 0 }]);
    const twin = issuedOf(2);
    expect(await requests.decide(requestOf('r2'), [twin.id], [{ credential: twin, before: 0 }])).toBe('outdated');
    const { places } = issuedOf(1);
    const elsewhere = { revocation: { list: 1, index: 7 }, suspension: places.suspension };
    const samePlace = issuedOf(3, { grant: 'other', places: elsewhere });
    expect(await requests.decide(requestOf('r2'), [samePlace.id], [{ credential: samePlace, before: 0 }])).toBe(
      'outdated',
    );
    expect((await requests.find(issuer, 'r2'))?.decision).toBeNull();
    expect(await credentials.page(issuer, { after: '', limit: 9 })).toHaveLength(1);
    expect(await requests.decide(requestOf('r2'), [twin.id], [{ credential: twin, before: 1 }])).toBe('saved');
  });

  test('settles once, forgets the token, and is removed when its time is over', async () => {
    const { requests } = stores;
    await requests.receive(requestOf('r1'), 9);
    await requests.receive(requestOf('r2'), 9);
    await requests.settle(requestOf('r1'), 'ISSUED', start + 5);
    await requests.settle(requestOf('r1'), 'REJECTED', start + 6);
    expect(await requests.find(issuer, 'r1')).toMatchObject({ state: 'ISSUED', settledAt: start + 5, token: null });
    await requests.forget(issuer, start + 5);
    expect(await requests.find(issuer, 'r1')).toBeDefined();
    await requests.forget(issuer, start + 6);
    expect(await requests.find(issuer, 'r1')).toBeUndefined();
    expect(await requests.find(issuer, 'r2')).toBeDefined();
  });
});

describe.each(Object.entries(adapters))('CredentialStore and NoticeStore on %s', (_name, create) => {
  const all = [issuedOf(1), issuedOf(2), issuedOf(3, { holder: stranger })];
  let stores: Stores;
  beforeEach(async () => {
    stores = await create();
    await stores.lists.open(issuer, 'revocation', 9);
    await stores.lists.open(issuer, 'suspension', 9);
    await stores.requests.receive(requestOf('r1'), 9);
    await stores.requests.decide(
      requestOf('r1'),
      [],
      all.map((credential) => ({ credential, before: 0 })),
    );
  });

  test('finds by id, by grant with the newest first, and by page', async () => {
    const { credentials } = stores;
    expect((await credentials.ofGrant(issuer, holder, 'membership')).map(({ jwt }) => jwt)).toEqual(['jwt 2', 'jwt 1']);
    expect(await credentials.ofGrant(issuer, holder, 'other')).toEqual([]);
    expect(await credentials.find(stranger, issuedOf(1).id)).toBeUndefined();
    const jwts = async (page: Parameters<CredentialStore['page']>[1]) =>
      (await credentials.page(issuer, page)).map(({ jwt }) => jwt);
    expect(await jwts({ after: '', limit: 2 })).toEqual(['jwt 1', 'jwt 2']);
    expect(await jwts({ after: issuedOf(2).id, limit: 2 })).toEqual(['jwt 3']);
    expect(await jwts({ after: '', limit: 9, holder: stranger })).toEqual(['jwt 3']);
  });

  test('a change is one with its lists, its notice and its task, and counts against its version', async () => {
    const { credentials, notices, lists, tasks } = stores;
    const suspended = issuedOf(1, { standing: 'suspended', standingAt: start + 9, version: 2 });
    expect(await credentials.change(suspended, noticeOf(suspended))).toBe('saved');
    expect(await credentials.change(suspended, noticeOf(suspended))).toBe('conflict');
    expect(await credentials.find(issuer, suspended.id)).toEqual(suspended);
    expect(await lists.marked(issuer, 'suspension', 1)).toEqual([1]);
    expect(await lists.marked(issuer, 'revocation', 1)).toEqual([]);
    expect((await lists.find(issuer, 'suspension', 1))?.version).toBe(2);
    const revoked = { ...suspended, standing: 'revoked' as const, standingAt: start + 10, version: 3 };
    expect(await credentials.change(revoked, noticeOf(revoked))).toBe('saved');
    expect(await lists.marked(issuer, 'suspension', 1)).toEqual([]);
    expect(await lists.marked(issuer, 'revocation', 1)).toEqual([1]);
    expect(await notices.waiting(issuer, suspended.id)).toEqual([noticeOf(suspended), noticeOf(revoked)]);
    expect(await tasks()).toEqual([
      `${issuanceTopic} r1`,
      `${standingTopic} ${suspended.id}`,
      `${standingTopic} ${suspended.id}`,
    ]);
  });

  test('a notice that was published waits no more', async () => {
    const { credentials, notices } = stores;
    const revoked = issuedOf(1, { standing: 'revoked', version: 2 });
    await credentials.change(revoked, noticeOf(revoked));
    expect(await notices.waiting(issuer, issuedOf(2).id)).toEqual([]);
    await notices.published(noticeOf(revoked));
    expect(await notices.waiting(issuer, revoked.id)).toEqual([]);
  });
});

describe.each(Object.entries(adapters))('StatusListStore on %s', (_name, create) => {
  test('opens a list, keeps it until so many places are taken, then opens the next', async () => {
    const { requests, lists } = await create();
    expect(await lists.find(issuer, 'revocation', 1)).toBeUndefined();
    expect(await lists.open(issuer, 'revocation', 2)).toBe(1);
    expect(await lists.open(issuer, 'suspension', 2)).toBe(1);
    expect(await lists.open(stranger, 'revocation', 2)).toBe(1);
    await requests.receive(requestOf('r1'), 9);
    const made = [issuedOf(1), issuedOf(2)].map((credential) => ({ credential, before: 0 }));
    await requests.decide(requestOf('r1'), [], made);
    expect(await lists.open(issuer, 'revocation', 2)).toBe(2);
    expect(await lists.open(issuer, 'revocation', 3)).toBe(2);
    expect(await lists.find(issuer, 'revocation', 2)).toEqual({ purpose: 'revocation', list: 2, version: 1 });
  });

  test('knows which places are free, for each list and purpose', async () => {
    const { requests, lists } = await create();
    await lists.open(issuer, 'revocation', 9);
    await requests.receive(requestOf('r1'), 9);
    const places = { revocation: { list: 1, index: 5 }, suspension: { list: 1, index: 6 } };
    await requests.decide(requestOf('r1'), [], [{ credential: issuedOf(1, { places }), before: 0 }]);
    const isFree = (purpose: 'revocation' | 'suspension', list: number, index: number) =>
      lists.isFree(issuer, { purpose, list, index });
    expect(await isFree('revocation', 1, 5)).toBe(false);
    expect(await isFree('revocation', 1, 6)).toBe(true);
    expect(await isFree('revocation', 2, 5)).toBe(true);
    expect(await isFree('suspension', 1, 6)).toBe(false);
  });
});
