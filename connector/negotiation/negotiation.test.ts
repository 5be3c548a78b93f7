import { describe, expect, test } from 'vitest';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { contractNegotiation } from '../../contracts/dsp/negotiation.ts';
import type { Json } from '../../contracts/json.ts';
import { readAgreementArtifact } from '../../contracts/ledger/agreement.ts';
import { systemClock } from '../../kernel/clock.ts';
import { createLogger } from '../../kernel/log.ts';
import {
  consumerKey,
  createNetwork,
  eventually,
  ordinary,
  type PartyOptions,
  providerKey,
  rainOffer,
  startParty,
  tenant,
} from '../../test/support/dsp-pair.ts';
import { writeOffer } from './rules.ts';

const pair = async (provider: Partial<PartyOptions> = {}, consumer: Partial<PartyOptions> = {}) => {
  const network = createNetwork();
  const a = await startParty(network, { name: 'provider', key: providerKey, offers: [rainOffer], ...provider });
  const b = await startParty(network, { name: 'consumer', key: consumerKey, ...consumer });
  const stop = async () => {
    await a[Symbol.asyncDispose]();
    await b[Symbol.asyncDispose]();
  };
  const terms = {
    participant: tenant,
    provider: a.did,
    providerBase: a.base,
    dataset: rainOffer.dataset,
    offerId: rainOffer.id,
    rules: rainOffer.rules,
    assurance: rainOffer.assurance,
    price: '',
  };
  const post = async (path: string, body: Json, from: string = b.did) => {
    const headers = { 'content-type': 'application/json', authorization: from };
    const response = await a.app.fetch(
      new Request(`https://provider.example/dsp/2025-1${path}`, {
        method: 'POST',
        body: JSON.stringify(body),
        headers,
      }),
    );
    const text = await response.text();
    return {
      status: response.status,
      body: text === '' ? undefined : JSON.parse(text),
      newest: response.headers.get('stekker-newest'),
    };
  };
  return { network, a, b, terms, post, [Symbol.asyncDispose]: stop };
};

/** A log that is kept. */
const keptLog = () => {
  const lines: Record<string, unknown>[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line));
  return { lines, log: createLogger({ name: 'test', level: 'info', destination: { write } }) };
};

const firstRequest = (changes: { readonly [key: string]: Json } = {}): { readonly [key: string]: Json } => ({
  '@context': [dspaceContext],
  '@type': 'ContractRequestMessage',
  consumerPid: 'urn:uuid:c1',
  callbackAddress: 'https://consumer.example/dsp/2025-1',
  offer: { '@type': 'Offer', '@id': rainOffer.id, target: rainOffer.dataset, permission: [{ action: 'use' }] },
  ...changes,
});
const waiting = { decide: () => ({ do: 'wait' as const }) };

describe('negotiation between two connectors', () => {
  test('is one trace on both sides, and each line of both logs tells which process it concerns', async () => {
    const [theirs, ours] = [keptLog(), keptLog()];
    await using world = await pair({ log: theirs.log }, { log: ours.log });
    const { pid } = await world.b.negotiations.request(world.terms);
    const done = await eventually(
      () => world.b.negotiations.find(tenant, pid),
      (row) => row.process.state === 'FINALIZED',
    );
    const other = await world.a.negotiations.find(tenant, done.peerPid ?? '');
    expect(done.trace).toBe(pid.replace('urn:uuid:', '').replaceAll('-', ''));
    expect(other.trace).toBe(done.trace);
    for (const { lines } of [theirs, ours]) {
      const changes = lines.filter(({ msg }) => msg === 'process changed');
      expect(changes.length).toBeGreaterThan(3);
      const ids = changes.flatMap(({ message, received }) => [message, received]);
      for (const line of changes) expect(line).toMatchObject({ protocol: 'negotiations', trace: done.trace });
      // The two sides tell of the same four messages, each of those it sent and of those it got.
      expect(new Set(ids.filter((id) => id !== undefined)).size).toBe(4);
    }
    expect(ours.lines.at(-1)).toMatchObject({
      pid,
      peerPid: other.pid,
      dataset: rainOffer.dataset,
      agreement: done.data.agreement?.agreement['@id'],
    });
  });

  test('what follows a message is kept with it, and is later than its answer', async () => {
    const { log, lines } = keptLog();
    await using world = await pair({ log });
    const opened = await world.post('/negotiations/request', firstRequest({ '@id': 'urn:uuid:m1' }));
    const [first] = lines.filter(({ msg }) => msg === 'process changed');
    expect(first).toMatchObject({ state: 'REQUESTED', pending: 'agreement', received: 'urn:uuid:m1' });
    expect(String(first?.message) > String(opened.newest)).toBe(true);
  });

  test('what takes time to decide holds up no answer', async () => {
    const decided = Promise.withResolvers<void>();
    const decide = async () => {
      await decided.promise;
      return { do: 'agree' as const };
    };
    await using world = await pair({ decide });
    const opened = await world.post('/negotiations/request', firstRequest());
    expect(opened.status).toBe(201);
    decided.resolve();
    await eventually(
      () => world.a.negotiations.find(tenant, opened.body.providerPid),
      ({ data }) => data.agreement !== null,
    );
  });

  test('a trace that is none begins a new one', async () => {
    await using world = await pair(waiting);
    const opened = await world.post('/negotiations/request', firstRequest());
    const row = await world.a.negotiations.find(tenant, opened.body.providerPid);
    expect(row.trace).toBe(row.pid.replace('urn:uuid:', '').replaceAll('-', ''));
  });

  test('a refusal stands in the log with its code and why, which the peer is not told', async () => {
    const { log, lines } = keptLog();
    await using world = await pair({ ...waiting, log });
    const refused = await world.post('/negotiations/urn:uuid:none/termination', { '@context': [dspaceContext] });
    expect(refused.status).toBe(400);
    expect(lines.at(-1)).toMatchObject({
      msg: 'a message was refused',
      pid: 'urn:uuid:none',
      code: 'body-invalid',
      error: { code: 'body-invalid', message: expect.any(String) },
    });
  });

  test('reaches FINALIZED on both sides, with an agreement that both signed', async () => {
    await using world = await pair();
    const asked = await world.b.negotiations.request(world.terms);
    const done = await eventually(
      () => world.b.negotiations.find(tenant, asked.pid),
      (row) => row.process.state === 'FINALIZED' && row.data.status === 'in-force',
    );
    const other = await eventually(
      () => world.a.negotiations.find(tenant, done.peerPid ?? ''),
      (row) => row.process.state === 'FINALIZED' && row.data.status === 'in-force',
    );
    expect(done.data.agreement?.digest).toBe(other.data.agreement?.digest);
    expect(done.data.agreement?.artifact).toEqual(other.data.agreement?.artifact);
    const artifact = readAgreementArtifact(done.data.agreement?.artifact);
    expect(artifact.ok && artifact.value.signatures.map((one) => one.kid)).toEqual([
      'did:web:provider.example#s',
      'did:web:consumer.example#s',
    ]);
    await eventually(
      async () => world.a.inForce.length + world.b.inForce.length,
      (count) => count >= 2,
    );
  });

  test('an agreement is in force from FINALIZED, not before', async () => {
    await using world = await pair({
      decide: (row) => (row.process.state === 'VERIFIED' ? { do: 'wait' } : ordinary(row)),
    });
    const asked = await world.b.negotiations.request(world.terms);
    const row = await eventually(
      () => world.b.negotiations.find(tenant, asked.pid),
      (one) => one.process.state === 'VERIFIED',
    );
    expect(row.data.status).toBe('signed');
    expect(world.a.inForce).toEqual([]);
    await expect(
      world.b.transfers.request({
        participant: tenant,
        agreementId: String(row.data.agreement?.agreement['@id']),
        format: 'StekkerHttp-PULL',
        providerBase: world.a.base,
      }),
    ).rejects.toThrow('not in force');
  });

  test('an offer is answered by an acceptance, and that by the agreement', async () => {
    await using world = await pair({
      decide: (row) =>
        row.process.state === 'REQUESTED'
          ? {
              do: 'offer',
              offer: {
                '@type': 'Offer',
                '@id': 'urn:offer:2',
                target: rainOffer.dataset,
                permission: [{ action: 'use' }],
              },
            }
          : ordinary(row),
    });
    const asked = await world.b.negotiations.request(world.terms);
    const done = await eventually(
      () => world.b.negotiations.find(tenant, asked.pid),
      (row) => row.process.state === 'FINALIZED',
    );
    expect(done.data.offers).toHaveLength(2);
  });

  test('an offer that nobody answers in time lapses, and both sides know why', async () => {
    const offer = writeOffer(rainOffer);
    await using world = await pair(
      {
        decide: (row) => (row.process.state === 'REQUESTED' ? { do: 'offer', offer } : { do: 'wait' }),
        offerLifetimeMs: 40,
      },
      waiting,
    );
    const asked = await world.b.negotiations.request(world.terms);
    const row = await eventually(
      () => world.b.negotiations.find(tenant, asked.pid),
      (one) => one.process.state === 'TERMINATED',
    );
    expect(row.data.ending).toMatchObject({ by: 'peer', code: 'offer-lapsed' });
    const other = await world.a.negotiations.find(tenant, row.peerPid ?? '');
    expect(other.data.ending).toMatchObject({ by: 'us', code: 'offer-lapsed' });
  });

  test('an offer that was answered does not lapse, nor one that is still on its way', async () => {
    const offer = writeOffer(rainOffer);
    let isLost = true;
    await using world = await pair(
      {
        decide: (row) => (row.process.state === 'REQUESTED' ? { do: 'offer', offer } : { do: 'wait' }),
        fate: () => (isLost ? 'lose' : 'deliver'),
        offerLifetimeMs: 500,
      },
      { decide: (row) => (row.process.state === 'OFFERED' ? { do: 'accept' } : { do: 'wait' }) },
    );
    const asked = await world.b.negotiations.request(world.terms);
    const { peerPid } = await eventually(
      () => world.b.negotiations.find(tenant, asked.pid),
      (row) => row.peerPid !== null,
    );
    await systemClock.sleep(700); // longer than the offer lives
    expect(await world.a.negotiations.find(tenant, peerPid ?? '')).toMatchObject({ process: { state: 'REQUESTED' } });
    isLost = false;
    await eventually(
      () => world.a.negotiations.find(tenant, peerPid ?? ''),
      (row) => row.process.state === 'ACCEPTED',
    );
    await systemClock.sleep(700);
    expect(await world.a.negotiations.find(tenant, peerPid ?? '')).toMatchObject({ process: { state: 'ACCEPTED' } });
  });

  test('a refusal ends both sides and keeps the reason', async () => {
    await using world = await pair({
      decide: () => ({ do: 'terminate', code: 'policy-denied', reason: ['Not for this purpose.'] }),
    });
    const asked = await world.b.negotiations.request(world.terms);
    const row = await eventually(
      () => world.b.negotiations.find(tenant, asked.pid),
      (one) => one.process.state === 'TERMINATED',
    );
    expect(row.data.ending).toEqual({ by: 'peer', code: 'policy-denied', reason: ['Not for this purpose.'] });
  });

  test('a provider that changes the rules gets no signature', async () => {
    await using world = await pair({}, waiting);
    const asked = await world.b.negotiations.request(world.terms);
    const row = await eventually(
      () => world.b.negotiations.find(tenant, asked.pid),
      (one) => one.process.state === 'AGREED' || one.peerPid !== null,
    );
    const forged = {
      '@context': [dspaceContext],
      '@type': 'ContractAgreementMessage',
      providerPid: row.peerPid,
      consumerPid: row.pid,
      agreement: {
        '@type': 'Agreement',
        '@id': 'urn:a',
        target: rainOffer.dataset,
        assigner: world.a.did,
        assignee: world.b.did,
        timestamp: '2020-01-01T00:00:00Z',
        permission: [{ action: 'distribute' }],
      },
    };
    const headers = { 'content-type': 'application/json', authorization: world.a.did };
    const response = await world.b.app.fetch(
      new Request(`https://consumer.example/dsp/2025-1/negotiations/${asked.pid}/agreement`, {
        method: 'POST',
        body: JSON.stringify(forged),
        headers,
      }),
    );
    expect(response.status).toBe(400);
  });
});

describe('messages of a negotiation', () => {
  test('the first request gets 201 and a ContractNegotiation', async () => {
    await using world = await pair(waiting);
    const answer = await world.post('/negotiations/request', firstRequest());
    expect(answer.status).toBe(201);
    expect(contractNegotiation.parse(answer.body)).toMatchObject({ state: 'REQUESTED', consumerPid: 'urn:uuid:c1' });
  });

  test('a repeated request gets the same process, with or without a message id', async () => {
    await using world = await pair(waiting);
    const first = await world.post('/negotiations/request', firstRequest({ '@id': 'urn:uuid:m1' }));
    const again = await world.post('/negotiations/request', firstRequest({ '@id': 'urn:uuid:m1' }));
    const bare = await world.post('/negotiations/request', firstRequest());
    expect([again, bare].map((answer) => answer.body.providerPid)).toEqual([
      first.body.providerPid,
      first.body.providerPid,
    ]);
    const both = await Promise.all(
      [0, 1, 2, 3].map(() => world.post('/negotiations/request', firstRequest({ consumerPid: 'urn:uuid:c2' }))),
    );
    expect(new Set(both.map((answer) => answer.body.providerPid)).size).toBe(1);
  });

  test('another body under the same message id is refused', async () => {
    await using world = await pair(waiting);
    await world.post('/negotiations/request', firstRequest({ '@id': 'urn:uuid:m1' }));
    const other = await world.post(
      '/negotiations/request',
      firstRequest({ '@id': 'urn:uuid:m1', consumerPid: 'urn:uuid:c9' }),
    );
    expect([other.status, other.body.code]).toEqual([400, 'message-id-reused']);
  });

  test('strangers get 404, always with the same body', async () => {
    await using world = await pair(waiting);
    const { body } = await world.post('/negotiations/request', firstRequest());
    const termination = {
      '@context': [dspaceContext],
      '@type': 'ContractNegotiationTerminationMessage',
      providerPid: body.providerPid,
      consumerPid: 'urn:uuid:c1',
    };
    const stranger = await world.post(
      `/negotiations/${body.providerPid}/termination`,
      termination,
      'did:web:stranger.example',
    );
    const unknown = await world.post('/negotiations/urn:uuid:none/termination', {
      ...termination,
      providerPid: 'urn:uuid:none',
    });
    const nobody = await world.post(`/negotiations/${body.providerPid}/termination`, termination, 'nobody');
    expect([stranger.status, unknown.status, nobody.status]).toEqual([404, 404, 404]);
    expect([stranger.body.reason, unknown.body.code]).toEqual([nobody.body.reason, nobody.body.code]);
    expect(await world.a.negotiations.find(tenant, body.providerPid)).toMatchObject({
      process: { state: 'REQUESTED' },
    });
  });

  test('a process whose first message is not answered yet is not shown', async () => {
    await using world = await pair({}, { ...waiting, fate: () => 'lose' });
    const asked = await world.b.negotiations.request(world.terms);
    await expect(world.b.negotiations.show(tenant, world.a.did, asked.pid)).rejects.toMatchObject({
      code: 'not-found',
    });
  });

  test('a refusal names both pids of the process', async () => {
    await using world = await pair(waiting);
    const { body } = await world.post('/negotiations/request', firstRequest());
    const pids = { providerPid: body.providerPid, consumerPid: 'urn:uuid:c1' };
    const post = (path: string, message: object) =>
      world.post(`/negotiations/${body.providerPid}${path}`, { '@context': [dspaceContext], ...pids, ...message });
    const illegal = await post('/agreement/verification', { '@type': 'ContractAgreementVerificationMessage' });
    const wrong = await post('/events', { '@type': 'ContractNegotiationEventMessage', eventType: 'NOW' });
    expect([illegal.status, illegal.body.code, wrong.status, wrong.body.code]).toEqual([
      400,
      'illegal-transition',
      400,
      'body-invalid',
    ]);
    expect([illegal.body, wrong.body]).toMatchObject([pids, pids]);
  });

  test('an unknown offer looks like one that may not be seen', async () => {
    await using world = await pair(waiting);
    const answer = await world.post(
      '/negotiations/request',
      firstRequest({
        offer: { '@type': 'Offer', '@id': 'urn:offer:x', target: rainOffer.dataset, permission: [{ action: 'use' }] },
      }),
    );
    expect([answer.status, answer.body['@type']]).toEqual([404, 'ContractNegotiationError']);
  });

  test.each([
    ['no JSON', '{', 'body-not-json'],
    ['a key twice', '{"a":1,"a":2}', 'body-duplicate-key'],
    ['too deep', `${'['.repeat(60)}${']'.repeat(60)}`, 'body-too-deep'],
    ['too large', JSON.stringify('x'.repeat(1_100_000)), 'body-too-large'],
    ['another type', JSON.stringify({ '@context': [dspaceContext], '@type': 'Hello' }), 'body-invalid'],
    ['a context as text', JSON.stringify(firstRequest({ '@context': dspaceContext })), 'body-invalid'],
    ['both addresses', JSON.stringify(firstRequest({ providerPid: 'x' })), 'body-invalid'],
    [
      'a number as right operand',
      JSON.stringify(
        firstRequest({
          offer: {
            '@type': 'Offer',
            '@id': rainOffer.id,
            target: rainOffer.dataset,
            permission: [{ action: 'use', constraint: [{ leftOperand: 'count', operator: 'lt', rightOperand: 5 }] }],
          },
        }),
      ),
      'body-invalid',
    ],
    [
      'only an obligation',
      JSON.stringify(
        firstRequest({
          offer: {
            '@type': 'Offer',
            '@id': rainOffer.id,
            target: rainOffer.dataset,
            obligation: [{ action: 'compensate' }],
          },
        }),
      ),
      'body-invalid',
    ],
  ])('%s is a typed error of the protocol', async (_what, text, code) => {
    await using world = await pair(waiting);
    const request = new Request('https://provider.example/dsp/2025-1/negotiations/request', {
      method: 'POST',
      body: text,
      headers: { 'content-type': 'application/json', authorization: world.b.did },
    });
    const response = await world.a.app.fetch(request);
    const body = JSON.parse(await response.text());
    expect([response.status, body['@type'], body.code]).toEqual([400, 'ContractNegotiationError', code]);
  });

  test('pids that do not match, and moves that are not in the tables, are 400 and change nothing', async () => {
    await using world = await pair(waiting);
    const { body } = await world.post('/negotiations/request', firstRequest());
    const event = {
      '@context': [dspaceContext],
      '@type': 'ContractNegotiationEventMessage',
      providerPid: body.providerPid,
      consumerPid: 'urn:uuid:c1',
      eventType: 'ACCEPTED',
    };
    expect(await world.post(`/negotiations/${body.providerPid}/events`, event)).toMatchObject({
      status: 400,
      body: { code: 'illegal-transition' },
    });
    expect(
      await world.post(`/negotiations/${body.providerPid}/events`, { ...event, consumerPid: 'urn:uuid:other' }),
    ).toMatchObject({ status: 400, body: { code: 'pid-mismatch' } });
    expect(
      await world.post(`/negotiations/${body.providerPid}/offers`, {
        ...firstRequest(),
        '@type': 'ContractOfferMessage',
        providerPid: body.providerPid,
        callbackAddress: undefined as never,
      }),
    ).toMatchObject({ status: 404 });
  });

  test('what brought a process to where it is may be said again under another id, and changes nothing', async () => {
    await using world = await pair();
    const { pid } = await world.b.negotiations.request(world.terms);
    const done = await eventually(
      () => world.b.negotiations.find(tenant, pid),
      (row) => row.process.state === 'FINALIZED',
    );
    const { pid: providerPid, version } = await eventually(
      () => world.a.negotiations.find(tenant, done.peerPid ?? ''),
      (row) => row.process.state === 'FINALIZED',
    );
    const about = { '@context': [dspaceContext], providerPid, consumerPid: pid };
    const say = async (to: 'a' | 'b', path: string, message: object): Promise<number> => {
      const [receiver, sender] = to === 'a' ? [world.a, world.b] : [world.b, world.a];
      const [url, own] = to === 'a' ? ['https://provider.example', providerPid] : ['https://consumer.example', pid];
      const answer = await receiver.app.fetch(
        new Request(`${url}/dsp/2025-1/negotiations/${own}${path}`, {
          method: 'POST',
          body: JSON.stringify({ ...about, ...message }),
          headers: { 'content-type': 'application/json', authorization: sender.did },
        }),
      );
      return answer.status;
    };
    const verification = { '@type': 'ContractAgreementVerificationMessage' };
    const finalized = { '@type': 'ContractNegotiationEventMessage', eventType: 'FINALIZED' };
    expect(await say('a', '/agreement/verification', verification)).toBe(200);
    expect(await say('b', '/events', finalized)).toBe(200);
    expect(await say('a', '/events', finalized)).toBe(400);
    expect(await say('b', '/events', { ...finalized, eventType: 'ACCEPTED' })).toBe(400);
    expect((await world.a.negotiations.find(tenant, providerPid)).version).toBe(version);
    expect((await world.b.negotiations.find(tenant, pid)).version).toBe(done.version);
  });

  test('a message that is older than one accepted is refused', async () => {
    await using world = await pair(waiting);
    const { body } = await world.post(
      '/negotiations/request',
      firstRequest({ '@id': 'urn:uuid:01a20810-0f6c-7000-8000-000000000009' }),
    );
    const late = {
      '@context': [dspaceContext],
      '@type': 'ContractNegotiationTerminationMessage',
      providerPid: body.providerPid,
      consumerPid: 'urn:uuid:c1',
      '@id': 'urn:uuid:01a20810-0f6c-7000-8000-000000000001',
    };
    expect(await world.post(`/negotiations/${body.providerPid}/termination`, late)).toMatchObject({
      status: 400,
      body: { code: 'illegal-transition' },
    });
    expect(
      await world.post(`/negotiations/${body.providerPid}/termination`, {
        ...late,
        '@id': 'urn:uuid:01a20810-0f6c-7000-8000-000000000010',
      }),
    ).toMatchObject({ status: 200 });
  });

  test('a verification without our counterpart signature is refused', async () => {
    await using world = await pair({}, waiting);
    const asked = await world.b.negotiations.request(world.terms);
    const row = await eventually(
      () => world.b.negotiations.find(tenant, asked.pid),
      (one) => one.process.state === 'AGREED',
    );
    const verification = {
      '@context': [dspaceContext],
      '@type': 'ContractAgreementVerificationMessage',
      providerPid: row.peerPid,
      consumerPid: row.pid,
    };
    expect(await world.post(`/negotiations/${row.peerPid}/agreement/verification`, verification)).toMatchObject({
      status: 400,
      body: { code: 'agreement-refused' },
    });
  });

  test('the draft of an agreement is shown to its two parties only', async () => {
    await using world = await pair({}, waiting);
    const asked = await world.b.negotiations.request(world.terms);
    const row = await eventually(
      () => world.b.negotiations.find(tenant, asked.pid),
      (one) => one.process.state === 'AGREED',
    );
    const id = encodeURIComponent(String(row.data.agreement?.agreement['@id']));
    const ask = async (from: string, path: string) =>
      (
        await world.a.app.fetch(
          new Request(`https://provider.example/ext/1/agreements/${id}${path}`, { headers: { authorization: from } }),
        )
      ).status;
    expect(await ask(world.b.did, '/draft')).toBe(200);
    expect(await ask('did:web:stranger.example', '/draft')).toBe(404);
    expect(await ask(world.b.did, '')).toBe(404);
  });
});
