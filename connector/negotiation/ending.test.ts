import { describe, expect, test } from 'vitest';
import { toBase64Url } from '../../contracts/bytes.ts';
import type { Json } from '../../contracts/json.ts';
import { agreementEventText, readAgreementEvent } from '../../contracts/ledger/agreement.ts';
import { jwsText } from '../../contracts/ledger/jws.ts';
import { formatTime } from '../../contracts/time.ts';
import { makeLeafKey } from '../../kernel/assertions.ts';
import { systemClock } from '../../kernel/clock.ts';
import { endedOn, idOf, inForce, type Pair, pair, rowOf } from '../../test/support/agreement-pair.ts';
import {
  consumerKey,
  eventually,
  ordinary,
  type Party,
  type PartyOptions,
  providerKey,
  tenant,
} from '../../test/support/dsp-pair.ts';
import type { TestKey } from '../../test/support/keys.ts';
import { signAs } from '../../test/support/ledger-world.ts';
import type { NegotiationRow } from './ports.ts';

const startTransfer = async ({ provider, consumer }: Pair, agreement: NegotiationRow): Promise<string> => {
  const { pid } = await consumer.transfers.request({
    participant: tenant,
    agreementId: idOf(agreement),
    format: 'StekkerHttp-PULL',
    providerBase: provider.base,
  });
  await eventually(
    () => consumer.transfers.find(tenant, pid),
    (row) => row.process.state === 'STARTED',
  );
  return pid;
};

/** The different events that a party would have registered. */
const eventsOf = (party: Party): Set<string> =>
  new Set(party.endSigned.map(({ data }) => (data.end?.artifact == null ? '' : jwsText(data.end.artifact))));

const post = async (to: Party, agreementId: string, body: Json, from: string): Promise<Response> =>
  to.app.fetch(
    new Request(`${new URL(to.base).origin}/ext/1/agreements/${encodeURIComponent(agreementId)}/events`, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', authorization: from },
    }),
  );

const show = async (from: Party, to: Party, agreementId: string): Promise<Response> =>
  to.app.fetch(
    new Request(`${new URL(to.base).origin}/ext/1/agreements/${encodeURIComponent(agreementId)}`, {
      headers: { authorization: from.did },
    }),
  );

describe('the agreements of a caller', () => {
  const list = async (from: string, to: Party, cursor = '') => {
    const url = `${new URL(to.base).origin}/ext/1/agreements${cursor === '' ? '' : `?cursor=${cursor}`}`;
    const answer = await to.app.fetch(new Request(url, { headers: { authorization: from } }));
    return { status: answer.status, ...JSON.parse(await answer.text()) } as {
      readonly status: number;
      readonly agreements: readonly { readonly id: string; readonly status: string }[];
      readonly cursor: string | null;
    };
  };

  test('are listed for it alone, with their status, in the order in which they were made', async () => {
    await using world = await pair();
    const { provider, consumer } = world;
    const rows = [await world.negotiate(), await world.negotiate(), await world.negotiate()];
    await provider.negotiations.end(tenant, idOf(rows[1] as NegotiationRow), '');
    const ids = rows.map(idOf);
    const { agreements, cursor } = await list(consumer.did, provider);
    expect(agreements.map(({ id, status }) => [id, status])).toEqual([
      [ids[0], 'in-force'],
      [ids[1], 'ended'],
      [ids[2], 'in-force'],
    ]);
    expect(agreements[0]).toEqual({
      id: ids[0],
      agreementDigest: rows[0]?.data.agreement?.digest,
      role: 'consumer',
      status: 'in-force',
    });
    expect(cursor).toBeNull();
    expect((await list(provider.did, consumer)).agreements.map(({ id }) => id)).toEqual(ids);
    expect((await list('did:web:stranger.example', provider)).agreements).toEqual([]);
    expect((await list('nobody', provider)).status).toBe(401);
    expect((await list(consumer.did, provider, 'x'.repeat(600))).status).toBe(400);
  });

  test('come in pages, and are not there before they are in force', async () => {
    await using world = await pair({
      decide: (row) => (row.process.state === 'VERIFIED' ? { do: 'wait' } : ordinary(row)),
    });
    const { provider, consumer } = world;
    const signed = await world.negotiate((row) => row.process.state === 'VERIFIED');
    const { store } = provider.negotiations.exchange;
    expect((await list(consumer.did, provider)).agreements).toEqual([]);
    const row = await rowOf(provider, signed);
    for (let index = 0; index < 120; index += 1) {
      const pid = `urn:uuid:1${String(index).padStart(3, '0')}`;
      const agreement = {
        ...row.data.agreement,
        agreement: { '@id': `urn:a:${index}` },
        digest: '',
        artifact: null,
        leafKey: null,
      };
      const data = { ...row.data, status: 'in-force' as const, agreement };
      await store.save({
        row: { ...row, pid, version: 1, data },
        groups: { agreed: consumer.did },
        send: false,
        work: false,
      });
    }
    const first = await list(consumer.did, provider);
    const last = await list(consumer.did, provider, first.cursor ?? '');
    expect([...first.agreements, ...last.agreements]).toHaveLength(120);
    expect([first.cursor, last.cursor]).toEqual([expect.any(String), null]);
    expect(await show(consumer, provider, idOf(signed))).toMatchObject({ status: 404 });
  });
});

describe('the end of an agreement', () => {
  test.each(['provider', 'consumer'] as const)(
    'decided by the %s, is signed by both and stops what runs',
    async (who) => {
      await using world = await pair();
      const { provider, consumer } = world;
      const row = await world.negotiate();
      const transfer = await startTransfer(world, row);
      const decided = await world[who].negotiations.end(tenant, idOf(row), 'no longer needed');
      expect(decided.data.status).toBe('ended');
      const [mine, theirs] = [await endedOn(provider, row), await endedOn(consumer, row)];
      expect(mine.data.end?.artifact).toEqual(theirs.data.end?.artifact);
      const event = readAgreementEvent(mine.data.end?.artifact);
      expect(event.ok && event.value.value).toMatchObject({
        event: 'end',
        agreementDigest: row.data.agreement?.digest,
        reason: 'no longer needed',
      });
      const other = who === 'provider' ? consumer : provider;
      expect(event.ok && event.value.signatures.map(({ kid }) => kid)).toEqual([
        `${world[who].did}#s`,
        `${other.did}#s`,
      ]);
      for (const its of [mine, theirs]) {
        expect([its.process.state, its.data.status, its.data.end?.leafKey]).toEqual(['FINALIZED', 'ended', null]);
      }
      const closed = await eventually(
        () => consumer.transfers.find(tenant, transfer),
        ({ process }) => process.state === 'TERMINATED' && process.pending === null,
      );
      expect(closed.data.ending?.code).toBe('agreement-ended');
      expect(provider.closed).toContain(closed.peerPid);
      expect(new Set([...provider.ended, ...consumer.ended])).toEqual(new Set([mine.pid, theirs.pid]));
      expect(mine.data.end?.artifact?.signatures).toHaveLength(2);
      expect([eventsOf(provider).size, eventsOf(consumer)]).toEqual([1, eventsOf(provider)]);
    },
  );

  test('refuses new transfers as agreement-ended, on both sides', async () => {
    await using world = await pair();
    const { provider, consumer } = world;
    const row = await world.negotiate();
    await provider.negotiations.end(tenant, idOf(row), '');
    const request = {
      '@context': ['https://w3id.org/dspace/2025/1/context.jsonld'],
      '@type': 'TransferRequestMessage',
      consumerPid: 'urn:uuid:t1',
      agreementId: idOf(row),
      format: 'StekkerHttp-PULL',
      callbackAddress: consumer.base,
    };
    const answer = await provider.app.fetch(
      new Request(`${provider.base}/transfers/request`, {
        method: 'POST',
        body: JSON.stringify(request),
        headers: { 'content-type': 'application/json', authorization: consumer.did },
      }),
    );
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([400, 'agreement-ended']);
    await endedOn(consumer, row);
    const own = consumer.transfers.request({
      participant: tenant,
      agreementId: idOf(row),
      format: 'StekkerHttp-PULL',
      providerBase: provider.base,
    });
    await expect(own).rejects.toMatchObject({ code: 'agreement-ended' });
  });

  test('is shown with the agreement, and where that is registered', async () => {
    const promise = { payload: '', signatures: [{ protected: '', signature: '' }] };
    await using world = await pair({ registered: { find: async () => ({ index: 7, promise }) } });
    const { provider, consumer } = world;
    const row = await world.negotiate();
    const before = await (await show(consumer, provider, idOf(row))).json();
    expect(before).toMatchObject({ status: 'in-force', event: null, registration: { index: '7', promise } });
    await provider.negotiations.end(tenant, idOf(row), '');
    const { data } = await endedOn(provider, row);
    expect(await (await show(consumer, provider, idOf(row))).json()).toMatchObject({
      status: 'ended',
      event: data.end?.artifact,
      agreementDigest: data.agreement?.digest,
    });
    const alone = await show(provider, consumer, idOf(row));
    expect(await alone.json()).toMatchObject({ registration: null });
  });

  test('holds on our side at once when the peer cannot be reached, and reaches it later', async () => {
    let isCut = false;
    await using world = await pair({ fate: () => (isCut ? 'lose' : 'deliver') });
    const { provider, consumer } = world;
    const row = await world.negotiate();
    const transfer = await startTransfer(world, row);
    isCut = true;
    await provider.negotiations.end(tenant, idOf(row), 'enough');
    const { peerPid } = await consumer.transfers.find(tenant, transfer);
    expect(provider.closed).toContain(peerPid);
    expect(provider.ended.length).toBeGreaterThan(0);
    expect((await rowOf(consumer, row)).data.status).toBe('in-force');
    isCut = false;
    expect((await endedOn(consumer, row)).data.end?.artifact).toEqual(
      (await endedOn(provider, row)).data.end?.artifact,
    );
  });

  test('is registered with one signature when the peer does not answer within a minute, and only once', async () => {
    let isCut = false;
    await using world = await pair({ fate: () => (isCut ? 'lose' : 'deliver') });
    const { provider, consumer, clock } = world;
    const row = await world.negotiate();
    isCut = true;
    await provider.negotiations.end(tenant, idOf(row), '');
    expect(provider.endSigned).toEqual([]);
    clock.ahead += 61_000;
    await eventually(
      () => rowOf(provider, row),
      ({ data }) => data.end?.settled === true,
    );
    expect(provider.endSigned[0]?.data.end?.artifact?.signatures).toHaveLength(1);
    isCut = false;
    clock.ahead += 61_000;
    const done = await endedOn(provider, row);
    expect(done.data.end?.artifact?.signatures).toHaveLength(2);
    await endedOn(consumer, row);
    expect(provider.endSigned).toHaveLength(1);
  });

  test('repeated by the owner or by the network, is the same', async () => {
    await using world = await pair({ fate: () => 'repeat' }, { fate: () => 'repeat' });
    const { provider, consumer } = world;
    const row = await world.negotiate();
    const all = await Promise.all([0, 1, 2].map((n) => consumer.negotiations.end(tenant, idOf(row), `reason ${n}`)));
    const done = await endedOn(consumer, row);
    await endedOn(provider, row);
    const again = await consumer.negotiations.end(tenant, idOf(row), 'again');
    expect(again.data.end).toEqual(done.data.end);
    expect(new Set(all.map(({ data }) => data.end?.artifact?.payload)).size).toBe(1);
    const body = {
      artifact: { payload: '', signatures: [] as { protected: string; signature: string }[] },
      leafKey: {},
    };
    const { artifact } = done.data.end ?? { artifact: null };
    body.artifact = { payload: artifact?.payload ?? '', signatures: (artifact?.signatures ?? []).slice(0, 1) };
    const repeat = await post(provider, idOf(row), body, consumer.did);
    expect([repeat.status, await repeat.json()]).toEqual([200, { artifact }]);
  });

  test('is refused when it is not what it must be', async () => {
    await using world = await pair();
    const { provider, consumer, clock } = world;
    const row = await world.negotiate();
    const leaf = makeLeafKey();
    const event = (
      changes: object = {},
      signers: readonly (readonly [string, TestKey])[] = [[`${consumer.did}#s`, consumerKey]],
    ) =>
      signAs(
        agreementEventText({
          v: 1,
          type: 'agreement-event',
          agreementDigest: row.data.agreement?.digest ?? '',
          event: 'end',
          effectiveAt: formatTime(clock.now()),
          reason: '',
          leafKey: leaf.id,
          salt: toBase64Url(new Uint8Array(32)),
          ...changes,
        }),
        'stekker-agreement-event+jws',
        signers,
      );
    const refusals: readonly (readonly [string, Json])[] = [
      ['about another agreement', event({ agreementDigest: toBase64Url(new Uint8Array(32)) })],
      ['in the future', event({ effectiveAt: formatTime(clock.now() + 120_000) })],
      ['a void', event({ event: 'void' })],
      ['a garbage time', event({ effectiveAt: 'tomorrow' })],
      ['another leaf key', event({ leafKey: toBase64Url(new Uint8Array(32)) })],
      ['signed by us', event({}, [[`${provider.did}#s`, providerKey]])],
      ['signed by somebody else’s key', event({}, [[`${consumer.did}#s`, providerKey]])],
    ];
    for (const [what, artifact] of refusals) {
      const answer = await post(provider, idOf(row), { artifact, leafKey: leaf.privateJwk }, consumer.did);
      expect(answer.status, what).toBe(400);
      expect(((await answer.json()) as { type: string }).type, what).toBe('urn:stekker:1:error:agreement-refused');
    }
    expect((await post(provider, idOf(row), { artifact: event() }, consumer.did)).status).toBe(400);
    const asBody = { artifact: event(), leafKey: leaf.privateJwk };
    expect((await post(provider, idOf(row), asBody, 'did:web:stranger.example')).status).toBe(404);
    expect((await post(provider, 'urn:uuid:none', asBody, consumer.did)).status).toBe(404);
    expect((await rowOf(provider, row)).data.status).toBe('in-force');
    expect((await post(provider, idOf(row), asBody, consumer.did)).status).toBe(200);
    const late = await post(provider, idOf(row), { ...asBody, artifact: event({ reason: 'late' }) }, consumer.did);
    const stands = (await endedOn(provider, row)).data.end?.artifact;
    expect(((await late.json()) as { artifact: Json }).artifact).toEqual(stands);
  });

  test('cannot be decided for what is not there, not in force, or with too long a reason', async () => {
    await using world = await pair({
      decide: (row) => (row.process.state === 'VERIFIED' ? { do: 'wait' } : ordinary(row)),
    });
    const { provider, consumer } = world;
    const row = await world.negotiate(({ process }) => process.state === 'VERIFIED');
    const end = (id: string, reason = '') => provider.negotiations.end(tenant, id, reason);
    await expect(end('urn:uuid:none')).rejects.toMatchObject({ code: 'not-found' });
    await expect(end(idOf(row))).rejects.toMatchObject({ code: 'illegal-transition' });
    const early = { artifact: { payload: '', signatures: [{ protected: '', signature: '' }] }, leafKey: {} };
    expect((await post(provider, idOf(row), early, consumer.did)).status).toBe(503);
    await provider.negotiations.decide(tenant, row.peerPid ?? '', { do: 'finalize' });
    await eventually(() => rowOf(provider, row), inForce);
    await expect(end(idOf(row), 'x'.repeat(1_001))).rejects.toMatchObject({ code: 'body-invalid' });
    expect((await end(idOf(row), 'half a wave \ud83c')).data.end?.reason).toBe('half a wave \ufffd');
  });
});

describe('the end of a plain-dsp agreement', () => {
  test('is signed by the provider alone, and a peer with extensions takes its word', async () => {
    await using world = await pair({}, {}, 'plain-dsp');
    const { provider, consumer } = world;
    const row = await world.negotiate();
    await provider.negotiations.end(tenant, idOf(row), 'enough');
    const [mine, theirs] = [await endedOn(provider, row), await endedOn(consumer, row)];
    expect(mine.data.end?.artifact?.signatures).toHaveLength(1);
    expect([theirs.data.status, theirs.data.end?.by, theirs.data.end?.reason]).toEqual(['ended', 'peer', 'enough']);
    expect([eventsOf(provider).size, consumer.endSigned]).toEqual([1, []]); // it could not check the digest
  });

  test('needs no word to a peer without extensions, who hears of its transfers', async () => {
    await using world = await pair({ knowsExtensions: false }, { knowsExtensions: false }, 'plain-dsp');
    const { provider, consumer } = world;
    const row = await world.negotiate();
    const { pid } = await consumer.transfers.request({
      participant: tenant,
      agreementId: idOf(row),
      format: 'HttpData-PULL',
      providerBase: provider.base,
    });
    await eventually(
      () => consumer.transfers.find(tenant, pid),
      ({ process }) => process.state === 'STARTED',
    );
    await provider.negotiations.end(tenant, idOf(row), '');
    await endedOn(provider, row);
    expect(provider.endSigned[0]?.data.end?.artifact?.signatures).toHaveLength(1);
    await eventually(
      () => consumer.transfers.find(tenant, pid),
      ({ process }) => process.state === 'TERMINATED',
    );
    const own = await consumer.negotiations.end(tenant, idOf(row), '');
    expect([own.data.status, own.data.end?.artifact, consumer.ended.length > 0]).toEqual(['ended', null, true]);
    expect(consumer.endSigned).toEqual([]);
  });
});

describe('an agreement that is signed and never in force', () => {
  const endOf = (row: NegotiationRow | undefined) => {
    const read = readAgreementEvent(row?.data.end?.artifact);
    return read.ok ? { event: read.value.value.event, signers: read.value.signatures.map(({ kid }) => kid) } : read;
  };

  test('is void after 15 minutes without verification, and whoever signed declares it', async () => {
    await using world = await pair(
      {},
      { decide: (row) => (row.process.state === 'AGREED' ? { do: 'wait' } : ordinary(row)) },
    );
    const { provider, consumer, clock } = world;
    const row = await world.negotiate(({ process }) => process.state === 'AGREED');
    await eventually(
      () => rowOf(provider, row),
      ({ process }) => process.state === 'AGREED',
    );
    clock.ahead += 890_000;
    await systemClock.sleep(60);
    expect((await rowOf(provider, row)).process.state).toBe('AGREED');
    clock.ahead += 20_000;
    const mine = await eventually(
      () => rowOf(provider, row),
      ({ data }) => data.end?.settled === true,
    );
    expect([mine.process.state, mine.data.status, mine.data.ending?.code]).toEqual([
      'TERMINATED',
      'void',
      'agreement-void',
    ]);
    expect(endOf(provider.endSigned[0])).toEqual({ event: 'void', signers: [`${provider.did}#s`] });
    expect([mine.data.agreement?.leafKey, mine.data.end?.leafKey]).toEqual([null, null]);
    const theirs = await eventually(
      () => rowOf(consumer, row),
      ({ data }) => data.status === 'void',
    );
    expect([theirs.data.end?.artifact, consumer.endSigned]).toEqual([null, []]); // it never signed
    await eventually(
      async () => consumer.ended.length,
      (count) => count > 0,
    );
    expect(new Set([...provider.ended, ...consumer.ended])).toEqual(new Set([mine.pid, theirs.pid]));
    expect([provider.inForce, consumer.inForce]).toEqual([[], []]);
  });

  test('a termination after both signatures lets both declare it void, and no end is taken for it', async () => {
    await using world = await pair({
      decide: (row) => (row.process.state === 'VERIFIED' ? { do: 'wait' } : ordinary(row)),
    });
    const { provider, consumer } = world;
    const row = await world.negotiate(({ process }) => process.state === 'VERIFIED');
    await provider.negotiations.decide(tenant, row.peerPid ?? '', { do: 'terminate', code: 'test', reason: [] });
    for (const party of [provider, consumer]) {
      const its = await eventually(
        () => rowOf(party, row),
        ({ data }) => data.end?.settled === true,
      );
      expect([its.data.status, endOf(its)]).toEqual(['void', { event: 'void', signers: [`${party.did}#s`] }]);
    }
    expect([provider.inForce, consumer.inForce]).toEqual([[], []]);
    const body = { artifact: { payload: '', signatures: [{ protected: '', signature: '' }] }, leafKey: {} };
    expect((await post(provider, idOf(row), body, consumer.did)).status).toBe(400);
  });

  test('a clock that goes back, or a verification in time, changes nothing', async () => {
    await using world = await pair();
    const row = await world.negotiate();
    world.clock.ahead += 1_000_000;
    await systemClock.sleep(60);
    for (const party of [world.provider, world.consumer])
      expect((await rowOf(party, row)).data.status).toBe('in-force');
  });
});

describe('a program that dies', () => {
  /** Runs with a death around save 1, 2, … until there is no such save. @returns how many there are. */
  const atEverySave = async (run: (dieAt: NonNullable<PartyOptions['dieAt']>, what: string) => Promise<void>) => {
    let positions = 0;
    for (const when of ['before', 'after'] as const) {
      let hasDied = true;
      for (let at = 1; hasDied; at += 1) {
        hasDied = false;
        const dieAt = (save: number) => {
          if (save !== at) return undefined;
          hasDied = true;
          return when;
        };
        await run(dieAt, `dies ${when} save ${at}`);
        positions += hasDied ? 1 : 0;
      }
    }
    return positions;
  };

  test.each(['provider', 'consumer'] as const)(
    'at any save of the %s around an end, leaves one end that both signed and both register',
    async (victim) => {
      const positions = await atEverySave(async (dieAt, what) => {
        await using world = await pair(victim === 'provider' ? { dieAt } : {}, victim === 'consumer' ? { dieAt } : {});
        const { provider, consumer } = world;
        const row = await world.negotiate();
        const end = () => consumer.negotiations.end(tenant, idOf(row), 'enough');
        await end().catch(end);
        const [mine, theirs] = [await endedOn(provider, row), await endedOn(consumer, row)];
        expect(mine.data.end?.artifact, what).toEqual(theirs.data.end?.artifact);
        expect([eventsOf(provider).size, eventsOf(consumer).size], what).toEqual([1, 1]);
        expect(eventsOf(provider), what).toEqual(eventsOf(consumer));
        expect([mine.data.announced, theirs.data.announced], what).toEqual([true, true]);
      });
      expect(positions).toBeGreaterThan(14);
    },
  );

  test('at any save around a void, leaves one void of each who signed', async () => {
    const positions = await atEverySave(async (dieAt, what) => {
      await using world = await pair({
        dieAt,
        decide: (row) => (row.process.state === 'VERIFIED' ? { do: 'wait' } : ordinary(row)),
      });
      const { provider, consumer } = world;
      const row = await world.negotiate(({ process }) => process.state === 'VERIFIED');
      const stop = () =>
        provider.negotiations.decide(tenant, row.peerPid ?? '', { do: 'terminate', code: 'test', reason: [] });
      await stop().catch(() => stop().catch(() => undefined)); // after a save it is decided already
      for (const party of [provider, consumer]) {
        await eventually(
          () => rowOf(party, row),
          ({ data }) => data.end?.settled === true,
        );
        expect(eventsOf(party).size, `${party.did}, ${what}`).toBe(1);
      }
    });
    expect(positions).toBeGreaterThan(12);
  });

  test('in one who hears of it, holds up no other', async () => {
    let isBroken = true;
    const broken = async () => {
      if (isBroken) throw new Error('it does not work');
    };
    await using world = await pair({ hear: { inForce: broken, ended: broken } });
    const { provider, consumer } = world;
    const row = await world.negotiate(({ process }) => process.state === 'FINALIZED');
    await eventually(
      () => rowOf(provider, row),
      ({ data }) => data.status === 'in-force',
    );
    const transfer = await startTransfer(world, row);
    await provider.negotiations.end(tenant, idOf(row), '');
    const { peerPid } = await consumer.transfers.find(tenant, transfer);
    expect([provider.closed.includes(peerPid ?? ''), provider.ended.length > 0]).toEqual([true, true]);
    isBroken = false;
    expect((await endedOn(provider, row)).data.announced).toBe(true);
  });

  test('in whoever hears of it, is told again', async () => {
    const fails = new Set<string>();
    const failOnce = (what: string) => async () => {
      if (fails.has(what)) return;
      fails.add(what);
      throw new Error(`${what} fails once`);
    };
    await using world = await pair({
      hear: { inForce: failOnce('inForce'), ended: failOnce('ended'), endSigned: failOnce('endSigned') },
    });
    const row = await world.negotiate();
    await world.provider.negotiations.end(tenant, idOf(row), '');
    await endedOn(world.provider, row);
    expect([...fails]).toEqual(['inForce', 'ended', 'endSigned']);
    expect(world.provider.ended.length).toBeGreaterThan(1);
  });
});
