import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/broker-bench.ts';
import { type ConnectorBench, connectorBench, type OperatedConnector } from '../support/chain-world.ts';

/** Extensions on and off, between real connectors (dsp §12): whoever has none sees plain DSP, and it works. */

let withAll: ConnectorBench;
let withNone: ConnectorBench;
let all: OperatedConnector;
let none: OperatedConnector;

const publish = async (bench: ConnectorBench, connector: OperatedConnector, assurance: 'cosigned' | 'plain-dsp') => {
  const path = join(bench.folder, `${assurance}.json`);
  writeFileSync(path, '{}');
  const { status, body } = await connector.operate('POST', '/v1/publications', {
    title: assurance,
    upstream: { kind: 'file', path },
    policy: { template: 'open' },
    assurance,
  });
  if (status !== 201) throw new Error(JSON.stringify(body));
  return (body.asset as { readonly id: string }).id;
};

const seen = async (reader: OperatedConnector, provider: OperatedConnector): Promise<readonly string[]> => {
  const { body } = await reader.operate('GET', `/v1/catalog?provider=${encodeURIComponent(provider.did)}`);
  return (body.items as readonly { readonly title: string }[]).map(({ title }) => title).sort();
};

const negotiate = async (consumer: OperatedConnector, provider: OperatedConnector, dataset: string) => {
  const begun = await consumer.operate('POST', '/v1/negotiations', { provider: provider.did, dataset });
  if (begun.status !== 201) return begun.body;
  return until(async () => {
    const { body } = await consumer.operate('GET', `/v1/negotiations/${encodeURIComponent(String(begun.body.id))}`);
    return body.state === 'FINALIZED' || body.state === 'TERMINATED' ? body : undefined;
  });
};

const datasets: Record<string, string> = {};

beforeAll(async () => {
  [withAll, withNone] = await Promise.all([connectorBench(), connectorBench({ STEKKER_EXTENSIONS: 'none' })]);
  [all, none] = await Promise.all([withAll.start(), withNone.start()]);
  for (const assurance of ['cosigned', 'plain-dsp'] as const) {
    datasets[`all ${assurance}`] = await publish(withAll, all, assurance);
    datasets[`none ${assurance}`] = await publish(withNone, none, assurance);
  }
});
afterAll(async () => {
  for (const one of [all, none, withAll, withNone]) await one?.[Symbol.asyncDispose]();
});

describe('extensions', () => {
  test('are announced with their paths, and found from the DID document', async () => {
    const answer = await fetch(`${withAll.origin}/.well-known/stekker`);
    expect(await answer.json()).toEqual({
      extensions: ['agreements', 'statements', 'tokens', 'catalog'].map((id) => ({
        id,
        version: '1',
        path: `/ext/1/${id}`,
      })),
    });
    const document = await (await fetch(`${withAll.origin}/.well-known/did.json`)).text();
    expect(document).toContain('StekkerExtensions');
  });

  test('that are off are neither announced nor served', async () => {
    const paths = [
      '/.well-known/stekker',
      '/ext/1/agreements',
      '/ext/1/agreements/urn:x',
      '/ext/1/statements/x/newest',
      '/ext/1/catalog/changes',
      '/ext/1/prices/x',
    ];
    for (const path of paths) expect((await fetch(`${withNone.origin}${path}`)).status, path).toBe(404);
    expect((await fetch(`${withNone.origin}/ext/1/tokens`, { method: 'POST' })).status).toBe(404);
    expect((await fetch(`${withAll.origin}/ext/1/tokens`, { method: 'POST' })).status).not.toBe(404);
    expect(await (await fetch(`${withNone.origin}/.well-known/did.json`)).text()).not.toContain('StekkerExtensions');
    expect((await fetch(`${withNone.origin}/.well-known/dspace-version`)).status).toBe(200);
  });

  test('decide which offers are seen: a cosigned one only where both sides can sign it', async () => {
    expect(await seen(none, all)).toEqual(['plain-dsp']);
    expect(await seen(all, none)).toEqual(['plain-dsp']);
    expect(await seen(all, all)).toEqual(['cosigned', 'plain-dsp']);
  });

  test('are not needed for a plain agreement, in either direction', async () => {
    expect(await negotiate(none, all, datasets['all plain-dsp'] ?? '')).toMatchObject({ state: 'FINALIZED' });
    expect(await negotiate(all, none, datasets['none plain-dsp'] ?? '')).toMatchObject({ state: 'FINALIZED' });
    expect(await negotiate(all, none, datasets['none cosigned'] ?? '')).not.toMatchObject({ state: 'FINALIZED' });
  });
});
