import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEventStream } from '../../connector/adapters/http/event-stream.ts';
import type { Standing } from '../../connector/data-plane/ports.ts';
import type { Status } from '../../connector/status/service.ts';
import { eventually } from '../support/dsp-pair.ts';
import { type EventBroker, follow, openStatusStore, startEventBroker } from '../support/hub-events.ts';
import { type HubParty, noticeOf, startHubParty } from '../support/hub-parties.ts';

let broker: EventBroker;
let accreditor: HubParty;
let connector: HubParty;

beforeAll(async () => {
  [broker, accreditor, connector] = await Promise.all([startEventBroker(), startHubParty(), startHubParty()]);
  broker.members.add(connector.did);
  broker.accreditors.add(accreditor.did);
});
afterAll(async () => {
  await connector[Symbol.asyncDispose]();
  await accreditor[Symbol.asyncDispose]();
  await broker[Symbol.asyncDispose]();
});

const stateOf = (status: Status, subject: string) => status.check([subject], 'strict').state;
const until = (status: Status, subject: string, state: string) =>
  eventually(
    async () => stateOf(status, subject),
    (now) => now === state,
  );

/** Hands in a notice as an accreditor does. */
const handIn = (notice: unknown, by: HubParty) =>
  by.client.request({
    method: 'POST',
    url: `${broker.party.origin}/events`,
    headers: {
      authorization: by.tokens.tokenFor({ audience: broker.party.did }),
      'content-type': 'application/json',
    },
    body: JSON.stringify(notice),
    timeoutMs: 10_000,
    maxBytes: 65_536,
  });

describe('events from broker to connector', () => {
  test('a revocation of the broker and one of an accreditor reach a follower at once', async () => {
    await using status = await follow(connector, broker.party, { accreditors: [accreditor.did] });
    const standing: Standing = status;
    await until(status, 'urn:uuid:membership-1', 'good');
    let calls = 0;
    standing.onChange(() => {
      calls += 1;
    });
    await broker.events().publish(noticeOf(broker.party, { type: 'revoked', subject: 'urn:uuid:membership-1' }));
    await until(status, 'urn:uuid:membership-1', 'revoked');
    const answer = await handIn(noticeOf(accreditor, { type: 'revoked', subject: 'urn:uuid:a-1' }), accreditor);
    expect(answer.status).toBe(201);
    await until(status, 'urn:uuid:a-1', 'revoked');
    expect(calls).toBeGreaterThanOrEqual(2);
    expect(stateOf(status, 'urn:uuid:membership-2')).toBe('good');
  });

  test('a suspension gives notice until its date, and a reinstatement takes it back', async () => {
    await using status = await follow(connector, broker.party, { accreditors: [accreditor.did] });
    await until(status, 'urn:uuid:s-1', 'good');
    const far = '2999-01-01T00:00:00.000Z';
    await handIn(noticeOf(accreditor, { type: 'suspended', subject: 'urn:uuid:s-1', effectiveAt: far }), accreditor);
    await eventually(
      async () => status.isSuspended('urn:uuid:s-1'),
      (is) => is,
    );
    expect(stateOf(status, 'urn:uuid:s-1')).toBe('good');
    await handIn(noticeOf(accreditor, { type: 'reinstated', subject: 'urn:uuid:s-1' }), accreditor);
    await eventually(
      async () => status.isSuspended('urn:uuid:s-1'),
      (is) => !is,
    );
    await handIn(noticeOf(accreditor, { type: 'suspended', subject: 'urn:uuid:s-1' }), accreditor);
    await until(status, 'urn:uuid:s-1', 'revoked');
  });

  test('what was said while the connector was away is told when it comes back', async () => {
    const store = await openStatusStore();
    {
      await using status = await follow(connector, broker.party, { store });
      await until(status, 'urn:uuid:membership-5', 'good');
    }
    await broker.events().publish(noticeOf(broker.party, { type: 'revoked', subject: 'urn:uuid:membership-5' }));
    await using status = await follow(connector, broker.party, { store });
    await until(status, 'urn:uuid:membership-5', 'revoked');
    expect(status.view().n).toBeGreaterThan(0);
  });

  test('a connector that comes anew learns everything in force from the snapshot', async () => {
    await broker.events().publish(noticeOf(broker.party, { type: 'revoked', subject: 'urn:uuid:membership-6' }));
    await using status = await follow(connector, broker.party);
    expect(stateOf(status, 'urn:uuid:other')).toBe('unknown');
    await until(status, 'urn:uuid:membership-6', 'revoked');
    await until(status, 'urn:uuid:other', 'good');
  });

  test('the end of an agreement reaches its parties and nobody else', async () => {
    await using other = await startHubParty();
    broker.members.add(other.did);
    await using status = await follow(connector, broker.party);
    await using bystander = await follow(other, broker.party);
    await until(status, 'x', 'good');
    await until(bystander, 'x', 'good');
    const digest = 'A'.repeat(43);
    await broker
      .events()
      .announce({ type: 'agreement-ended', subject: digest, key: digest, audience: [connector.did] });
    await until(status, digest, 'revoked');
    await broker.events().publish(noticeOf(broker.party, { type: 'revoked', subject: 'urn:uuid:membership-7' }));
    await until(bystander, 'urn:uuid:membership-7', 'revoked');
    await until(status, 'urn:uuid:membership-7', 'revoked');
    expect(stateOf(bystander, digest)).toBe('good');
    expect(status.view().n).toBe((bystander.view().n ?? 0) + 1);
  });

  test('a broker that restarts is followed on, and nothing said in between is lost', async () => {
    await using status = await follow(connector, broker.party);
    await until(status, 'urn:uuid:membership-8', 'good');
    await broker.stop();
    await broker.start();
    await broker.events().publish(noticeOf(broker.party, { type: 'revoked', subject: 'urn:uuid:membership-8' }));
    await until(status, 'urn:uuid:membership-8', 'revoked');
    await eventually(
      async () => status.view().isSilent,
      (is) => !is,
    );
  });

  test('a stranger is not listened to and may not listen', async () => {
    await using stranger = await startHubParty();
    const open = createEventStream({
      client: stranger.client,
      tokens: stranger.tokens,
      broker: broker.party.did,
      url: `${broker.party.origin}/events`,
    });
    const hear = async () => {
      for await (const _ of open(null).messages) return 'heard';
      return 'nothing';
    };
    await expect(hear()).rejects.toMatchObject({ code: 'forbidden' });
    const answer = await handIn(noticeOf(stranger, { type: 'revoked', subject: 'urn:uuid:a-2' }), stranger);
    expect(answer.status).toBe(403);
  });
});
