import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { brokerSettings } from '../../broker/config.ts';
import { connectorSettings } from '../../connector/config.ts';
import { completeLock } from '../../scripts/complete-lock.ts';
import { generatedPages } from '../../scripts/docs.ts';

const root = resolve(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const tracked = execFileSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).split('\n').filter(Boolean);

describe('tidy', () => {
  test('the pages made from code are up to date', () => {
    const pages = Object.entries(generatedPages());
    expect(pages.length).toBeGreaterThan(1);
    for (const [path, text] of pages) expect(read(path), `${path}: run npm run docs`).toBe(text);
  });

  test('every example of a setting is valid', () => {
    const settings = Object.entries({ ...connectorSettings, ...brokerSettings });
    expect(settings.length).toBeGreaterThan(20);
    for (const [key, entry] of settings) {
      if ('secret' in entry) continue;
      expect(entry.schema.safeParse(entry.example).success, `${key}=${entry.example}`).toBe(true);
    }
  });

  test('the lock file is complete for every platform', () => {
    expect(completeLock(JSON.parse(read('package-lock.json'))).added).toEqual([]);
  });

  test('every dependency stands in docs/dependencies.md with a reason', () => {
    const manifest = JSON.parse(read('package.json'));
    const names = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.devDependencies)];
    expect(names.length).toBeGreaterThan(20);
    const page = read('docs/dependencies.md');
    expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
  });

  // Says only "SEE LICENSE IN LICENSE.md", which is the three-clause BSD licence for its code and the W3C document licence for the contexts.
  test('licences of what is shipped are ones we accept', () => {
    const lock = JSON.parse(read('package-lock.json')) as {
      packages: Record<string, { dev?: boolean; license?: string }>;
    };
    const accepted =
      /^\(?(MIT|MIT-0|0BSD|ISC|Apache-2\.0|BSD-2-Clause|BSD-3-Clause|MPL-2\.0|EUPL-1\.2|CC0-1\.0|Unlicense|BlueOak-1\.0\.0|Python-2\.0)\b/;
    const shipped = Object.entries(lock.packages).filter(([place, entry]) => place !== '' && entry.dev !== true);
    const known = new Set(['node_modules/@digitalbazaar/credentials-context']);
    const refused = shipped.filter(
      ([place, { license = '' }]) => !accepted.test(license) && license !== '' && !known.has(place),
    );
    expect(shipped.length).toBeGreaterThan(30);
    expect(refused.map(([place, entry]) => `${place}: ${entry.license}`)).toEqual([]);
  });

  test('no folder has a name that says nothing', () => {
    const banned = new Set(['controllers', 'services', 'utils', 'helpers', 'common', 'models', 'types', 'misc', 'lib']);
    const own = tracked.filter((path) => !path.startsWith('test/fixtures/')); // those keep the names they came with
    expect(own.filter((path) => path.split('/').some((part) => banned.has(part)))).toEqual([]);
  });

  test('nothing is left open in the code, and no test is switched off', () => {
    const open = /\b(TODO|FIXME|XXX)\b|\b(it|describe|test)\.(only|todo)\b|\b(it|describe|test)\.skip\(/;
    const sources = tracked.filter((path) => /\.(ts|sol)$/.test(path) && !path.endsWith('tidy.test.ts'));
    expect(sources.length).toBeGreaterThan(10);
    expect(sources.filter((path) => open.test(read(path)))).toEqual([]);
  });

  test('every port has a contract suite', () => {
    const ports = tracked.filter((path) => /^(connector|broker)\/[^/]+\/ports\.ts$/.test(path));
    const suites = tracked
      .filter((path) => path.startsWith('test/contract/'))
      .map(read)
      .join('\n');
    const stores = ports.flatMap((path) =>
      [...read(path).matchAll(/export interface (\w+Store)\b/g)].map((found) => found[1] ?? ''),
    );
    expect(stores.filter((name) => !suites.includes(name))).toEqual([]);
  });
});
