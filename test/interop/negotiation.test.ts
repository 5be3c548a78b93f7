import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { JsonObject } from '../../contracts/json.ts';
import {
  contexts,
  edcAgreement,
  edcDataset,
  edcError,
  edcMessage,
  edcOffer,
  edcProcess,
  type ForeignWorld,
  openForeignWorld,
} from './stand-in.ts';
import { until } from './waiting.ts';

/** What EDC does in a negotiation, and what we make of it (edc-interop §5). */

let world: ForeignWorld;
beforeEach(async () => {
  world = await openForeignWorld();
});
afterEach(() => world[Symbol.asyncDispose]());

const providerPid = '79a1ad13-2be6-46de-b63b-591aa12b98f6';

/** EDC takes the first request as it does: 200, and its own pid. */
const takesRequests = (pids: readonly string[] = [providerPid]): void => {
  let place = 0;
  world.edc.on('POST', '/negotiations/request', ({ body }) => {
    const pid = pids[Math.min(place, pids.length - 1)] ?? '';
    place += 1;
    return { status: 200, body: edcProcess('ContractNegotiation', pid, String(body.consumerPid), 'REQUESTED') };
  });
};

const agreementMessage = (consumerPid: string, changes: JsonObject = {}, pid = providerPid, id?: string) => {
  const agreement = edcAgreement({ assignee: world.id, target: 'asset-1', ...changes });
  return edcMessage('ContractAgreementMessage', { providerPid: pid, consumerPid, agreement }, id);
};

const finalized = (consumerPid: string, id?: string) =>
  edcMessage('ContractNegotiationEventMessage', { consumerPid, providerPid, eventType: 'FINALIZED' }, id);

/** How EDC names a message that it makes anew. */
const messageIds: readonly (readonly [string, () => string])[] = [
  ['the same id', () => 'urn:uuid:one-message'],
  ['a new id', () => `urn:uuid:${crypto.randomUUID()}`],
];

const toUs = (pid: string, path: string) => `/negotiations/${encodeURIComponent(pid)}${path}`;

const verificationPath = `/negotiations/${providerPid}/agreement/verification`;

describe('as its consumer', () => {
  test('a whole negotiation: two contexts are taken and none is fetched, and every message of ours names one that EDC has', async () => {
    takesRequests();
    const pid = await world.begin('asset-1');
    const strange = [...contexts, `${world.edc.origin}/context.jsonld`];
    await world.edc.hears('/negotiations/request');
    expect((await world.say(toUs(pid, '/agreement'), { ...agreementMessage(pid), '@context': strange })).status).toBe(
      200,
    );
    await world.edc.hears(verificationPath);
    expect((await world.say(toUs(pid, '/events'), { ...finalized(pid), '@context': strange })).status).toBe(200);
    const row = await world.ours('negotiations', pid, ['FINALIZED']);
    expect(row).toMatchObject({ peer: 'edc', peerPid: providerPid, assurance: 'plain-dsp' });
    expect(world.edc.heard.filter(({ path }) => path.includes('context'))).toEqual([]);
    const said = world.edc.heard.filter(({ method }) => method === 'POST').map(({ body }) => body['@context']);
    expect(said.length).toBe(2);
    for (const context of said) expect(context).toEqual([contexts[0]]);
  });

  test('a message that it sends again is answered as before, also behind the end', async () => {
    takesRequests();
    const pid = await world.begin('asset-1');
    const agreement = agreementMessage(pid);
    const end = finalized(pid);
    for (const _ of [1, 2]) expect((await world.say(toUs(pid, '/agreement'), agreement)).status).toBe(200);
    await world.edc.hears(verificationPath);
    for (const _ of [1, 2]) expect((await world.say(toUs(pid, '/events'), end)).status).toBe(200);
    await world.ours('negotiations', pid, ['FINALIZED']);
    expect((await world.say(toUs(pid, '/agreement'), agreement)).status).toBe(200);
    expect(world.edc.heard.filter(({ path }) => path === verificationPath)).toHaveLength(1);
  });

  test.each(messageIds)(
    'an agreement that it makes anew under %s of its message is the one that counts',
    async (which, messageId) => {
      takesRequests();
      world.edc.on('POST', verificationPath, () => edcError('ContractNegotiationError', 409, 'cannot be verified'));
      world.edc.on('GET', `/negotiations/${providerPid}`, () => ({
        status: 200,
        body: edcProcess('ContractNegotiation', providerPid, pid, 'REQUESTED'),
      }));
      const pid = await world.begin('asset-1');
      const at = (id: string, changes = {}) =>
        agreementMessage(pid, { '@id': id, ...changes }, providerPid, messageId());
      expect((await world.say(toUs(pid, '/agreement'), at('first'))).status).toBe(200);
      await world.edc.hears(verificationPath);
      expect((await world.say(toUs(pid, '/agreement'), at('second'))).status).toBe(200);
      const forged = await world.say(toUs(pid, '/agreement'), at('third', { target: 'asset-2' }));
      expect(forged).toMatchObject({ status: 400, body: { code: 'agreement-refused' } });
      world.edc.on('POST', verificationPath, () => ({ status: 200 }));
      await world.ours('negotiations', pid, ['VERIFIED']);
      await world.say(toUs(pid, '/events'), finalized(pid));
      const row = await world.ours('negotiations', pid, ['FINALIZED']);
      expect(row).toMatchObject({ agreementId: 'second' });
      const late = await world.say(toUs(pid, '/agreement'), at('fourth'));
      const code = which === 'a new id' ? 'illegal-transition' : 'message-id-reused';
      expect(late).toMatchObject({ status: 400, body: { code } });
    },
  );

  test.each(messageIds)(
    'an agreement that it makes anew under %s after our verification is verified again',
    async (_which, messageId) => {
      takesRequests();
      const pid = await world.begin('asset-1');
      const at = (id: string) => agreementMessage(pid, { '@id': id }, providerPid, messageId());
      await world.say(toUs(pid, '/agreement'), at('first'));
      await world.ours('negotiations', pid, ['VERIFIED']);
      expect((await world.say(toUs(pid, '/agreement'), at('second'))).status).toBe(200);
      const verifications = () => world.edc.heard.filter(({ path }) => path === verificationPath);
      await until('a second verification', () => (verifications().length === 2 ? true : undefined));
      expect(new Set(verifications().map(({ body }) => body['@id'])).size).toBe(2);
      await world.ours('negotiations', pid, ['VERIFIED']);
      await world.say(toUs(pid, '/events'), finalized(pid));
      expect(await world.ours('negotiations', pid, ['FINALIZED'])).toMatchObject({ agreementId: 'second' });
    },
  );

  test('a verification that is only early for it is sent again, and not given up', async () => {
    takesRequests();
    let tries = 0;
    world.edc.on('POST', verificationPath, () => {
      tries += 1;
      return tries < 3 ? edcError('ContractNegotiationError', 409, 'cannot be verified') : { status: 200 };
    });
    world.edc.on('GET', `/negotiations/${providerPid}`, () => ({
      status: 200,
      body: edcProcess('ContractNegotiation', providerPid, pid, tries === 1 ? 'REQUESTED' : 'AGREED'),
    }));
    const pid = await world.begin('asset-1');
    await world.say(toUs(pid, '/agreement'), agreementMessage(pid));
    await world.ours('negotiations', pid, ['VERIFIED']);
    expect(tries).toBe(3);
  });

  test('after a conflict its own state tells how to go on: what was taken before counts', async () => {
    takesRequests();
    let tries = 0;
    world.edc.on('POST', verificationPath, () => {
      tries += 1;
      return edcError('ContractNegotiationError', 409, 'cannot be verified');
    });
    world.edc.on('GET', `/negotiations/${providerPid}`, () => ({
      status: 200,
      body: edcProcess('ContractNegotiation', providerPid, pid, 'VERIFIED'),
    }));
    const pid = await world.begin('asset-1');
    await world.say(toUs(pid, '/agreement'), agreementMessage(pid));
    await world.ours('negotiations', pid, ['VERIFIED']);
    expect(tries).toBe(1);
  });

  test('FINALIZED that comes while our verification is under way is taken', async () => {
    takesRequests();
    const answers: number[] = [];
    world.edc.on('POST', verificationPath, async () => {
      answers.push((await world.say(toUs(pid, '/events'), finalized(pid))).status);
      return { status: 200 };
    });
    const pid = await world.begin('asset-1');
    await world.say(toUs(pid, '/agreement'), agreementMessage(pid));
    expect(await world.ours('negotiations', pid, ['FINALIZED'])).toMatchObject({ pending: null });
    expect(answers).toEqual([200]);
  });

  test.each([
    ['its answer came late', 'answer'],
    ['its agreement came first', 'agreement'],
  ])(
    'of two negotiations that a repeat of our request made, one counts and the other is terminated: %s',
    async (_what, first) => {
      const other = '11111111-2222-4333-8444-555555555555';
      let requests = 0;
      world.edc.on('POST', '/negotiations/request', async ({ body }) => {
        requests += 1;
        // The first answer is lost, and perhaps its agreement is quicker than the repeat.
        if (requests === 1) {
          if (first === 'agreement') await world.say(toUs(pidOf(body), '/agreement'), agreementMessage(pidOf(body)));
          return { status: 503 };
        }
        const second = first === 'agreement' ? other : providerPid;
        return { status: 200, body: edcProcess('ContractNegotiation', second, pidOf(body), 'REQUESTED') };
      });
      const pid = await world.begin('asset-1');
      if (first === 'answer') {
        await until('the repeat to be answered', async () => {
          const row = await world.ours('negotiations', pid, ['REQUESTED']);
          return row.peerPid === providerPid ? row : undefined;
        });
        // The agreement of the one whose answer was lost.
        expect((await world.say(toUs(pid, '/agreement'), agreementMessage(pid, {}, other))).status).toBe(400);
        await world.say(toUs(pid, '/agreement'), agreementMessage(pid));
      }
      const termination =
        first === 'agreement' && requests < 2 ? undefined : await world.edc.hears(`/negotiations/${other}/termination`);
      await world.edc.hears(verificationPath);
      await world.say(toUs(pid, '/events'), finalized(pid));
      expect(await world.ours('negotiations', pid, ['FINALIZED'])).toMatchObject({ peerPid: providerPid });
      const agreements = await world.running.operate('GET', '/v1/agreements');
      expect(agreements.body.items).toHaveLength(1);
      if (termination !== undefined)
        expect(termination.body).toMatchObject({ providerPid: other, consumerPid: pid, code: 'duplicate' });
      expect(world.edc.heard.filter(({ path }) => path.startsWith(`/negotiations/${other}/`)).length).toBeLessThan(2);
    },
  );

  test('what it agrees to is compared with the offer, and what differs is refused with the cause', async () => {
    takesRequests();
    const pid = await world.begin('asset-1');
    const more = {
      permission: [{ action: 'use', constraint: [{ leftOperand: 'count', operator: 'lteq', rightOperand: '1' }] }],
    };
    const answer = await world.say(toUs(pid, '/agreement'), agreementMessage(pid, more));
    expect(answer).toMatchObject({ status: 400, body: { code: 'agreement-refused' } });
    expect(JSON.stringify(answer.body.reason)).toContain('the rules are not those of the last offer');
  });

  test('a refusal that says nothing is shown with what we know of it', async () => {
    world.edc.on('POST', '/negotiations/request', () => edcError('ContractNegotiationError', 400, 'Bad request.'));
    const pid = await world.begin('asset-1');
    const { ending } = await world.ours('negotiations', pid, ['TERMINATED']);
    expect(ending).toEqual({
      by: 'peer',
      code: '400',
      reasons: ['Bad request.', 'The peer answered 400 to our ContractRequestMessage.'],
    });
  });

  test('offers without rules, or with ones that nobody here can evaluate, are refused with a reason, beside others that stand', async () => {
    const offers = [
      edcOffer('empty', {}),
      edcOffer('odd', {
        permission: [{ action: 'use', constraint: [{ leftOperand: 'urn:odd', operator: 'eq', rightOperand: 'x' }] }],
      }),
      edcOffer('good', { permission: [{ action: 'use' }] }),
    ];
    world.edc.on('GET', '/catalog/datasets/*', () => ({
      status: 200,
      body: edcDataset(world.edc.base, 'mixed', offers),
    }));
    const { body } = await world.running.operate('GET', '/v1/catalog/mixed?provider=edc');
    expect(body.unreadable).toEqual([{ id: 'empty', why: expect.stringContaining('needs a permission') }]);
    const begin = (offer: string) =>
      world.running.operate('POST', '/v1/negotiations', { provider: 'edc', dataset: 'mixed', offer });
    expect(await begin('empty')).toMatchObject({ status: 409, body: { type: 'urn:stekker:1:error:offer-refused' } });
    const odd = await begin('odd');
    expect(odd).toMatchObject({ status: 409, body: { type: 'urn:stekker:1:error:offer-refused' } });
    expect(JSON.stringify(odd.body)).toContain('urn:odd');
    takesRequests();
    expect((await begin('good')).status).toBe(201);
    expect((await world.edc.hears('/negotiations/request')).body.offer).toMatchObject({ '@id': 'good' });
  });
});

const pidOf = (body: JsonObject): string => String(body.consumerPid);
