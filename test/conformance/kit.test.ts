import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../support/holder.ts';
import { type CaseName, caseNames, groupOf, isProcessCase, stepsOf } from './dsp/cases.ts';
import { type CaseResult, runKit } from './dsp/kit.ts';
import { type KitSettings, parseProperties, readSettings, SettingsError } from './dsp/settings.ts';
import { settingsAtFreePorts } from './places.ts';
import { startScenario } from './scenario/connector.ts';
import { startProxy } from './wrong/proxy.ts';
import { wrongs } from './wrong/table.ts';

/** The kit passes the connector, and passes nobody else: each case is shown one that does something wrong. */

let settings: KitSettings;
let connector: AsyncDisposable;

beforeAll(async () => {
  settings = readSettings(await settingsAtFreePorts(), caseNames);
  connector = await startScenario({ settings });
});
afterAll(() => connector[Symbol.asyncDispose]());

const failuresOf = (results: readonly CaseResult[]) => results.filter(({ failure }) => failure !== undefined);

describe('the official cases', () => {
  test('are 65, in their groups', () => {
    const counts = Object.groupBy(caseNames, groupOf);
    expect(Object.entries(counts).map(([group, names]) => [group, names.length])).toEqual([
      ['MET', 1],
      ['CAT', 3],
      ['CN', 15],
      ['CN_C', 16],
      ['TP', 15],
      ['TP_C', 15],
    ]);
    expect(new Set(caseNames).size).toBe(65);
  });

  test('all pass on the connector', async () => {
    const results = await runKit({ settings });
    expect(failuresOf(results)).toEqual([]);
    expect(results).toHaveLength(65);
  });

  test('all pass on a connector without extensions', async () => {
    const its = readSettings(await settingsAtFreePorts(), caseNames);
    await using _connector = await startScenario({ settings: its, extensions: 'none' });
    const announced = async ({ baseUrl }: KitSettings) => (await fetch(`${baseUrl}/.well-known/stekker`)).status;
    expect([await announced(settings), await announced(its)]).toEqual([200, 404]);
    const results = await runKit({ settings: its });
    expect(failuresOf(results)).toEqual([]);
    expect(results).toHaveLength(65);
  });

  test('all pass through a proxy that spoils nothing', async () => {
    await using proxy = await startProxy(settings);
    const results = await runKit({ settings: proxy.settings });
    expect(failuresOf(results)).toEqual([]);
    expect(results).toHaveLength(65);
  });

  test('none passes where nothing runs', async () => {
    const nobody = readSettings(await settingsAtFreePorts(), caseNames);
    const results = await runKit({ settings: nobody });
    expect(failuresOf(results)).toHaveLength(65);
  });
});

describe('a connector that does something wrong', () => {
  const all = Object.entries(wrongs).flatMap(([name, list]) =>
    list.map((wrong) => ({ ...wrong, name: name as CaseName })),
  );
  const outcomes = new Map<object, CaseResult>();

  beforeAll(async () => {
    const left = [...all];
    const work = async (): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const port = await freePort();
        await using proxy = await startProxy({ ...settings, port }, next.wrong);
        // Only what never comes is waited for to the end.
        const waitMs = next.wrong.isLost === true || next.neverSeen === true ? 2_500 : 20_000;
        const kit = { ...proxy.settings, waitMs, quietMs: 250 };
        const [result] = await runKit({ settings: kit, names: [next.name] });
        if (result !== undefined) outcomes.set(next, result);
      }
    };
    await Promise.all(Array.from({ length: 12 }, work));
  });

  test('is shown to every case, and no case passes it', () => {
    expect(Object.keys(wrongs).toSorted()).toEqual(caseNames.toSorted());
    expect(outcomes.size).toBe(all.length);
    expect(all.length).toBeGreaterThan(140);
    const failed = all.filter((its) => its.says.test(outcomes.get(its)?.failure ?? ''));
    expect(new Set(failed.map(({ name }) => name)).size).toBe(65);
  });

  test.each(all.map((its) => [`${its.name} fails when ${its.what}`, its] as const))('%s', (_title, its) => {
    expect(outcomes.get(its)?.failure ?? 'it passed').toMatch(its.says);
  });
});

describe('the settings of a kit', () => {
  test('are read as Java reads its properties', () => {
    const text = '# c\n! c\na=1\n b : two words \nc\\:d=x\\\n   y\ne=\\u00e9\\t|\n\nf 3\ng=a\\\\\nh=did:web:a%3A1';
    expect([...parseProperties(text)]).toEqual([
      ['a', '1'],
      ['b', 'two words'],
      ['c:d', 'xy'],
      ['e', 'é\t|'],
      ['f', '3'],
      ['g', 'a\\'],
      ['h', 'did:web:a%3A1'],
    ]);
  });

  test('must name every id, or the run does not start', async () => {
    const text = await settingsAtFreePorts();
    const ids = [...parseProperties(text).keys()].filter((key) => /^(CAT|CN|TP)(_C)?_\d/.test(key));
    expect(ids).toHaveLength(109);
    for (const key of ['CN_03_04_OFFERID', 'TP_C_01_05_FORMAT', 'dataspacetck.dsp.connector.agent.id']) {
      const without = text.replace(new RegExp(`^${key.replaceAll('.', '\\.')}=.*$`, 'm'), '');
      expect(() => readSettings(without, caseNames)).toThrow(new SettingsError(`these settings are missing: ${key}`));
    }
    const self = `${text}\ndataspacetck.dsp.local.connector=true\n`;
    expect(() => readSettings(self, caseNames)).toThrow('asks a kit to test itself');
    const long = `${text}\ndataspacetck.dsp.default.wait=10000000\n`;
    expect(() => readSettings(long, caseNames)).toThrow('in seconds');
  });

  test('lead to steps that are known', () => {
    const steps = caseNames.filter(isProcessCase).flatMap(stepsOf);
    expect(steps.length).toBeGreaterThan(200);
    const known = new Set(['request', 'trigger', 'quiet', 'send', 'take', 'tryIn']);
    expect(steps.filter((step) => !known.has(step.do))).toEqual([]);
  });
});
