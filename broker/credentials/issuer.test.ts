import { describe, expect, test } from 'vitest';
import { readStandingNotice } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import { manualClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { seededRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations } from '../../kernel/sql/outbox.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { keysOf, start } from '../../test/support/identities.ts';
import { aesArtifactSeal } from '../adapters/crypto/artifact-seal.ts';
import {
  sqlCredentialStore,
  sqlNoticeStore,
  sqlRequestStore,
  sqlStatusListStore,
} from '../adapters/sql/credential-store.ts';
import { type CredentialTables, credentialMigrations } from '../adapters/sql/credential-tables.ts';
import type { Delivery, Grant } from './ports.ts';
import { objectIdOf } from './requests.ts';
import { createIssuer, type IssuerOptions } from './service.ts';

const broker = 'did:web:broker.example' as Did;
const alice = 'did:web:alice.example' as Did;
const mallory = 'did:web:mallory.example' as Did;
const day = 86_400_000;
const membership = objectIdOf(broker, 'MembershipCredential');

interface Sent {
  readonly holder: Did;
  readonly body: { readonly [member: string]: Json };
  readonly token: string | null;
}

/** An issuer on SQLite whose worker is the test itself: each step happens when it is called. */
const world = async (changes: Partial<IssuerOptions> = {}) => {
  const { db } = openSqlite<CredentialTables>({ path: ':memory:' });
  await migrate(db, 'outbox', outboxMigrations);
  await migrate(db, 'credentials', credentialMigrations);
  const clock = manualClock(start);
  const random = seededRandom('issuer');
  const sent: Sent[] = [];
  const its = { answer: 'accepted' as Delivery, roles: ['holder'], since: start };
  const grantOf = (holder: Did): Grant => ({
    key: 'membership',
    type: 'MembershipCredential',
    subject: { id: holder, role: its.roles, memberOf: broker },
    since: its.since,
    validUntil: clock.now() + 365 * day,
  });
  const options: IssuerOptions = {
    keys: keysOf(broker, 41),
    origin: 'https://broker.example',
    grants: {
      types: ['MembershipCredential'],
      ofType: async (holder) => (holder === alice ? [grantOf(holder)] : []),
      ofOffer: async () => undefined,
    },
    requests: sqlRequestStore(db),
    credentials: sqlCredentialStore(db),
    notices: sqlNoticeStore(db),
    lists: sqlStatusListStore(db),
    deliver: async (holder, _path, { body, token }) => {
      sent.push({ holder, body: body as Sent['body'], token });
      return its.answer;
    },
    seal: aesArtifactSeal(random.bytes(32), random),
    clock,
    random,
    log: silentLogger,
    wake: () => undefined,
    ...changes,
  };
  const issuer = createIssuer(options);
  const receive = (did = alice, accessToken: string | undefined = undefined) =>
    issuer.receive({ did, accessToken }, { holderPid: 'pid', credentials: [{ id: membership }] });
  const work = (subject: string, attempts = 0) =>
    issuer.issuanceHandler({ id: subject, topic: '', participant: broker, subject, attempts });
  const issue = async () => {
    await work(await receive());
    const [newest] = await issuer.page({ after: '', limit: 99 }).then((all) => all.slice(-1));
    if (newest === undefined) throw new Error('nothing was issued');
    return newest;
  };
  return { db, issuer, options, clock, sent, its, receive, work, issue };
};

describe('requests', () => {
  test('a crash between decision and delivery makes no second credential', async () => {
    const { issuer, its, receive, work, sent } = await world();
    its.answer = 'unreachable';
    const id = await receive(alice, 'a-token');
    expect(await work(id)).toBe('later');
    expect(await work(id, 1)).toBe('later');
    its.answer = 'accepted';
    expect(await work(id, 2)).toBe('done');
    expect(await work(id, 3)).toBe('done'); // the task was not taken away before the crash
    expect(await issuer.page({ after: '', limit: 9 })).toHaveLength(1);
    expect(sent.map(({ token }) => token)).toEqual(['a-token', 'a-token', 'a-token']);
    expect((await issuer.request(alice, id)).state).toBe('ISSUED');
  });

  test('the token of a holder is not in the rows, nor after the delivery in any form', async () => {
    const { db, receive, work } = await world();
    const id = await receive(alice, 'MARKER-token');
    const row = await db.selectFrom('issuance_request').selectAll().executeTakeFirstOrThrow();
    expect(JSON.stringify(row)).not.toContain('MARKER');
    expect(row.token).not.toBeNull();
    await work(id);
    expect((await db.selectFrom('issuance_request').selectAll().executeTakeFirstOrThrow()).token).toBeNull();
  });

  test('two workers at once make one credential', async () => {
    const { issuer, receive, work } = await world();
    const ids = [await receive(), await receive(), await receive()];
    const results = await Promise.all(ids.map((id) => work(id)));
    for (const [place, result] of results.entries()) if (result === 'later') await work(ids[place] ?? '');
    expect(await issuer.page({ after: '', limit: 9 })).toHaveLength(1);
    for (const id of ids) expect((await issuer.request(alice, id)).state).toBe('ISSUED');
  });

  test('a holder that refuses for long is given up; one that does not answer gets a day', async () => {
    const { issuer, its, receive, work, clock } = await world();
    its.answer = 'refused';
    const refused = await receive();
    expect(await work(refused, 10)).toBe('later');
    expect(await work(refused, 11)).toBe('done');
    expect((await issuer.request(alice, refused)).state).toBe('REJECTED');
    its.answer = 'unreachable';
    const silent = await receive();
    expect(await work(silent, 99)).toBe('later');
    clock.advance(day);
    expect(await work(silent, 100)).toBe('done');
  });

  test('what was revoked before it was delivered is not delivered', async () => {
    const { issuer, its, receive, work, sent } = await world();
    its.answer = 'unreachable';
    const id = await receive();
    await work(id);
    const [issued] = await issuer.page({ after: '', limit: 9 });
    await issuer.changeStanding(issued?.id ?? '', { change: 'revoked', reason: 'a mistake' });
    its.answer = 'accepted';
    await work(id, 1);
    expect(sent.map(({ body }) => body.status)).toEqual(['ISSUED', 'REJECTED']);
    expect((await issuer.request(alice, id)).state).toBe('REJECTED');
  });

  test('is shown to its holder alone', async () => {
    const { issuer, receive } = await world();
    const id = await receive();
    expect((await issuer.request(alice, id)).holderPid).toBe('pid');
    await expect(issuer.request(mallory, id)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('are limited for each holder, and forgotten a month after they were settled', async () => {
    const { issuer, receive, work, clock } = await world();
    const ids: string[] = [];
    for (let count = 0; count < 50; count += 1) ids.push(await receive());
    await expect(receive()).rejects.toMatchObject({ code: 'too-many-requests' });
    await receive(mallory);
    await work(ids[0] ?? '');
    clock.advance(31 * day);
    await issuer.tidy();
    await expect(issuer.request(alice, ids[0] ?? '')).rejects.toMatchObject({ code: 'not-found' });
    expect((await issuer.request(alice, ids[1] ?? '')).state).toBe('RECEIVED');
  });
});

describe('standing of what was issued', () => {
  test('a change reaches every credential of the grant that could still be shown', async () => {
    const { issuer, issue, its, clock } = await world();
    const first = await issue();
    clock.advance(200 * day);
    const second = await issue();
    expect(second.id).not.toBe(first.id);
    await issuer.changeStanding(second.id, { change: 'suspended', reason: 'x' });
    expect((await issuer.credential(first.id)).standing).toBe('suspended');
    await issuer.changeStanding(first.id, { change: 'reinstated', reason: 'x' });
    expect((await issuer.credential(second.id)).standing).toBe('active');
    await issuer.revokeGrant({ holder: alice, grant: 'membership', reason: 'left' });
    for (const { id } of [first, second]) expect((await issuer.credential(id)).standing).toBe('revoked');
    its.since = await issuer.lastChange({ holder: alice, grant: 'membership' });
    clock.advance(1);
    expect((await issue()).standing).toBe('active');
  });

  test('a revocation is final, and a repeat of it changes nothing', async () => {
    const { issuer, issue, options } = await world();
    const { id } = await issue();
    await issuer.changeStanding(id, { change: 'revoked', reason: 'x' });
    await issuer.changeStanding(id, { change: 'revoked', reason: 'again' });
    for (const change of ['reinstated', 'suspended'] as const)
      await expect(issuer.changeStanding(id, { change, reason: 'x' })).rejects.toMatchObject({
        code: 'standing-final',
      });
    expect((await issuer.credential(id)).version).toBe(2);
    expect(await options.notices.waiting(broker, id)).toHaveLength(1);
    await expect(issuer.changeStanding('urn:uuid:x', { change: 'revoked', reason: 'x' })).rejects.toMatchObject({
      code: 'not-found',
    });
  });

  test('notices of one credential are published in their order, with times that only grow, until they are heard', async () => {
    const { issuer, issue, clock } = await world();
    const { id } = await issue();
    clock.advance(60_000);
    const date = clock.now() + day;
    await issuer.changeStanding(id, { change: 'suspended', reason: 'one', effectiveAt: date });
    clock.advance(-30_000); // the clock jumps back
    await issuer.changeStanding(id, { change: 'reinstated', reason: 'two' });
    await issuer.changeStanding(id, { change: 'revoked', reason: 'three' });
    const heard: GeneralJws[] = [];
    let faults = 1;
    const handler = issuer.standingHandler({
      publish: async (notice) => {
        await new Promise((resolve) => setImmediate(resolve));
        if (heard.length === 1 && faults > 0) {
          faults -= 1;
          throw new Error('the broker does not answer');
        }
        heard.push(notice);
      },
    });
    const run = () =>
      handler({ id: '', topic: '', participant: broker, subject: id, attempts: 0 }).catch(() => 'later');
    expect(await Promise.all([run(), run(), run()])).toEqual(['later', 'done', 'done']);
    const notices = heard.map((one) => {
      const read = readStandingNotice(one);
      if (!read.ok) throw new Error(read.reason);
      return read.value.value;
    });
    expect(notices.map(({ type, reason }) => `${type} ${reason}`)).toEqual([
      'suspended one',
      'reinstated two',
      'revoked three',
    ]);
    const times = notices.map(({ at }) => Date.parse(at));
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(new Set(times).size).toBe(3);
    expect(Date.parse(notices[0]?.effectiveAt ?? '')).toBe(date);
    expect(notices[2]?.effectiveAt).toBe(notices[2]?.at);
    expect(notices.every(({ subject, issuer: by }) => subject === id && by === broker)).toBe(true);
  });
});

describe('status lists', () => {
  test('are signed again when a bit changed or half of their life is over, and not before', async () => {
    const { issuer, issue, clock } = await world();
    const { id } = await issue();
    const first = await issuer.statusList('suspension-1');
    clock.advance(60_000);
    expect(await issuer.statusList('suspension-1')).toEqual(first);
    await issuer.changeStanding(id, { change: 'suspended', reason: 'x' });
    const changed = await issuer.statusList('suspension-1');
    expect(changed.jwt).not.toBe(first.jwt);
    clock.advance(8 * 60_000);
    expect((await issuer.statusList('suspension-1')).jwt).not.toBe(changed.jwt);
  });

  test.each(['revocation-2', 'revocation-0', 'revocation-01', 'other-1', 'revocation-1x', '../revocation-1', ''])(
    'there is none named "%s"',
    async (name) => {
      const { issuer, issue } = await world();
      await issue();
      await expect(issuer.statusList(name)).rejects.toMatchObject({ code: 'not-found' });
    },
  );

  test('places are spread over the list and never given twice', async () => {
    const { issuer, its, clock } = await world();
    const seen = new Set<number>();
    for (let count = 0; count < 40; count += 1) {
      its.roles = [`role-${count}`];
      const id = await issuer.receive(
        { did: alice, accessToken: undefined },
        { holderPid: 'p', credentials: [{ id: membership }] },
      );
      await issuer.issuanceHandler({ id, topic: '', participant: broker, subject: id, attempts: 0 });
      clock.advance(1);
    }
    for (const { places } of await issuer.page({ after: '', limit: 99 })) seen.add(places.revocation.index);
    expect(seen.size).toBe(40);
    expect(Math.max(...seen) - Math.min(...seen)).toBeGreaterThan(65_536);
  });
});
