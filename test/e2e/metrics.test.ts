import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLogger } from '../../kernel/log.ts';
import { brokerBench } from '../support/broker-bench.ts';
import {
  acquire,
  type ConnectorBench,
  connectorBench,
  managementToken,
  type OperatedConnector,
} from '../support/chain-world.ts';

/** What an operator sees of a running connector: figures, and a log that names what each line concerns. */

interface Watched {
  readonly bench: ConnectorBench;
  readonly connector: OperatedConnector;
  readonly lines: Record<string, unknown>[];
}

const started = async (): Promise<Watched> => {
  const bench = await connectorBench();
  const lines: Record<string, unknown>[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line));
  const log = createLogger({ name: 'connector', level: 'info', destination: { write } });
  return { bench, connector: await bench.start({}, { log }), lines };
};

let provider: Watched;
let consumer: Watched;
let dataset: string;

beforeAll(async () => {
  [provider, consumer] = [await started(), await started()];
  const path = join(provider.bench.folder, 'levels.json');
  writeFileSync(path, '{"levels":[1,2,3]}');
  const published = await provider.connector.operate('POST', '/v1/publications', {
    title: 'Waterstanden',
    upstream: { kind: 'file', path },
    policy: { template: 'open' },
  });
  dataset = String((published.body.asset as { id: string } | undefined)?.id);
  await acquire(consumer.connector, { provider: provider.bench.did, dataset });
});

afterAll(async () => {
  for (const { bench, connector } of [provider, consumer]) {
    await connector[Symbol.asyncDispose]();
    await bench[Symbol.asyncDispose]();
  }
});

const read = (its: Watched, headers: Record<string, string> = { authorization: `Bearer ${managementToken}` }) =>
  fetch(`http://127.0.0.1:${its.connector.managementPort}/metrics`, { headers });

const figureOf = (text: string, start: string): number => {
  const line = text.split('\n').find((one) => one.startsWith(start));
  return line === undefined ? Number.NaN : Number(line.slice(line.lastIndexOf(' ') + 1));
};

describe('what an operator sees of a connector', () => {
  test('figures of processes by protocol, role and state, of tasks, requests and journals', async () => {
    const answer = await read(provider);
    expect(answer.headers.get('content-type')).toContain('version=0.0.4');
    const text = await answer.text();
    const of = 'participant="main",protocol="negotiations",role="provider"';
    expect(figureOf(text, `stekker_process_changes_total{${of},state="FINALIZED"}`)).toBeGreaterThan(0);
    const open = 'participant="main",protocol="transfers",role="provider",state="STARTED"';
    expect(figureOf(text, `stekker_processes_open{${open}}`)).toBe(1);
    expect(text).not.toMatch(/stekker_processes_open\{[^}]*FINALIZED/);
    expect(figureOf(text, 'stekker_tasks_due ')).toBeGreaterThanOrEqual(0);
    expect(figureOf(text, 'stekker_journal_ready{role="provider"}')).toBe(1);
    const route = 'method="POST",route="/dsp/2025-1/negotiations/request",status="201"';
    expect(figureOf(text, `stekker_http_requests_seconds_count{${route}}`)).toBe(1);
    expect(figureOf(text, 'stekker_peer_requests_seconds_count{method="POST",status="2xx"}')).toBeGreaterThan(1);
    expect(text).not.toContain('stekker_broker_silent_seconds');
    expect(figureOf(text, 'stekker_metrics_failed')).toBe(0);
  });

  test('the same of a broker: whether its log works, what waits, requests', async () => {
    await using side = await brokerBench();
    await using broker = await side.start();
    await fetch(`${side.origin}/.well-known/did.json`);
    const headers = { authorization: `Bearer ${managementToken}` };
    const asked = await fetch(`http://127.0.0.1:${broker.managementPort}/metrics`, { headers });
    const text = await asked.text();
    expect(asked.status).toBe(200);
    expect(figureOf(text, 'stekker_working ')).toBe(1);
    expect(figureOf(text, 'stekker_tasks_due ')).toBeGreaterThanOrEqual(0);
    const route = 'method="GET",route="/.well-known/did.json",status="200"';
    expect(figureOf(text, `stekker_http_requests_seconds_count{${route}}`)).toBeGreaterThan(0);
    expect((await fetch(`http://127.0.0.1:${broker.managementPort}/metrics`)).status).toBe(401);
  });

  test('a path that nobody knows adds no figure of its own', async () => {
    for (let n = 0; n < 3; n += 1) await fetch(`${provider.bench.origin}/nothing-${n}`);
    const text = await (await read(provider)).text();
    expect(text).not.toContain('nothing-');
    expect(text).toMatch(/stekker_http_requests_seconds_count\{[^}]*status="404"\} 3/);
  });

  test('figures are for the operator alone', async () => {
    expect((await read(provider, {})).status).toBe(401);
    expect((await read(provider, { authorization: 'Bearer wrong' })).status).toBe(401);
    expect((await fetch(`${provider.bench.origin}/metrics`)).status).toBe(404);
  });

  test('both logs name a process by both pids, its agreement and one trace', async () => {
    const isTransfer = ({ msg, protocol }: Record<string, unknown>) =>
      msg === 'process changed' && protocol === 'transfers';
    const change = consumer.lines.filter(isTransfer).at(-1);
    const its = provider.lines.filter((line) => isTransfer(line) && line.trace === change?.trace);
    expect(its.length).toBeGreaterThan(0);
    expect(its[0]).toMatchObject({ role: 'provider', peerPid: change?.pid, agreement: change?.agreement });
    expect(its[0]?.pid).toBe(change?.peerPid);
  });
});
