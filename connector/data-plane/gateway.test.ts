import { createServer } from 'node:http';
import { describe, expect, test } from 'vitest';
import { partBytes } from '../../contracts/ledger/record.ts';
import {
  agreementDigest,
  agreementId,
  application,
  providerPid,
  purpose,
  sendRaw,
  startWorld,
  tenant,
  until,
  type World,
} from '../../test/support/data-world.ts';
import { manyBytes } from '../../test/support/many-bytes.ts';

const problemOf = ({ body }: { readonly body: Buffer }) => JSON.parse(body.toString());
const codeOf = (answer: { readonly body: Buffer }): string =>
  problemOf(answer).type.replace('urn:stekker:1:error:', '');
const bothClosed = (world: World) =>
  until(
    () =>
      world.meter().closed().length === world.meter().opened().length &&
      world.consumerMeter.closed().length === world.consumerMeter.opened().length,
  );

/** What both sides must have alike: the record's members, clock and exposure apart. */
const recordsOf = (meter: World['consumerMeter']) =>
  meter
    .opened()
    .map(({ at: _at, ext: _ext, ...open }) => ({
      ...open,
      close: meter.closed().find(({ request, part }) => request === open.request && part === open.part),
    }))
    .toSorted((a, b) => (a.request === b.request ? a.part - b.part : a.request < b.request ? -1 : 1));

describe('gateway', () => {
  test('gives the data with the id of its request, and both sides recorded the same', async () => {
    await using world = await startWorld();
    const answer = await world.fetchData('/rain?day=1', {
      headers: ['stekker-run', 'run-1', 'accept', 'application/json'],
    });
    expect([answer.status, answer.body.toString()]).toEqual([200, '{"mm":3}']);
    const request = world.consumerMeter.opened()[0]?.request;
    expect(answer.headers['stekker-request']).toBe(request);
    expect(answer.headers['fsc-transaction-id']).toBe(request);
    expect(answer.headers.ratelimit).toContain('requests');
    await bothClosed(world);
    expect(recordsOf(world.consumerMeter)).toEqual(recordsOf(world.meter()));
    expect(world.consumerMeter.opened()[0]).toMatchObject({
      agreement: agreementDigest,
      application,
      purpose,
      run: 'run-1',
    });
  });

  test('records the parts of a long body as the provider does', async () => {
    await using world = await startWorld();
    const size = partBytes + 777;
    const answer = await world.fetchData(`/bytes?bytes=${size}`);
    expect(answer.body.equals(manyBytes(size))).toBe(true);
    await bothClosed(world);
    expect(recordsOf(world.consumerMeter)).toEqual(recordsOf(world.meter()));
    expect(world.consumerMeter.closed()).toHaveLength(2);
  });

  test.each(['HEAD', 'GET'])('%s with range and conditions passes, alike on both sides', async (method) => {
    await using world = await startWorld();
    const answer = await world.fetchData('/rain', { method, headers: ['range', 'bytes=0-1', 'if-none-match', '"x"'] });
    expect(answer.status).toBe(200);
    await bothClosed(world);
    expect(recordsOf(world.consumerMeter)).toEqual(recordsOf(world.meter()));
  });

  test('asks for one token for many requests of one use, and for another use another', async () => {
    await using world = await startWorld();
    const answers = await Promise.all(Array.from({ length: 10 }, () => world.fetchData('/rain')));
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
    expect(world.asked).toHaveLength(1);
    await world.fetchData('/rain', { headers: ['stekker-run', 'other'] });
    await world.fetchData('/rain', { purpose: 'urn:stekker:1:purpose:other' });
    expect(world.asked).toHaveLength(3);
    const rows = await world.db.selectFrom('access_token').select('jkt').execute();
    expect(new Set(rows.map(({ jkt }) => jkt)).size).toBe(3);
  });

  test('asks anew shortly before a token ends, and after a new grant', async () => {
    await using world = await startWorld();
    await world.fetchData('/rain');
    world.move(280_000);
    expect((await world.fetchData('/rain')).status).toBe(200);
    expect(world.asked).toHaveLength(1);
    world.move(6_000);
    expect((await world.fetchData('/rain')).status).toBe(200);
    expect(world.asked).toHaveLength(2);
    await world.reopen();
    expect((await world.fetchData('/rain')).status).toBe(200);
    expect(world.asked).toHaveLength(3);
  });

  test('a refused token is shown to the application, and only its next request asks for a new one', async () => {
    await using world = await startWorld();
    await world.fetchData('/rain');
    await world.db.deleteFrom('access_token').execute();
    await world.restart();
    const refused = await world.fetchData('/rain');
    expect([refused.status, codeOf(refused)]).toEqual([401, 'token-invalid']);
    expect(world.asked).toHaveLength(1);
    expect((await world.fetchData('/rain')).status).toBe(200);
    expect(world.asked).toHaveLength(2);
  });

  test('writes down before it asks', async () => {
    await using world = await startWorld();
    await world.fetchData('/rain');
    const release = world.consumerMeter.hold();
    const pending = world.fetchData('/rain');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(world.meter().opened()).toHaveLength(1);
    release();
    expect((await pending).status).toBe(200);
    expect(world.meter().opened()).toHaveLength(2);
  });

  test('fetches nothing that cannot be written down, or beyond its own window', async () => {
    await using world = await startWorld({ consumer: { requests: 1 } });
    expect((await world.fetchData('/rain')).status).toBe(200);
    const full = await world.fetchData('/rain');
    expect([full.status, codeOf(full)]).toEqual([429, 'window-exhausted']);
    world.consumerMeter.fail(true);
    const broken = await world.fetchData('/rain');
    expect([broken.status, codeOf(broken)]).toEqual([503, 'journal-unavailable']);
    expect(world.meter().opened()).toHaveLength(1);
  });

  test('a refusal of the provider passes with its reasons, at the access and at the token', async () => {
    const constraint = [{ leftOperand: 'odrl:count', operator: 'lteq', rightOperand: '1' }];
    const forPurpose = [{ leftOperand: 'odrl:purpose', operator: 'eq', rightOperand: purpose }, ...constraint];
    await using world = await startWorld({
      terms: { rules: { permission: [{ action: 'use', constraint: forPurpose }] } },
    });
    expect((await world.fetchData('/rain')).status).toBe(200);
    for (const answer of [await world.fetchData('/rain'), await world.fetchData('/rain', { purpose: 'urn:other' })]) {
      expect([answer.status, codeOf(answer)]).toEqual([403, 'policy-denied']);
      expect(problemOf(answer).reasons[0]).toEqual({ nl: expect.any(String), en: expect.any(String) });
    }
  });

  test('an application that leaves ends the request, and the record says how far it came', async () => {
    await using world = await startWorld({
      source: (_request, response) => {
        response.writeHead(200, { 'content-length': 100 });
        response.write('half');
      },
    });
    await world.fetchData('/x', { onData: (_chunk, response) => void response.destroy() });
    await bothClosed(world);
    expect(world.consumerMeter.closed()).toMatchObject([{ bytes: 4, outcome: 'partial', status: '200' }]);
    expect(world.meter().closed()).toMatchObject([{ bytes: 4, outcome: 'partial', status: '200' }]);
  });

  test('a provider that does not answer is 502, and what happened is unknown', async () => {
    await using world = await startWorld();
    await world.getToken();
    await world.fetchData('/rain');
    const deaf = createServer((request) => void request.socket.destroy());
    const release = world.consumerMeter.hold();
    const pending = world.fetchData('/rain');
    await until(() => world.consumerMeter.opened().length === 1);
    await new Promise((resolve) => setTimeout(resolve, 50));
    await world.stopProvider();
    await new Promise<void>((resolve) => deaf.listen(world.dataPort, '127.0.0.1', resolve));
    release();
    const answer = await pending;
    expect([answer.status, codeOf(answer)]).toEqual([502, 'fetch-failed']);
    expect(answer.headers['stekker-request']).toBe(world.consumerMeter.opened().at(-1)?.request);
    await until(() => world.consumerMeter.closed().length === 2);
    expect(world.consumerMeter.closed().at(-1)).toMatchObject({ outcome: 'unknown', status: '', bytes: 0, units: {} });
    deaf.closeAllConnections();
    await new Promise((resolve) => deaf.close(resolve));
  });
});

describe('who asks at the gateway', () => {
  test.each([
    ['no key', [], 401, 'unauthenticated'],
    ['a wrong key', ['authorization', 'Bearer stk_wrong'], 401, 'unauthenticated'],
    ['another scheme', ['authorization', 'Basic abc'], 401, 'unauthenticated'],
  ])('%s is refused', async (_name, headers, status, code) => {
    await using world = await startWorld();
    const path = `/data/${encodeURIComponent(agreementId)}/rain`;
    const answer = await sendRaw({ port: world.gatewayPort, path, headers: [...headers, 'stekker-purpose', purpose] });
    expect([answer.status, codeOf(answer)]).toEqual([status, code]);
    expect(world.consumerMeter.opened()).toEqual([]);
  });

  test.each([
    ['no purpose', { purpose: '' }, 400, 'request-invalid'],
    ['a purpose that is no IRI', { purpose: 'crisis' }, 400, 'request-invalid'],
    ['a run twice', { headers: ['stekker-run', 'a', 'stekker-run', 'b'] }, 400, 'request-invalid'],
    ['the key twice', { headers: ['authorization', 'Bearer x'] }, 400, 'request-invalid'],
    ['an agreement that nothing was started under', { agreement: 'urn:uuid:other' }, 404, 'not-found'],
    ['another method', { method: 'POST' }, 405, 'method-not-allowed'],
  ])('%s is refused', async (_name, changes, status, code) => {
    await using world = await startWorld();
    const answer = await world.fetchData('/rain', changes);
    expect([answer.status, codeOf(answer)]).toEqual([status, code]);
    expect(world.consumerMeter.opened()).toEqual([]);
  });

  test.each(['/../x', '/%2e%2e/x', '/a%2fb'])('the path %s is refused', async (path) => {
    await using world = await startWorld();
    const answer = await world.fetchData(path);
    expect(answer.status).toBe(404);
    expect(world.meter().opened()).toEqual([]);
  });

  test('an ended agreement is not fetched under', async () => {
    await using world = await startWorld();
    world.markEnded();
    const answer = await world.fetchData('/rain');
    expect(codeOf(answer)).toBe('agreement-ended');
  });

  test('a removed application opens nothing from then on', async () => {
    await using world = await startWorld();
    expect((await world.fetchData('/rain')).status).toBe(200);
    await world.applications.remove(tenant, application);
    expect((await world.fetchData('/rain')).status).toBe(401);
    await expect(world.applications.remove(tenant, application)).rejects.toMatchObject({ code: 'not-found' });
  });

  test('an application is added once, with an id and a version, and its key is stored as a hash', async () => {
    await using world = await startWorld();
    await expect(world.applications.add(tenant, application)).rejects.toMatchObject({ code: 'version-conflict' });
    await expect(world.applications.add(tenant, 'no version')).rejects.toMatchObject({ code: 'body-invalid' });
    const { key } = await world.applications.add(tenant, 'urn:stekker:1:app:other@2');
    expect(world.applications.list(tenant).map(({ id }) => id)).toEqual([application, 'urn:stekker:1:app:other@2']);
    expect(JSON.stringify(await world.db.selectFrom('application').selectAll().execute())).not.toContain(key);
    expect((await world.fetchData('/rain', { key })).status).toBe(200);
    await bothClosed(world);
    expect(world.meter().opened()[0]).toMatchObject({
      application: 'urn:stekker:1:app:other@2',
      transfer: providerPid,
    });
  });
});
