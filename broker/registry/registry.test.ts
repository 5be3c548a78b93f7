import { describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import { manualClock } from '../../kernel/clock.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import {
  type ParticipantTables,
  participantMigrations,
  sqlParticipantStore,
} from '../adapters/sql/participant-store.ts';
import type { Participant } from './ports.ts';
import { invite, join, leave } from './rules.ts';
import { createRegistry } from './service.ts';

const broker = 'did:web:broker.example' as Did;
const alice = 'did:web:alice.example' as Did;
const bob = 'did:web:bob.example' as Did;
const invitation = (did: Did, roles = ['holder']) => ({ did, name: 'A name', roles });

const world = async () => {
  const { db } = openSqlite<ParticipantTables>({ path: ':memory:' });
  await migrate(db, 'registry', participantMigrations);
  const clock = manualClock(1_000);
  const inLog = new Set<Did>();
  const issued: string[] = [];
  const log = {
    hasJoined: async (did: Did) => inLog.has(did),
    issueJoinCode: async (did: Did, validMs: number) => {
      issued.push(`${did} ${validMs}`);
      return `code ${issued.length}`;
    },
  };
  const store = sqlParticipantStore(db);
  return { clock, inLog, issued, store, registry: createRegistry({ registry: broker, store, log, clock }) };
};

describe('how participants come and go', () => {
  const base = invite(broker, undefined, invitation(alice), { hasJoined: false, now: 5, notBefore: 0 });

  test('an invitation admits, and joining makes a member, once', () => {
    expect(base).toMatchObject({ state: 'invited', admittedAt: 5, joinedAt: null, version: 1 });
    const joined = join(base, 6);
    expect(joined).toMatchObject({ state: 'joined', joinedAt: 6, version: 2 });
    expect(joined && join(joined, 7)).toBeUndefined();
  });

  test('whoever left does not come back by a key event, only by an invitation', () => {
    const left = leave({ ...base, state: 'joined', joinedAt: 6, version: 2 }, 8);
    expect(left).toMatchObject({ state: 'left', leftAt: 8, version: 3 });
    expect(left && leave(left, 9)).toBeUndefined();
    expect(left && join(left, 9)).toBeUndefined();
    const again = invite(broker, left, invitation(alice, ['runtime']), { hasJoined: true, now: 9, notBefore: 12 });
    expect(again).toEqual({ ...base, roles: ['runtime'], state: 'joined', admittedAt: 12, joinedAt: 6, version: 4 });
  });
});

describe('register', () => {
  test('a member is invited here and has keys in the log, never one without the other', async () => {
    const { registry, inLog } = await world();
    const { joinCode, expiresAt } = await registry.invite(invitation(alice));
    expect([joinCode, expiresAt]).toEqual(['code 1', 1_000 + 7 * 86_400_000]);
    expect(await registry.member(alice)).toBeUndefined();
    inLog.add(bob); // in the log by another way: not invited here
    expect(await registry.member(bob)).toBeUndefined();
    inLog.add(alice);
    expect(await registry.member(alice)).toMatchObject({ did: alice, state: 'joined', joinedAt: 1_000 });
  });

  test('notes key events, and at start those that nobody heard of', async () => {
    const { registry, inLog, store, clock } = await world();
    const people = Array.from(
      { length: 450 },
      (_, place) => `did:web:p${String(place).padStart(3, '0')}.example` as Did,
    );
    for (const did of people) await registry.invite(invitation(did));
    for (const did of people.slice(0, 449)) inLog.add(did);
    await registry.joined(people[0] ?? alice);
    await registry.joined(people[449] ?? alice);
    await registry.joined(bob);
    expect((await registry.page({ after: '', limit: 999, state: 'joined' })).map(({ did }) => did)).toEqual([
      people[0],
    ]);
    clock.advance(5);
    await registry.catchUp();
    expect(await registry.page({ after: '', limit: 999, state: 'joined' })).toHaveLength(449);
    expect((await store.find(broker, people[0] ?? alice))?.joinedAt).toBe(1_000);
    expect((await store.find(broker, people[448] ?? alice))?.joinedAt).toBe(1_005);
  });

  test('somebody whose keys are in the log needs no code to come back', async () => {
    const { registry, inLog, issued } = await world();
    await registry.invite(invitation(alice));
    inLog.add(alice);
    await registry.joined(alice);
    expect(await registry.leave(alice)).toMatchObject({ state: 'left' });
    expect(await registry.leave(alice)).toMatchObject({ state: 'left' });
    expect(await registry.member(alice)).toBeUndefined();
    expect(await registry.invite(invitation(alice))).toMatchObject({
      joinCode: null,
      participant: { state: 'joined' },
    });
    expect(await registry.member(alice)).toMatchObject({ state: 'joined' });
    expect(issued).toHaveLength(1);
    await expect(registry.leave(bob)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('changes of two at once are both there', async () => {
    const { registry, inLog } = await world();
    await registry.invite(invitation(alice));
    inLog.add(alice);
    await Promise.all([
      registry.joined(alice),
      registry.invite(invitation(alice, ['runtime'])),
      registry.joined(alice),
    ]);
    const member: Participant | undefined = await registry.member(alice);
    expect(member).toMatchObject({ state: 'joined', roles: ['runtime'] });
  });
});
