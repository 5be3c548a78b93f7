import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connectorBench, type OperatedConnector } from '../support/chain-world.ts';
import { root } from '../support/program.ts';
import { caseNames } from './dsp/cases.ts';
import { parseProperties } from './dsp/settings.ts';

/** What the cases need stands in tests alone: nothing of it is in what is built and deployed. */

const folders = ['bin', 'broker', 'connector', 'contracts', 'kernel', 'policies'];
const tracked = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).split('\n').filter(Boolean);
const sources = tracked.filter(
  (path) => folders.includes(path.split('/')[0] ?? '') && path.endsWith('.ts') && !/\.(test|d)\.ts$/.test(path),
);
const properties = parseProperties(readFileSync(join(root, 'test/conformance/dsp.properties'), 'utf8'));

/** Ids of datasets, offers and agreements of the cases. */
const ids = [...properties].filter(([key]) => /^(CAT|CN|TP).*ID$/.test(key)).map(([, value]) => value);
const places = [...properties].filter(([key]) => key.endsWith('.initiate.url')).map(([, url]) => new URL(url).pathname);
const words = [
  ...ids,
  ...places,
  ...caseNames,
  'TCK_PARTICIPANT',
  'dataspacetck',
  'scriptedDecisions',
  'startScenario',
  '/test/',
  'NODE_ENV',
  'VITEST',
];
const found = (text: string): readonly string[] => words.filter((word) => text.includes(word));

describe('what is built', () => {
  beforeAll(() => {
    execFileSync(join(root, 'node_modules/.bin/tsc'), ['-b', 'bin'], { cwd: root, stdio: 'pipe' });
  }, 300_000);

  test('holds no trigger route, no name of a scenario, no test switch', () => {
    expect([ids.length, places.length, sources.length > 300]).toEqual([79, 2, true]);
    const built = sources.map(
      (path) => [path, readFileSync(join(root, 'dist', path.replace(/\.ts$/, '.js')), 'utf8')] as const,
    );
    expect(built.flatMap(([path, text]) => found(text).map((word) => `${path}: ${word}`))).toEqual([]);
    const written = sources.map((path) => [path, readFileSync(join(root, path), 'utf8')] as const);
    expect(written.flatMap(([path, text]) => found(text).map((word) => `${path}: ${word}`))).toEqual([]);
  });

  test('is looked through with words that the tests do hold', () => {
    const own = tracked
      .filter((path) => path.startsWith('test/conformance/'))
      .map((path) => readFileSync(join(root, path), 'utf8'));
    const all = own.join('\n');
    const shown = [
      ...ids,
      ...places,
      ...caseNames,
      'TCK_PARTICIPANT',
      'dataspacetck',
      'scriptedDecisions',
      'startScenario',
    ];
    expect(shown.filter((word) => !all.includes(word))).toEqual([]);
  });
});

describe('a connector as it is deployed', () => {
  let bench: Awaited<ReturnType<typeof connectorBench>>;
  let connector: OperatedConnector;
  beforeAll(async () => {
    bench = await connectorBench();
    connector = await bench.start();
  });
  afterAll(async () => {
    await connector[Symbol.asyncDispose]();
    await bench[Symbol.asyncDispose]();
  });

  test('serves no trigger at any of its ports', async () => {
    const { publicPort, dataPort, gatewayPort, managementPort } = connector;
    for (const port of [publicPort, dataPort, gatewayPort, managementPort])
      for (const path of places) {
        const body = JSON.stringify({
          providerId: 'TCK_PARTICIPANT',
          connectorAddress: 'http://localhost:1',
          datasetId: 'x',
          offerId: 'y',
        });
        const headers = { 'content-type': 'application/json', authorization: 'Bearer tck' };
        const { status } = await fetch(`http://localhost:${port}${path}`, { method: 'POST', body, headers });
        expect([401, 403, 404, 405], `${port}${path}`).toContain(status);
      }
    const { body } = await connector.operate('GET', '/v1/negotiations');
    expect(body.items).toEqual([]);
  });

  test('knows nobody by the one header of a kit', async () => {
    const headers = {
      'content-type': 'application/json',
      authorization: String(properties.get('dataspacetck.dsp.connector.http.headers.authorization')),
    };
    const request = { '@context': ['https://w3id.org/dspace/2025/1/context.jsonld'], '@type': 'CatalogRequestMessage' };
    const answer = await fetch(`http://localhost:${connector.publicPort}/dsp/2025-1/catalog/request`, {
      method: 'POST',
      body: JSON.stringify(request),
      headers,
    });
    expect(answer.status).toBe(401);
  });
});
