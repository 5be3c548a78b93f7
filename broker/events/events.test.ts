import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEventStream } from '../../connector/adapters/http/event-stream.ts';
import { type BrokerMessage, readBrokerMessage, standingNoticeText } from '../../contracts/events.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import { formatTime } from '../../contracts/time.ts';
import { isAssertionOf, signedBy } from '../../kernel/assertions.ts';
import { manualClock, systemClock } from '../../kernel/clock.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { type EventBroker, startEventBroker } from '../../test/support/hub-events.ts';
import { type HubParty, noticeOf, startHubParty } from '../../test/support/hub-parties.ts';

const clock = manualClock(systemClock.now());
let broker: EventBroker;
let issuer: HubParty;
let member: HubParty;

beforeAll(async () => {
  [broker, issuer, member] = await Promise.all([
    startEventBroker({ clock }),
    startHubParty({ clock }),
    startHubParty({ clock }),
  ]);
  broker.members.add(member.did);
  broker.accreditors.add(issuer.did);
});
afterAll(async () => {
  for (const party of [broker, issuer, member]) await party[Symbol.asyncDispose]();
});

interface Heard {
  readonly message: BrokerMessage;
  readonly jws: GeneralJws;
}

/** Listens as a member, and keeps what it hears. */
const listen = (by: HubParty, lastEventId: number | null, at: EventBroker = broker) => {
  const heard: Heard[] = [];
  const connection = createEventStream({
    client: by.client,
    tokens: by.tokens,
    broker: at.party.did,
    url: `${at.party.origin}/events`,
  })(lastEventId);
  const ended = (async () => {
    for await (const data of connection.messages) {
      const read = readBrokerMessage(JSON.parse(data));
      if (!read.ok) throw new Error(read.reason);
      heard.push({ message: read.value.value, jws: read.value.jws });
    }
    return 'ended';
  })().catch((error: { readonly code?: string }) => error.code ?? String(error));
  const until = (holds: (messages: readonly BrokerMessage[]) => boolean) =>
    eventually(async () => heard.map(({ message }) => message), holds);
  return { heard, until, close: connection.close, ended };
};

const handIn = async (
  notice: unknown,
  by: HubParty = issuer,
  headers: Record<string, string> = {},
): Promise<{ readonly status: number; readonly body: string }> => {
  const answer = await by.client.request({
    method: 'POST',
    url: `${broker.party.origin}/events`,
    headers: {
      authorization: by.tokens.tokenFor({ audience: broker.party.did }),
      'content-type': 'application/json',
      ...headers,
    },
    body: typeof notice === 'string' ? notice : JSON.stringify(notice),
    timeoutMs: 10_000,
    maxBytes: 65_536,
  });
  return { status: answer.status, body: Buffer.from(answer.body).toString('utf8') };
};

let count = 0;
const fresh = (): string => {
  count += 1;
  return `urn:uuid:c-${count}`;
};
const revocation = (subject = fresh(), by: HubParty = issuer) =>
  noticeOf(by, { type: 'revoked', subject }, clock.now());
const typesOf = (messages: readonly BrokerMessage[]) => messages.map(({ type }) => type);

describe('the stream', () => {
  test('begins with a snapshot and a heartbeat, each signed by the broker', async () => {
    const line = listen(member, null);
    await line.until((messages) => messages.length >= 2);
    line.close();
    expect(typesOf(line.heard.slice(0, 2).map(({ message }) => message))).toEqual(['snapshot', 'heartbeat']);
    for (const { jws } of line.heard) {
      const its = { index: 0, did: broker.party.did, typ: 'stekker-event+jws' } as const;
      expect(await isAssertionOf(member.resolver, jws, its)).toBe(true);
    }
  });

  test('carries an issuer’s word as it came, at once', async () => {
    const line = listen(member, null);
    await line.until((messages) => messages.length >= 2);
    const notice = revocation();
    expect((await handIn(notice)).status).toBe(201);
    const messages = await line.until((all) => all.length >= 3);
    line.close();
    const first = messages[0];
    expect(messages[2]).toMatchObject({ type: 'revoked', n: (first?.n ?? 0) + 1, evidence: notice });
  });

  test('beats every second with a time that grows, signed once for all who are equally far', async () => {
    const lines = [listen(member, null), listen(member, null)];
    for (const line of lines) await line.until((messages) => messages.length >= 2);
    clock.advance(1_000);
    for (const line of lines) await line.until((messages) => messages.length >= 3);
    clock.advance(-500);
    clock.advance(1_500);
    const [one, other] = await Promise.all(lines.map((line) => line.until((messages) => messages.length >= 4)));
    for (const line of lines) line.close();
    const times = (one ?? []).map(({ at }) => at);
    expect([...times].sort()).toEqual(times);
    expect(new Set(times).size).toBe(times.length);
    expect(other?.slice(2)).toEqual(one?.slice(2));
    expect(lines[0]?.heard[3]?.jws).toEqual(lines[1]?.heard[3]?.jws);
  });

  test('goes on behind the last event that was heard', async () => {
    const before = listen(member, null);
    const [snapshot] = await before.until((messages) => messages.length >= 2);
    before.close();
    await before.ended;
    const subjects = [fresh(), fresh()];
    for (const subject of subjects) await handIn(revocation(subject));
    const line = listen(member, snapshot?.n ?? 0);
    const messages = await line.until((all) => all.length >= 3);
    line.close();
    expect(messages.slice(0, 2).map((one) => 'subject' in one && one.subject)).toEqual(subjects);
    expect(messages[2]).toMatchObject({ type: 'heartbeat', n: (snapshot?.n ?? 0) + 2 });
  });

  test('begins with a snapshot for who was away for over a day, or counts further than it can', async () => {
    const before = listen(member, null);
    const [snapshot] = await before.until((messages) => messages.length >= 2);
    before.close();
    await before.ended;
    const subject = fresh();
    await handIn(revocation(subject));
    await broker
      .events()
      .publish(noticeOf(broker.party, { type: 'revoked', subject: 'urn:uuid:membership-1' }, clock.now()));
    const rows = broker.sqlite.db.updateTable('event').set({ at: clock.now() - 25 * 3_600_000 });
    await rows.execute();
    await broker.stop();
    await broker.start();
    clock.advance(1_000);
    await eventually(
      async () => (await broker.sqlite.db.selectFrom('event').select('seq').execute()).length,
      (left) => left === 0,
    );
    const late = listen(member, snapshot?.n ?? 0);
    const [again] = await late.until((all) => all.length >= 2);
    expect(again).toMatchObject({ type: 'snapshot', n: (snapshot?.n ?? 0) + 2 });
    expect(JSON.stringify(again)).toContain(subject);
    const ahead = listen(member, 1_000_000);
    expect((await ahead.until((all) => all.length >= 2))[0]?.type).toBe('snapshot');
    late.close();
    ahead.close();
  });

  test('is for members: a stranger is refused, and who was one is left', async () => {
    const stranger = await startHubParty({ clock });
    expect(await listen(stranger, null).ended).toBe('forbidden');
    broker.members.add(stranger.did);
    const line = listen(stranger, null);
    await line.until((messages) => messages.length >= 2);
    broker.members.delete(stranger.did);
    for (let beat = 0; beat < 31; beat += 1) {
      clock.advance(1_000);
      await systemClock.sleep(2);
    }
    expect(await line.ended).toBe('ended');
    await stranger[Symbol.asyncDispose]();
  });

  test('asks for a token, and takes it once', async () => {
    const authorization = member.tokens.tokenFor({ audience: broker.party.did });
    const ask = (headers: Record<string, string>) =>
      member.client.request({
        method: 'POST',
        url: `${broker.party.origin}/events`,
        headers: { 'content-type': 'application/json', ...headers },
        body: '{}',
        timeoutMs: 5_000,
        maxBytes: 65_536,
      });
    expect((await ask({})).status).toBe(401);
    expect((await ask({ authorization })).status).toBe(400);
    expect((await ask({ authorization })).status).toBe(401);
  });

  test('a member that connects too often, or an issuer that says too much, waits', async () => {
    await using small = await startEventBroker({ clock, limits: { maxOpensPerMinute: 2, maxNoticesPerMinute: 1 } });
    small.members.add(member.did);
    small.accreditors.add(issuer.did);
    for (let index = 0; index < 2; index += 1) {
      const line = listen(member, null, small);
      await line.until((messages) => messages.length >= 2);
      line.close();
      await line.ended;
    }
    expect(await listen(member, null, small).ended).toBe('fetch-failed');
    await small.events().accept(revocation(), issuer.did);
    await expect(small.events().accept(revocation(), issuer.did)).rejects.toMatchObject({ code: 'too-many-requests' });
    clock.advance(60_000);
    await small.events().accept(revocation(), issuer.did);
  });
});

describe('notices of issuers', () => {
  test('the same notice is one event, also with another signature', async () => {
    const head = async () => (await broker.sqlite.db.selectFrom('event_head').select('seq').executeTakeFirst())?.seq;
    const notice = revocation();
    expect((await handIn(notice)).status).toBe(201);
    const after = await head();
    expect((await handIn(notice)).status).toBe(200);
    expect((await handIn({ signatures: notice.signatures, payload: notice.payload })).status).toBe(200);
    expect(await head()).toBe(after);
  });

  test('what another process took reaches the streams of this one: at once by its word, or with the next beat', async () => {
    const line = listen(member, null);
    await line.until((messages) => messages.length >= 2);
    for (const isHeard of [true, false]) {
      await using twin = await broker.twin(isHeard);
      const subject = fresh();
      const has = () => line.heard.some(({ message }) => message.type === 'revoked' && message.subject === subject);
      expect(await twin.accept(noticeOf(issuer, { type: 'revoked', subject }, clock.now()), issuer.did)).toBe(true);
      if (!isHeard) {
        await systemClock.sleep(50);
        expect(has()).toBe(false);
        clock.advance(1_000);
      }
      await line.until(has);
    }
    line.close();
  });

  test('two that are handed in at once are both kept, in one order for all', async () => {
    const line = listen(member, null);
    await line.until((messages) => messages.length >= 2);
    const notices = Array.from({ length: 20 }, () => revocation());
    const answers = await Promise.all(notices.map((notice) => handIn(notice)));
    expect(answers.map(({ status }) => status)).toEqual(notices.map(() => 201));
    const messages = await line.until((all) => all.filter(({ type }) => type === 'revoked').length === 20);
    line.close();
    const numbers = messages.filter(({ type }) => type === 'revoked').map(({ n }) => n);
    expect(numbers).toEqual(numbers.map((_, index) => (numbers[0] ?? 0) + index));
  });

  test.each([
    ['of somebody else', () => noticeOf(issuer, { type: 'revoked', subject: fresh() }), () => member, 403],
    ['of an issuer that is not recognised', () => revocation(fresh(), member), () => member, 403],
    [
      'signed by another',
      () => noticeOf({ keys: member.keys, did: issuer.did }, { type: 'revoked', subject: fresh() }, clock.now()),
      () => issuer,
      403,
    ],
    ['about a credential of the broker', () => revocation('urn:uuid:membership-9'), () => issuer, 403],
    ['about a participant', () => revocation(member.did), () => issuer, 403],
    ['about an address of somebody else', () => revocation(`${member.origin}/credentials/1`), () => issuer, 403],
    [
      'of the future',
      () => noticeOf(issuer, { type: 'revoked', subject: fresh() }, clock.now() + 3_600_000),
      () => issuer,
      403,
    ],
    ['of an unknown form', () => ({ hello: 'world' }), () => issuer, 400],
    ['that is no JSON', () => '{"a":', () => issuer, 400],
    ['with a key twice', () => '{"payload":"","payload":""}', () => issuer, 400],
    ['that is too large', () => JSON.stringify({ a: 'x'.repeat(70_000) }), () => issuer, 413],
    [
      'with two signatures',
      () => {
        const one = revocation();
        return { ...one, signatures: [...one.signatures, ...one.signatures] };
      },
      () => issuer,
      400,
    ],
    [
      'with a member of its own',
      () =>
        signedBy(
          issuer.keys,
          standingNoticeText({
            v: 1,
            type: 'revoked',
            issuer: issuer.did,
            subject: 'urn:uuid:x',
            at: formatTime(clock.now()),
            effectiveAt: formatTime(clock.now()),
            reason: '',
            extra: 'x',
          } as never),
          'stekker-event+jws',
        ),
      () => issuer,
      400,
    ],
  ])('a notice %s is refused', async (_name, make, by, status) => {
    const answer = await handIn(make(), by());
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.body)).toMatchObject({ status });
  });

  test('a revocation is final, and a late word changes nothing', async () => {
    const subject = fresh();
    const say = (type: 'suspended' | 'reinstated' | 'revoked', ms: number) =>
      handIn(noticeOf(issuer, { type, subject }, ms));
    const now = clock.now();
    expect((await say('suspended', now)).status).toBe(201);
    expect((await say('reinstated', now - 10)).status).toBe(200);
    expect((await say('reinstated', now + 10)).status).toBe(201);
    expect((await say('revoked', now - 20)).status).toBe(201);
    expect((await say('reinstated', now + 30)).status).toBe(403);
    expect((await say('suspended', now - 30)).status).toBe(200);
  });

  test('the broker publishes only its own notices', async () => {
    await expect(broker.events().publish(revocation())).rejects.toMatchObject({ code: 'invariant-broken' });
  });

  test('the end of an agreement is said once', async () => {
    const digest = 'B'.repeat(43);
    const end = { type: 'agreement-ended', subject: digest, audience: [member.did] } as const;
    const head = async () => (await broker.sqlite.db.selectFrom('event_head').select('seq').executeTakeFirst())?.seq;
    await broker.events().announce({ ...end, key: '1' });
    const after = await head();
    await broker.events().announce({ ...end, key: '1' });
    await broker.events().announce({ ...end, key: '2' });
    expect(await head()).toBe(after);
  });
});
