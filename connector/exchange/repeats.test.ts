import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import type { Json } from '../../contracts/json.ts';
import {
  createNetwork,
  type Party,
  type PartyOptions,
  providerKey,
  rainOffer,
  startParty,
  tenant,
} from '../../test/support/dsp-pair.ts';

/** What makes a message the same one as before, clause by clause (dsp §12.1). */

const folder = mkdtempSync(join(tmpdir(), 'stekker-repeats-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const consumer = 'did:web:consumer.example';
type Message = { readonly [key: string]: Json };

const request = (changes: Message = {}): Message => ({
  '@context': [dspaceContext],
  '@type': 'ContractRequestMessage',
  consumerPid: 'urn:uuid:c1',
  callbackAddress: 'https://consumer.example/dsp/2025-1',
  offer: { '@type': 'Offer', '@id': rainOffer.id, target: rainOffer.dataset, permission: [{ action: 'use' }] },
  ...changes,
});
const termination = (providerPid: string, changes: Message = {}): Message => ({
  '@context': [dspaceContext],
  '@type': 'ContractNegotiationTerminationMessage',
  providerPid,
  consumerPid: 'urn:uuid:c1',
  ...changes,
});

/** A provider that decides nothing by itself. */
const start = (options: Partial<PartyOptions> = {}) =>
  startParty(createNetwork(), {
    name: 'provider',
    key: providerKey,
    offers: [rainOffer],
    decide: () => ({ do: 'wait' }),
    decideTransfer: () => ({ do: 'wait' }),
    ...options,
  });

const post = async (party: Party, path: string, body: Message, from = consumer) => {
  const headers = { 'content-type': 'application/json', authorization: from };
  const url = `https://provider.example/dsp/2025-1${path}`;
  const answer = await party.app.fetch(new Request(url, { method: 'POST', body: JSON.stringify(body), headers }));
  const text = await answer.text();
  return {
    status: answer.status,
    body: text === '' ? null : JSON.parse(text),
    newest: answer.headers.get('stekker-newest'),
  };
};

const stateOf = async (party: Party, pid: string) => (await party.negotiations.find(tenant, pid)).process.state;

describe('a message with an id', () => {
  test('that comes again gets the answer that is kept, whatever happened in between', async () => {
    await using party = await start();
    const first = await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }));
    const pid = first.body.providerPid;
    const ended = await post(party, `/negotiations/${pid}/termination`, termination(pid, { '@id': 'urn:uuid:m2' }));
    expect(await stateOf(party, pid)).toBe('TERMINATED');
    expect(await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }))).toEqual(first);
    expect(await post(party, `/negotiations/${pid}/termination`, termination(pid, { '@id': 'urn:uuid:m2' }))).toEqual(
      ended,
    );
    expect(first.body.state).toBe('REQUESTED');
  });

  test('gets it after a restart as well: it is kept with what the message changed', async () => {
    const path = join(folder, 'restart.sqlite');
    const before = await start({ path });
    const first = await post(before, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }));
    await before[Symbol.asyncDispose]();
    await using party = await start({ path });
    expect(await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }))).toEqual(first);
    expect(await party.negotiations.list(tenant, { limit: 9 })).toHaveLength(1);
  });

  test('is not kept when the program dies before the change is', async () => {
    await using party = await start({ dieAt: (save) => (save === 1 ? 'before' : undefined) });
    expect((await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }))).status).toBe(500);
    expect(await party.negotiations.list(tenant, { limit: 9 })).toEqual([]);
    expect((await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }))).status).toBe(201);
  });

  test('is kept when the program dies after it, and the repeat gets its answer', async () => {
    await using party = await start({ dieAt: (save) => (save === 1 ? 'after' : undefined) });
    expect((await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }))).status).toBe(500);
    expect((await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }))).status).toBe(201);
    expect(await party.negotiations.list(tenant, { limit: 9 })).toHaveLength(1);
  });

  test('and another body is refused, and changes nothing', async () => {
    await using party = await start();
    const first = await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }));
    const pid = first.body.providerPid;
    const other = await post(party, `/negotiations/${pid}/termination`, termination(pid, { '@id': 'urn:uuid:m1' }));
    expect([other.status, other.body.code]).toEqual([400, 'message-id-reused']);
    expect(await stateOf(party, pid)).toBe('REQUESTED');
    const more = request({ '@id': 'urn:uuid:m1', extra: 'x' });
    expect((await post(party, '/negotiations/request', more)).status).toBe(400);
  });

  test('is the same only from the same peer', async () => {
    await using party = await start();
    const first = await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }));
    const theirs = await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }), 'did:web:o.example');
    expect(theirs.status).toBe(201);
    expect(theirs.body.providerPid).not.toBe(first.body.providerPid);
  });

  test('that was refused is not kept: the same bytes may succeed later', async () => {
    const offers: (typeof rainOffer)[] = [];
    await using party = await start({ offers });
    const message = request({ '@id': 'urn:uuid:m1' });
    expect((await post(party, '/negotiations/request', message)).status).toBe(404);
    offers.push(rainOffer);
    expect((await post(party, '/negotiations/request', message)).status).toBe(201);
  });

  test('is another message than the same one under another id', async () => {
    await using party = await start();
    const { body } = await post(party, '/negotiations/request', request({ '@id': 'urn:uuid:m1' }));
    const pid = body.providerPid;
    const counter = (id: string) => {
      const { callbackAddress: _, ...message } = request({ '@id': id, providerPid: pid });
      return post(party, `/negotiations/${pid}/request`, message);
    };
    // A second request in a row is illegal; that it says the same as one before does not make it that one.
    expect((await counter('urn:uuid:m1')).status).toBe(400);
    expect((await counter('urn:uuid:m3')).status).toBe(400);
    expect(
      await post(party, `/negotiations/${pid}/termination`, termination(pid, { '@id': 'urn:uuid:m4' })),
    ).toMatchObject({ status: 200 });
    expect(
      await post(party, `/negotiations/${pid}/termination`, termination(pid, { '@id': 'urn:uuid:m5' })),
    ).toMatchObject({ status: 400 });
    expect(await post(party, `/negotiations/${pid}/termination`, termination(pid))).toMatchObject({ status: 400 });
  });
});

describe('a message without an id', () => {
  test('that opens a negotiation is known by peer and consumerPid, also when its offer is gone by then', async () => {
    const offers = [rainOffer];
    await using party = await start({ offers });
    const first = await post(party, '/negotiations/request', request());
    expect(first.status).toBe(201);
    offers.length = 0;
    const again = await post(party, '/negotiations/request', request());
    expect([again.status, again.body]).toEqual([201, first.body]);
    expect((await post(party, '/negotiations/request', request({ consumerPid: 'urn:uuid:c2' }))).status).toBe(404);
    expect((await post(party, '/negotiations/request', request(), 'did:web:o.example')).status).toBe(404);
  });
});
