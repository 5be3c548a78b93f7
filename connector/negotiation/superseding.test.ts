import { describe, expect, test } from 'vitest';
import type { Json } from '../../contracts/json.ts';
import { readAgreementEvent } from '../../contracts/ledger/agreement.ts';
import { jwsText } from '../../contracts/ledger/jws.ts';
import { endedOn, idOf, inForce, type Pair, pair, rowOf } from '../../test/support/agreement-pair.ts';
import { eventually, ordinary, type Party, rainOffer, tenant } from '../../test/support/dsp-pair.ts';
import type { Decision, NegotiationRow } from './ports.ts';
import { successionReason } from './rules.ts';

const digestOf = (row: NegotiationRow): string => row.data.agreement?.digest ?? '';
const statusOf = async (party: Party, row: NegotiationRow) => (await rowOf(party, row)).data.status;

/** Asks for the new agreement as the consumer, or offers it as the provider. */
const amend = async (world: Pair, who: 'provider' | 'consumer', old: NegotiationRow): Promise<NegotiationRow> => {
  if (who === 'consumer') return world.negotiate(inForce, idOf(old));
  const { provider, consumer } = world;
  const { pid } = await provider.negotiations.offer({
    participant: tenant,
    consumer: consumer.did,
    consumerBase: consumer.base,
    dataset: rainOffer.dataset,
    offerId: rainOffer.id,
    amends: idOf(old),
  });
  return eventually(() => provider.negotiations.find(tenant, pid), inForce);
};

const post = async (to: Party, agreementId: string, body: Json, from: string): Promise<Response> =>
  to.app.fetch(
    new Request(`${new URL(to.base).origin}/ext/1/agreements/${encodeURIComponent(agreementId)}/events`, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', authorization: from },
    }),
  );

/** A consumer whose own messages are lost from the moment in which the next agreement comes into force. */
const cutWhenInForce = () => {
  let [isArmed, isCut] = [false, false];
  return {
    options: {
      fate: () => (isCut ? ('lose' as const) : ('deliver' as const)),
      hear: {
        inForce: async () => {
          isCut = isArmed;
        },
      },
    },
    arm: () => {
      isArmed = true;
    },
    mend: () => {
      isCut = false;
    },
  };
};

describe('amending an agreement', () => {
  test.each(['provider', 'consumer'] as const)(
    'asked for by the %s: the old one is superseded on both sides, signed by both, and what runs is terminated',
    async (who) => {
      await using world = await pair();
      const { provider, consumer } = world;
      const old = await world.negotiate();
      const { pid } = await consumer.transfers.request({
        participant: tenant,
        agreementId: idOf(old),
        format: 'StekkerHttp-PULL',
        providerBase: provider.base,
      });
      await eventually(
        () => consumer.transfers.find(tenant, pid),
        (row) => row.process.state === 'STARTED',
      );
      const next = await amend(world, who, old);
      const [mine, theirs] = [await endedOn(provider, old), await endedOn(consumer, old)];
      for (const row of [mine, theirs])
        expect([row.process.state, row.data.status]).toEqual(['FINALIZED', 'superseded']);
      expect(mine.data.end?.artifact).toEqual(theirs.data.end?.artifact);
      const event = readAgreementEvent(mine.data.end?.artifact);
      expect(event.ok && event.value.value).toMatchObject({
        event: 'end',
        agreementDigest: digestOf(old),
        reason: successionReason(digestOf(next)),
      });
      expect(mine.data.end?.artifact?.signatures).toHaveLength(2);
      const closed = await eventually(
        () => consumer.transfers.find(tenant, pid),
        ({ process }) => process.state === 'TERMINATED' && process.pending === null,
      );
      expect(closed.data.ending?.code).toBe('agreement-ended');
      expect([await statusOf(provider, next), await statusOf(consumer, next)]).toEqual(['in-force', 'in-force']);
      const shown = await provider.app.fetch(
        new Request(`${new URL(provider.base).origin}/ext/1/agreements/${encodeURIComponent(idOf(old))}`, {
          headers: { authorization: consumer.did },
        }),
      );
      expect(await shown.json()).toMatchObject({ status: 'superseded', successor: digestOf(next) });
    },
  );

  test('leaves the old one in force until the other side has acknowledged the new one', async () => {
    const line = cutWhenInForce();
    await using world = await pair({}, line.options);
    const { provider, consumer } = world;
    const old = await world.negotiate();
    line.arm();
    await world.negotiate(inForce, idOf(old));
    const waiting = await eventually(
      () => rowOf(consumer, old),
      (row) => row.data.end !== null,
    );
    expect([waiting.data.status, waiting.data.end?.waits]).toEqual(['in-force', true]);
    expect(await statusOf(provider, old)).toBe('in-force');
    expect([consumer.ended, consumer.endSigned]).toEqual([[], []]);
    line.mend();
    await endedOn(consumer, old);
    expect([await statusOf(provider, old), await statusOf(consumer, old)]).toEqual(['superseded', 'superseded']);
  });

  test('bears lost answers and repeats', async () => {
    for (const fate of ['lose-answer', 'repeat'] as const) {
      let sent = 0;
      await using world = await pair({}, { fate: () => (++sent % 2 === 0 ? fate : 'deliver') });
      const old = await world.negotiate();
      await world.negotiate(inForce, idOf(old));
      const [mine, theirs] = [await endedOn(world.provider, old), await endedOn(world.consumer, old)];
      expect(mine.data.end?.artifact).toEqual(theirs.data.end?.artifact);
    }
  });

  test('does not end the old one when nothing comes of the new negotiation', async () => {
    const refusing = (row: NegotiationRow): Decision =>
      row.process.role === 'provider' && row.process.state === 'REQUESTED' && refused
        ? { do: 'terminate', code: 'no', reason: [] }
        : ordinary(row);
    let refused = false;
    await using world = await pair({ decide: refusing });
    const old = await world.negotiate();
    refused = true;
    await world.negotiate((row) => row.process.state === 'TERMINATED', idOf(old));
    expect([await statusOf(world.provider, old), await statusOf(world.consumer, old)]).toEqual([
      'in-force',
      'in-force',
    ]);
  });

  test('is refused for a successor that is not known, is about something else, or is not in force', async () => {
    await using world = await pair();
    const { provider, consumer } = world;
    const [old, next] = [await world.negotiate(), await world.negotiate()];
    const event = async (successor: string) => {
      const made = await consumer.agreements.ends.make(await rowOf(consumer, old), {
        event: 'end',
        reason: successionReason(successor),
      });
      if (made.artifact === null || made.leafKey === null) throw new Error('no event was made');
      const body = { artifact: made.artifact, leafKey: made.leafKey } as unknown as Json;
      const answer = await post(provider, idOf(old), body, consumer.did);
      return { status: answer.status, body: await answer.text(), text: jwsText(made.artifact) };
    };
    expect((await event('A'.repeat(43))).status).toBe(400);
    expect((await event('')).status).toBe(400);
    await provider.negotiations.end(tenant, idOf(next), '');
    expect((await event(digestOf(next))).status).toBe(400);
    expect(await statusOf(provider, old)).toBe('in-force');
    const third = await world.negotiate();
    expect((await event(digestOf(third))).status).toBe(200);
    expect(await statusOf(provider, old)).toBe('superseded');
  });

  test('that the peer refuses leaves the old one in force here as well', async () => {
    await using world = await pair();
    const old = await world.negotiate();
    const next = await world.negotiate();
    await eventually(() => rowOf(world.provider, next), inForce);
    // The provider ends the new one in the moment in which the consumer names it as the successor.
    await world.provider.crash();
    const { exchange } = world.consumer.negotiations;
    const row = await rowOf(world.consumer, next);
    await exchange.store.save({
      row: { ...row, data: { ...row.data, amends: { agreement: idOf(old), done: false } }, version: row.version + 1 },
      send: false,
      work: false,
    });
    await world.provider.negotiations.end(tenant, idOf(next), '');
    await world.consumer.negotiations.handlers['negotiations-work']({
      id: 'x',
      topic: 'negotiations-work',
      participant: tenant,
      subject: next.pid,
      attempts: 0,
    });
    exchange.wake();
    await eventually(
      () => rowOf(world.consumer, next),
      ({ data }) => data.amends?.done === true,
    );
    const after = await eventually(
      () => rowOf(world.consumer, old),
      ({ data }) => data.end === null,
    );
    expect(after.data.status).toBe('in-force');
    expect(await statusOf(world.provider, old)).toBe('in-force');
  });

  test('an owner who does not want to wait for the acknowledgement ends the old one at once', async () => {
    const line = cutWhenInForce();
    await using world = await pair({}, line.options);
    const old = await world.negotiate();
    line.arm();
    const next = await world.negotiate(inForce, idOf(old));
    await eventually(
      () => rowOf(world.consumer, old),
      ({ data }) => data.end?.waits === true,
    );
    const ended = await world.consumer.negotiations.end(tenant, idOf(old), 'now');
    expect(ended.data.status).toBe('superseded');
    expect(world.consumer.ended).toContain(old.pid);
    line.mend();
    await endedOn(world.consumer, old);
    expect(await statusOf(world.provider, old)).toBe('superseded');
    expect(next.data.amends?.agreement).toBe(idOf(old));
  });

  test('under plain-dsp, where nothing is signed by both, is a matter of the one who asks', async () => {
    await using world = await pair({}, {}, 'plain-dsp');
    const old = await world.negotiate();
    await world.negotiate(inForce, idOf(old));
    await eventually(
      () => rowOf(world.consumer, old),
      ({ data }) => data.status === 'superseded',
    );
  });
});
