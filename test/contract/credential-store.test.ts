import type { Kysely } from 'kysely';
import { describe, expect, test } from 'vitest';
import {
  createSqlCredentialStore,
  createSqlJoinStore,
  type IdentityTables,
  identityMigrations,
} from '../../connector/adapters/sql/credential-store.ts';
import { createSqlPeerFactsStore } from '../../connector/adapters/sql/peer-facts-store.ts';
import type {
  CredentialOffer,
  CredentialRequest,
  CredentialStore,
  HeldCredential,
  JoinRecord,
  JoinStore,
  OfferStore,
  PeerFactsStore,
} from '../../connector/identity/ports.ts';
import { offerTopic, requestTopic } from '../../connector/identity/rules.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import { type Clock, manualClock } from '../../kernel/clock.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations } from '../../kernel/sql/outbox.ts';
import { onDatabases } from '../support/databases.ts';

const us = 'us' as ParticipantId;
const other = 'other' as ParticipantId;
const broker = 'did:web:broker.example' as Did;

const requestOf = (holderPid: string, more: Partial<CredentialRequest> = {}): CredentialRequest => ({
  participant: us,
  holderPid,
  issuer: broker,
  type: 'MembershipCredential',
  object: '',
  status: 'OPEN',
  statusUrl: null,
  tokens: [],
  reason: '',
  createdAt: 100,
  updatedAt: 100,
  ...more,
});
const heldOf = (id: string, more: Partial<HeldCredential> = {}): HeldCredential => ({
  participant: us,
  id,
  type: 'MembershipCredential',
  issuer: broker,
  matter: 'membership',
  jwt: `jwt of ${id}`,
  validFrom: 100,
  validUntil: 1_000,
  receivedAt: 100,
  ...more,
});
const settlementOf = (holderPid: string, credentials: readonly HeldCredential[]) =>
  ({ participant: us, holderPid, status: 'ISSUED', reason: '', credentials, at: 200 }) as const;

interface Adapter {
  readonly credentials: CredentialStore;
  readonly joins: JoinStore;
  readonly peers: PeerFactsStore;
  readonly tasks: () => Promise<readonly string[]>;
}

const adapters: Readonly<Record<string, (clock: Clock) => Promise<Adapter>>> = onDatabases(
  async (db: Kysely<IdentityTables>, clock: Clock) => {
    await migrate(db, 'outbox', outboxMigrations as never);
    await migrate(db, 'identity', identityMigrations);
    return {
      credentials: createSqlCredentialStore(db),
      joins: createSqlJoinStore(db),
      peers: createSqlPeerFactsStore(db, clock),
      tasks: async () =>
        (await db.selectFrom('outbox').selectAll().execute()).map((row) => `${row.topic} ${row.subject}`),
    };
  },
);

const cases = Object.entries(adapters).map(
  ([name, create]) => [name, (clock = manualClock(500)) => create(clock)] as const,
);

describe.each(cases)('CredentialStore on %s', (_name, create) => {
  test('a request brings its task, once', async () => {
    const { credentials, tasks } = await create();
    await credentials.addRequest(requestOf('p1'));
    await credentials.addRequest(requestOf('p1', { type: 'ApplicationAccreditationCredential' }));
    expect(await credentials.read.request(us, 'p1')).toEqual(requestOf('p1'));
    expect(await credentials.read.request(other, 'p1')).toBeUndefined();
    expect(await tasks()).toEqual([`${requestTopic} p1`]);
  });

  test('keeps each token that went along, and where the issuer tells how it stands', async () => {
    const { credentials } = await create();
    await credentials.addRequest(requestOf('p1'));
    await credentials.noteAttempt(us, 'p1', 'a');
    await credentials.noteAttempt(us, 'p1', 'b');
    await credentials.noteAttempt(us, 'p1', 'a');
    await credentials.noteAccepted(us, 'p1', 'https://broker.example/dcp/requests/1');
    await credentials.noteAttempt(other, 'p1', 'c');
    expect(await credentials.read.request(us, 'p1')).toEqual(
      requestOf('p1', { tokens: ['a', 'b'], statusUrl: 'https://broker.example/dcp/requests/1' }),
    );
  });

  test('a delivery is stored whole, once; a repeat is harmless, another is refused', async () => {
    const { credentials } = await create();
    await credentials.addRequest(requestOf('p1'));
    const both = [heldOf('c1'), heldOf('c2', { validFrom: 150 })];
    expect(await credentials.settle(settlementOf('p1', both))).toBe('settled');
    expect(await credentials.settle(settlementOf('p1', both.toReversed()))).toBe('repeated');
    expect(await credentials.settle(settlementOf('p1', [heldOf('c3')]))).toBe('refused');
    expect(await credentials.settle({ ...settlementOf('p1', []), status: 'REJECTED' })).toBe('refused');
    expect(await credentials.settle(settlementOf('none', [heldOf('c4')]))).toBe('refused');
    expect(await credentials.read.held(us, 500)).toEqual(both.toReversed());
    expect(await credentials.read.held(other, 500)).toEqual([]);
    expect(await credentials.read.request(us, 'p1')).toMatchObject({ status: 'ISSUED', updatedAt: 200 });
  });

  test('of parallel deliveries one settles', async () => {
    const { credentials } = await create();
    await credentials.addRequest(requestOf('p1'));
    const results = await Promise.all(
      ['c1', 'c2', 'c3'].map((id) => credentials.settle(settlementOf('p1', [heldOf(id)]))),
    );
    expect(results.toSorted()).toEqual(['refused', 'refused', 'settled']);
    expect(await credentials.read.held(us, 500)).toHaveLength(1);
  });

  test('a rejection keeps its reason, and is repeated without harm', async () => {
    const { credentials } = await create();
    await credentials.addRequest(requestOf('p1'));
    const rejection = { ...settlementOf('p1', []), status: 'REJECTED', reason: 'no' } as const;
    expect(await credentials.settle(rejection)).toBe('settled');
    expect(await credentials.settle(rejection)).toBe('repeated');
    expect(await credentials.read.request(us, 'p1')).toMatchObject({ status: 'REJECTED', reason: 'no' });
  });

  test('the same id issued again replaces what is held; ids of different issuers are different credentials', async () => {
    const { credentials } = await create();
    for (const pid of ['p1', 'p2', 'p3']) await credentials.addRequest(requestOf(pid));
    await credentials.settle(settlementOf('p1', [heldOf('c1')]));
    await credentials.settle(settlementOf('p2', [heldOf('c1', { validUntil: 2_000 })]));
    await credentials.settle(settlementOf('p3', [heldOf('c1', { issuer: 'did:web:accreditor.example' as Did })]));
    const held = await credentials.read.held(us, 500);
    expect(held.map(({ issuer, validUntil }) => [issuer, validUntil]).toSorted()).toEqual([
      ['did:web:accreditor.example', 1_000],
      [broker, 2_000],
    ]);
  });

  test('what has ended is not held any more', async () => {
    const { credentials } = await create();
    await credentials.addRequest(requestOf('p1'));
    await credentials.settle(
      settlementOf('p1', [heldOf('c1', { validUntil: 500 }), heldOf('c2', { validUntil: 501 })]),
    );
    expect((await credentials.read.held(us, 500)).map(({ id }) => id)).toEqual(['c2']);
  });

  test('finds open requests to an issuer, and lists the newest first', async () => {
    const { credentials } = await create();
    await credentials.addRequest(requestOf('p1', { createdAt: 10 }));
    await credentials.addRequest(requestOf('p2', { createdAt: 20 }));
    await credentials.addRequest(requestOf('p3', { createdAt: 30, issuer: 'did:web:other.example' as Did }));
    await credentials.addRequest(requestOf('p4', { createdAt: 40, participant: other }));
    expect((await credentials.read.open(us, broker, 0)).map(({ holderPid }) => holderPid)).toEqual(['p1', 'p2']);
    expect((await credentials.read.open(us, broker, 11)).map(({ holderPid }) => holderPid)).toEqual(['p2']);
    await credentials.settle(settlementOf('p2', [heldOf('c1')]));
    expect(await credentials.read.open(us, broker, 11)).toEqual([]);
    expect((await credentials.read.requests(us, 2)).map(({ holderPid }) => holderPid)).toEqual(['p3', 'p2']);
  });
});

const offerOf = (id: string): CredentialOffer => ({
  participant: us,
  id,
  issuer: broker,
  objects: [
    { id: 'urn:uuid:1', type: 'MembershipCredential' },
    { id: 'urn:uuid:2', type: null },
  ],
  receivedAt: 100,
});

describe.each(cases)('OfferStore on %s', (_name, create) => {
  const offers = async (): Promise<{ store: OfferStore; tasks: Adapter['tasks'] }> => {
    const { credentials, tasks } = await create();
    return { store: credentials.offers, tasks };
  };

  test('an offer brings its task, and is gone when it was carried out', async () => {
    const { store, tasks } = await offers();
    expect(await store.put(offerOf('o1'))).toBe('saved');
    expect(await store.find(us, 'o1')).toEqual(offerOf('o1'));
    expect(await store.find(other, 'o1')).toBeUndefined();
    expect(await tasks()).toEqual([`${offerTopic} o1`]);
    await store.remove(us, 'o1');
    await store.remove(us, 'o1');
    expect(await store.find(us, 'o1')).toBeUndefined();
  });

  test('so many may wait, and no more', async () => {
    const { store, tasks } = await offers();
    for (let index = 0; index < 100; index += 1) expect(await store.put(offerOf(`o${index}`))).toBe('saved');
    expect(await store.put(offerOf('one too many'))).toBe('full');
    expect(await tasks()).toHaveLength(100);
    expect(await store.put({ ...offerOf('x'), participant: other })).toBe('saved');
    await store.remove(us, 'o1');
    expect(await store.put(offerOf('now'))).toBe('saved');
  });
});

const joinOf = (more: Partial<JoinRecord> = {}): JoinRecord => ({
  participant: us,
  broker,
  document: '{"id":"did:web:us.example"}',
  artifact: { payload: 'AA', signatures: [{ protected: 'AA', signature: 'AA' }] },
  isReplaced: false,
  registeredAt: null,
  ...more,
});

describe.each(cases)('JoinStore on %s', (_name, create) => {
  test('keeps one record for each participant and broker, the last one put', async () => {
    const { joins } = await create();
    expect(await joins.find(us, broker)).toBeUndefined();
    await joins.put(joinOf());
    await joins.put(joinOf({ document: '{}', isReplaced: true, registeredAt: 7 }));
    expect(await joins.find(us, broker)).toEqual(joinOf({ document: '{}', isReplaced: true, registeredAt: 7 }));
    expect(await joins.find(other, broker)).toBeUndefined();
  });
});

const peer = 'did:web:peer.example' as Did;
const factsOf = (credentials: readonly string[], validUntil = 1_000): CredentialFacts => ({
  credentials,
  validUntil,
  memberships: [{ memberOf: broker, roles: ['participant'] }],
  accreditations: [],
});

describe.each(cases)('PeerFactsStore on %s', (_name, create) => {
  test('gives back what was remembered last, for its participant only', async () => {
    const { peers } = await create();
    await peers.remember(us, peer, factsOf(['c1']));
    await peers.remember(us, peer, factsOf(['c2', 'c2', 'c3']));
    await peers.remember(us, peer, factsOf(['c2', 'c2', 'c3']));
    expect(await peers.of(us, peer)).toEqual(factsOf(['c2', 'c2', 'c3']));
    expect(await peers.of(other, peer)).toBeUndefined();
    expect(await peers.of(us, broker)).toBeUndefined();
  });

  test('expired facts are not returned', async () => {
    const clock = manualClock(500);
    const { peers } = await create(clock);
    await peers.remember(us, peer, factsOf(['c1'], 600));
    clock.advance(99);
    expect(await peers.of(us, peer)).toBeDefined();
    clock.advance(1);
    expect(await peers.of(us, peer)).toBeUndefined();
  });

  test('a revoked credential takes all that rests on it, for every participant, and nothing else', async () => {
    const { peers } = await create();
    await peers.remember(us, peer, factsOf(['c1', 'c2']));
    await peers.remember(other, peer, factsOf(['c2']));
    await peers.remember(us, broker, factsOf(['c3']));
    await peers.forgetCredential('c2');
    await peers.forgetCredential('never seen');
    expect(await peers.of(us, peer)).toBeUndefined();
    expect(await peers.of(other, peer)).toBeUndefined();
    expect(await peers.of(us, broker)).toBeDefined();
    await peers.remember(us, peer, factsOf(['c4']));
    await peers.forgetCredential('c1');
    expect(await peers.of(us, peer)).toEqual(factsOf(['c4']));
  });
});
