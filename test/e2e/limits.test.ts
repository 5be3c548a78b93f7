import { describe, expect, test } from 'vitest';
import { protocolPath } from '../../contracts/dsp/common.ts';
import type { Did } from '../../contracts/ids.ts';
import { brokerBench } from '../support/broker-bench.ts';
import { connectorBench, operatorOf } from '../support/chain-world.ts';
import { startWorld } from '../support/data-world.ts';
import { type Holder, startHolder } from '../support/holder.ts';

/** Everything has a limit (DESIGN §5.9): whoever asks too often waits, and nobody else does. */

/** One, and then one in ten seconds. */
const few = { STEKKER_PEER_CALLS_PER_MINUTE: '6', STEKKER_ALL_CALLS_PER_MINUTE: '60' };

const catalogRequest = JSON.stringify({
  '@context': ['https://w3id.org/dspace/2025/1/context.jsonld'],
  '@type': 'CatalogRequestMessage',
});

const post = (url: string, body: string, by: Holder, audience: Did): Promise<Response> =>
  fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: by.tokens.tokenFor({ audience }) },
    body,
  });

const waitOf = (answer: Response): number => Number(answer.headers.get('retry-after'));

describe('a counterparty that asks too often', () => {
  test('waits at the protocol and at the wallet of a connector; another one does not', async () => {
    await using bench = await connectorBench(few);
    await using connector = await bench.start();
    await using hasty = await startHolder(1);
    await using calm = await startHolder(2);
    const catalog = `${bench.origin}${protocolPath}/catalog/request`;
    const first = await post(catalog, catalogRequest, hasty, bench.did);
    expect(first.status).toBe(200);
    const refused = await post(catalog, catalogRequest, hasty, bench.did);
    expect([refused.status, await refused.json()]).toEqual([
      429,
      expect.objectContaining({ '@type': 'CatalogError', code: 'too-many-requests' }),
    ]);
    expect(waitOf(refused)).toBeGreaterThan(0);
    expect(waitOf(refused)).toBeLessThanOrEqual(10);
    const query = await post(`${bench.origin}/dcp/presentations/query`, '{}', hasty, bench.did);
    expect([query.status, waitOf(query) > 0]).toEqual([429, true]);
    const statement = await post(`${bench.origin}/ext/1/statements/request`, '{}', hasty, bench.did);
    expect(statement.status).toBe(429);
    expect((await post(catalog, catalogRequest, calm, bench.did)).status).toBe(200);
    expect(connector.did).toBe(bench.did);
  });

  test('and many others together wait at a participant', async () => {
    await using bench = await connectorBench({
      STEKKER_PEER_CALLS_PER_MINUTE: '60',
      STEKKER_ALL_CALLS_PER_MINUTE: '12',
    });
    await using _ = await bench.start();
    await using one = await startHolder(1);
    await using other = await startHolder(2);
    const catalog = `${bench.origin}${protocolPath}/catalog/request`;
    const statuses: number[] = [];
    for (const by of [one, other, one, other])
      statuses.push((await post(catalog, catalogRequest, by, bench.did)).status);
    expect(statuses).toEqual([200, 200, 429, 429]);
  });

  test('waits at a broker', async () => {
    await using bench = await brokerBench(few);
    await using _ = await bench.start();
    await using hasty = await startHolder(1);
    const ask = () => post(`${bench.origin}/log/entries`, '{}', hasty, bench.did);
    expect((await ask()).status).not.toBe(429);
    const refused = await ask();
    expect([refused.status, waitOf(refused) > 0]).toEqual([429, true]);
  });

  test('waits at the data plane, and what is refused is not recorded', async () => {
    await using world = await startWorld({ accesses: 12 });
    const token = await world.getToken();
    const answers = await Promise.all([1, 2, 3, 4].map(() => world.access(token)));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 200, 429, 429]);
    const refused = answers.find(({ status }) => status === 429);
    expect(Number(refused?.headers['retry-after'])).toBeGreaterThan(0);
    expect(JSON.parse(refused?.body.toString() ?? '{}').type).toBe('urn:stekker:1:error:too-many-requests');
    expect(world.meter().opened()).toHaveLength(2);
    world.move(5_000);
    expect((await world.access(token)).status).toBe(200);
  });
});

describe("an operator's API that is asked too often", () => {
  test('says when to come again; a stranger without the token uses nothing up', async () => {
    await using bench = await connectorBench({ STEKKER_MANAGEMENT_CALLS_PER_MINUTE: '12' });
    await using connector = await bench.start();
    const url = `http://127.0.0.1:${connector.managementPort}/v1/status`;
    for (let n = 0; n < 10; n += 1) expect((await fetch(url)).status).toBe(401);
    const operate = operatorOf(connector.managementPort);
    expect((await operate('GET', '/v1/status')).status).toBe(200);
    expect((await operate('GET', '/v1/status')).status).toBe(200);
    const refused = await operate('GET', '/v1/status');
    expect([refused.status, refused.body.type]).toEqual([429, 'urn:stekker:1:error:too-many-requests']);
  });
});
