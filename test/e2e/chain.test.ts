import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BrokerBench, brokerBench, type Operated, until } from '../support/broker-bench.ts';
import {
  acquire,
  type ConnectorBench,
  connectorBench,
  joinBroker,
  type OperatedConnector,
} from '../support/chain-world.ts';

/** One access goes the whole way, between real services over real HTTP. */

const purpose = 'urn:stekker:1:purpose:crisis';
const application = 'urn:stekker:1:app:evacuatie@1.0.0';
const text = JSON.stringify({ levels: [1, 2, 3] });

let brokerSide: BrokerBench;
let holderSide: ConnectorBench;
let runtimeSide: ConnectorBench;
let broker: Operated;
let holder: OperatedConnector;
let runtime: OperatedConnector;

beforeAll(async () => {
  brokerSide = await brokerBench();
  broker = await brokerSide.start();
  const env = { STEKKER_BROKER_URL: brokerSide.origin };
  holderSide = await connectorBench({ ...env, STEKKER_NAME: 'Waterschap' });
  runtimeSide = await connectorBench({ ...env, STEKKER_NAME: 'Veiligheidsregio' });
  [holder, runtime] = await Promise.all([holderSide.start(), runtimeSide.start()]);
  await joinBroker(broker, holder);
  await joinBroker(broker, runtime, { roles: ['application-runtime'] });
});
afterAll(async () => {
  for (const one of [runtime, holder, broker, runtimeSide, holderSide, brokerSide]) await one?.[Symbol.asyncDispose]();
});

describe('the whole chain', () => {
  test('published, negotiated, fetched, stated, registered and proven by a receipt', async () => {
    const path = join(holderSide.folder, 'levels.json');
    writeFileSync(path, text);
    const published = await holder.operate('POST', '/v1/publications', {
      title: 'Waterstanden',
      upstream: { kind: 'file', path },
      policy: { template: 'purpose', parameters: { purpose } },
      price: { currency: 'EUR', scale: '4', lines: [{ unit: 'requests', quantity: '1', value: '25' }] },
    });
    expect(published.status, JSON.stringify(published.body)).toBe(201);
    const dataset = String((published.body.asset as { id: string }).id);

    const { agreementId, dataUrl } = await acquire(runtime, { provider: holderSide.did, dataset });
    const added = await runtime.operate('POST', '/v1/applications', { application });
    expect(added.status).toBe(201);
    const answer = await fetch(dataUrl, {
      headers: { authorization: `Bearer ${String(added.body.key)}`, 'stekker-purpose': purpose },
    });
    expect(answer.status, await answer.clone().text()).toBe(200);
    expect(await answer.text()).toBe(text);
    const request = answer.headers.get('stekker-request') ?? '';

    await runtime.operate('POST', `/v1/agreements/${encodeURIComponent(agreementId)}/end`, { reason: 'done' });
    const receipt = await until(async () => {
      const got = await runtime.operate('GET', `/v1/receipts/${request}`);
      return got.status === 200 ? got.body : undefined;
    });
    const digest = createHash('sha256').update(text).digest('base64url');
    expect(receipt).toMatchObject({ type: 'receipt', record: { request, digest, bytes: String(text.length) } });
    expect(receipt.sums).toMatchObject({ amount: { currency: 'EUR', scale: '4', value: '25' } });
  });
});
