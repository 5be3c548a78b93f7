import { describe, expect, test } from 'vitest';
import { dspaceContext } from '../../contracts/dsp/common.ts';
import { propertyOf } from '../../contracts/dsp/transfer.ts';
import type { Json } from '../../contracts/json.ts';
import { systemClock } from '../../kernel/clock.ts';
import {
  consumerKey,
  createNetwork,
  eventually,
  type PartyOptions,
  providerKey,
  rainOffer,
  startParty,
  tenant,
} from '../../test/support/dsp-pair.ts';

const world = async (provider: Partial<PartyOptions> = {}, providerKnows = true) => {
  const network = createNetwork();
  const a = await startParty(network, { name: 'provider', key: providerKey, offers: [rainOffer], ...provider });
  const b = await startParty(network, { name: 'consumer', key: consumerKey });
  const asked = await b.negotiations.request({
    participant: tenant,
    provider: a.did,
    providerBase: a.base,
    dataset: rainOffer.dataset,
    offerId: rainOffer.id,
    rules: rainOffer.rules,
    assurance: 'cosigned',
    price: '',
  });
  const done = await eventually(
    () => b.negotiations.find(tenant, asked.pid),
    (row) => row.process.state === 'FINALIZED' && row.data.status === 'in-force',
  );
  await eventually(
    () => a.negotiations.find(tenant, done.peerPid ?? ''),
    (row) => (row.data.status === 'in-force') === providerKnows,
  );
  const agreementId = String(done.data.agreement?.agreement['@id']);
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
    return { status: response.status, body: text === '' ? undefined : JSON.parse(text) };
  };
  const begin = async () => {
    const { pid } = await b.transfers.request({
      participant: tenant,
      agreementId,
      format: 'StekkerHttp-PULL',
      providerBase: a.base,
    });
    return eventually(
      () => b.transfers.find(tenant, pid),
      (row) => row.process.state === 'STARTED',
    );
  };
  const settled = async (pid: string, peerPid: string, state: string) => {
    await eventually(
      () => b.transfers.find(tenant, pid),
      (row) => row.process.state === state && row.process.pending === null,
    );
    await eventually(
      () => a.transfers.find(tenant, peerPid),
      (row) => row.process.state === state && row.process.pending === null,
    );
  };
  return {
    a,
    b,
    agreementId,
    post,
    begin,
    settled,
    [Symbol.asyncDispose]: async () => {
      await a[Symbol.asyncDispose]();
      await b[Symbol.asyncDispose]();
    },
  };
};
const request = (
  agreementId: string,
  changes: { readonly [key: string]: Json } = {},
): { readonly [key: string]: Json } => ({
  '@context': [dspaceContext],
  '@type': 'TransferRequestMessage',
  consumerPid: 'urn:uuid:t1',
  agreementId,
  format: 'StekkerHttp-PULL',
  callbackAddress: 'https://consumer.example/dsp/2025-1',
  ...changes,
});

describe('transfer between two connectors', () => {
  test('starts with a data address, and ends with completion on both sides', async () => {
    await using its = await world();
    const row = await its.begin();
    expect(row.data.dataAddress?.endpointType).toBe('urn:stekker:1:http');
    expect(propertyOf(row.data.dataAddress ?? undefined, 'grant')).toBe('g1');
    await its.b.transfers.decide(tenant, row.pid, { do: 'complete' });
    await its.settled(row.pid, row.peerPid ?? '', 'COMPLETED');
    await eventually(
      async () => its.a.closed,
      (closed) => closed.includes(row.peerPid ?? ''),
    );
  });

  test('a suspension closes the data plane, and the resumption brings a fresh address', async () => {
    await using its = await world();
    const row = await its.begin();
    await its.a.transfers.decide(tenant, row.peerPid ?? '', {
      do: 'suspend',
      code: 'maintenance',
      reason: ['Back at noon.'],
    });
    await its.settled(row.pid, row.peerPid ?? '', 'SUSPENDED');
    expect(its.a.closed).toContain(row.peerPid);
    await its.a.transfers.decide(tenant, row.peerPid ?? '', { do: 'start' });
    await its.settled(row.pid, row.peerPid ?? '', 'STARTED');
    expect(propertyOf((await its.b.transfers.find(tenant, row.pid)).data.dataAddress ?? undefined, 'grant')).toBe('g2');
  });

  test('a consumer resumes what it suspended, and not what the provider did', async () => {
    await using its = await world();
    const row = await its.begin();
    await its.b.transfers.decide(tenant, row.pid, { do: 'suspend', code: 'pause', reason: [] });
    await its.settled(row.pid, row.peerPid ?? '', 'SUSPENDED');
    await its.b.transfers.decide(tenant, row.pid, { do: 'start' });
    await its.settled(row.pid, row.peerPid ?? '', 'STARTED');
    await its.a.transfers.decide(tenant, row.peerPid ?? '', { do: 'suspend', code: 'maintenance', reason: [] });
    await its.settled(row.pid, row.peerPid ?? '', 'SUSPENDED');
    const resumed = its.b.transfers.decide(tenant, row.pid, { do: 'start' });
    await expect(resumed).rejects.toMatchObject({ code: 'illegal-transition' });
    const start = {
      '@context': [dspaceContext],
      '@type': 'TransferStartMessage',
      providerPid: row.peerPid,
      consumerPid: row.pid,
    };
    expect(await its.post(`/transfers/${row.peerPid}/start`, start)).toMatchObject({
      status: 400,
      body: { '@type': 'TransferError', code: 'illegal-transition' },
    });
  });

  test('a consumer that resumes gets a fresh address, because the suspension voided the old one', async () => {
    await using its = await world();
    const row = await its.begin();
    await its.b.transfers.decide(tenant, row.pid, { do: 'suspend', code: 'pause', reason: [] });
    await its.settled(row.pid, row.peerPid ?? '', 'SUSPENDED');
    await its.b.transfers.decide(tenant, row.pid, { do: 'start' });
    const renewed = await eventually(
      () => its.b.transfers.find(tenant, row.pid),
      ({ process, data }) => process.state === 'STARTED' && propertyOf(data.dataAddress ?? undefined, 'grant') === 'g2',
    );
    expect(renewed.process.pending).toBe(null);
    await its.settled(row.pid, row.peerPid ?? '', 'STARTED');
    expect((await its.a.transfers.find(tenant, row.peerPid ?? '')).data.renew).toBe(false);
  });

  test('an address that ends is renewed by itself, and not while something is served that this would cut', async () => {
    let busy = true;
    await using its = await world({ addressLifetimeMs: 30_050, isBusy: () => busy });
    const row = await its.begin();
    await systemClock.sleep(200);
    const grantOf = async () =>
      propertyOf((await its.b.transfers.find(tenant, row.pid)).data.dataAddress ?? undefined, 'grant');
    expect(await grantOf()).toBe('g1');
    busy = false;
    await eventually(grantOf, (grant) => grant !== undefined && grant !== 'g1');
  });

  test('a suspension by an operator stays one, also while an address is renewed', async () => {
    await using its = await world();
    const row = await its.begin();
    const theirs = row.peerPid ?? '';
    await its.b.transfers.decide(tenant, row.pid, { do: 'suspend', code: 'pause', reason: [] });
    await its.settled(row.pid, theirs, 'SUSPENDED');
    await its.b.transfers.decide(tenant, row.pid, { do: 'start' });
    await its.settled(row.pid, theirs, 'STARTED');
    await eventually(
      () => its.a.transfers.find(tenant, theirs),
      ({ data, process }) => data.renew === false && process.pending === null && process.state === 'STARTED',
    );
    await its.a.transfers.decide(tenant, theirs, { do: 'suspend', code: 'maintenance', reason: [] });
    await its.settled(row.pid, theirs, 'SUSPENDED');
    await systemClock.sleep(100);
    expect((await its.a.transfers.find(tenant, theirs)).process.state).toBe('SUSPENDED');
  });

  test('a termination keeps its reason at the peer', async () => {
    await using its = await world();
    const row = await its.begin();
    await its.a.transfers.decide(tenant, row.peerPid ?? '', {
      do: 'terminate',
      code: 'agreement-ended',
      reason: ['The agreement has ended.'],
    });
    await its.settled(row.pid, row.peerPid ?? '', 'TERMINATED');
    expect((await its.b.transfers.find(tenant, row.pid)).data.ending).toEqual({
      by: 'peer',
      code: 'agreement-ended',
      reason: ['The agreement has ended.'],
    });
  });
});

describe('messages of a transfer', () => {
  test('a repeated request gets the process there is', async () => {
    await using its = await world({ decideTransfer: () => ({ do: 'wait' }) });
    const first = await its.post('/transfers/request', request(its.agreementId));
    const again = await its.post('/transfers/request', request(its.agreementId));
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.body.providerPid).toBe(first.body.providerPid);
  });

  test('a repeated request is known also when the agreement has ended by then; a new one is refused', async () => {
    await using its = await world({ decideTransfer: () => ({ do: 'wait' }) });
    const first = await its.post('/transfers/request', request(its.agreementId));
    await its.a.negotiations.end(tenant, its.agreementId, '');
    const again = await its.post('/transfers/request', request(its.agreementId));
    expect([again.status, again.body.providerPid]).toEqual([201, first.body.providerPid]);
    const other = await its.post('/transfers/request', { ...request(its.agreementId), consumerPid: 'urn:uuid:other' });
    expect([other.status, other.body.code]).toEqual([400, 'agreement-ended']);
  });

  test('an unknown agreement, or one of somebody else, is 404', async () => {
    await using its = await world();
    expect((await its.post('/transfers/request', request('urn:uuid:none'))).status).toBe(404);
    expect((await its.post('/transfers/request', request(its.agreementId), 'did:web:stranger.example')).status).toBe(
      404,
    );
  });

  test('a request is asked to wait while our last word of the agreement is on its way, and not refused', async () => {
    let sent = 0;
    let isLost = true;
    const fate = () => {
      sent += 1;
      return sent > 1 && isLost ? 'lose-answer' : 'deliver';
    };
    await using its = await world({ fate }, false);
    const { status } = await its.post('/transfers/request', request(its.agreementId));
    expect(status).toBe(503);
    isLost = false;
    await its.begin();
  });

  test('a format that the offer is not distributed in is refused', async () => {
    await using its = await world();
    expect(await its.post('/transfers/request', request(its.agreementId, { format: 'HttpData-PULL' }))).toMatchObject({
      status: 400,
      body: { code: 'format-unsupported' },
    });
  });

  test('completion and suspension before the start are refused', async () => {
    await using its = await world({ decideTransfer: () => ({ do: 'wait' }) });
    const { body } = await its.post('/transfers/request', request(its.agreementId));
    const pids = { '@context': [dspaceContext], providerPid: body.providerPid, consumerPid: 'urn:uuid:t1' };
    expect(
      await its.post(`/transfers/${body.providerPid}/completion`, { ...pids, '@type': 'TransferCompletionMessage' }),
    ).toMatchObject({ status: 400 });
    expect(
      await its.post(`/transfers/${body.providerPid}/suspension`, { ...pids, '@type': 'TransferSuspensionMessage' }),
    ).toMatchObject({ status: 400 });
    expect(
      await its.post(`/transfers/${body.providerPid}/termination`, {
        ...pids,
        '@type': 'TransferTerminationMessage',
        code: 1 as never,
      }),
    ).toMatchObject({ status: 400, body: { code: 'body-invalid' } });
    expect(
      await its.post(`/transfers/${body.providerPid}/termination`, {
        ...pids,
        '@type': 'TransferTerminationMessage',
        code: '1',
      }),
    ).toMatchObject({ status: 200 });
  });
});

describe('transfers under an agreement that ends', () => {
  test('are terminated on both sides, page by page, and a repeat finds nothing more', async () => {
    await using its = await world();
    const rows = await Promise.all(Array.from({ length: 103 }, () => its.begin()));
    const done = await its.begin();
    await its.b.transfers.decide(tenant, done.pid, { do: 'complete' });
    await its.settled(done.pid, done.peerPid ?? '', 'COMPLETED');
    const end = () => its.a.transfers.endUnder(tenant, its.agreementId, { code: 'agreement-ended', reason: ['over'] });
    await end();
    expect(new Set(its.a.closed)).toEqual(new Set([...rows.map(({ peerPid }) => peerPid), done.peerPid]));
    for (const { pid, peerPid } of rows) await its.settled(pid, peerPid ?? '', 'TERMINATED');
    await end();
    await its.a.transfers.endUnder(tenant, 'urn:uuid:other', { code: 'agreement-ended', reason: [] });
    expect((await its.b.transfers.find(tenant, done.pid)).process.state).toBe('COMPLETED');
  });
});
