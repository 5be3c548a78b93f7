import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type ConnectorBench, connectorBench } from '../test/support/chain-world.ts';
import { readConnectorConfig } from './config.ts';

let bench: ConnectorBench | undefined;
afterEach(async () => bench?.[Symbol.asyncDispose]());

describe('the folder of the usage journals', () => {
  test.each(['inside', '.', '../data/..inside'])(
    'may not lie in the data folder, and so in its backups: %s',
    async (place) => {
      bench = await connectorBench();
      const STEKKER_JOURNAL_FOLDER = join(bench.config.STEKKER_DATA, place);
      await expect(bench.start({ STEKKER_JOURNAL_FOLDER })).rejects.toMatchObject({
        code: 'config-invalid',
        detail: 'STEKKER_JOURNAL_FOLDER lies inside STEKKER_DATA, and so inside its backups',
      });
    },
  );

  test('may lie beside it, under a name that begins alike', async () => {
    bench = await connectorBench();
    const STEKKER_JOURNAL_FOLDER = `${bench.config.STEKKER_DATA}-of-journals`;
    await (await bench.start({ STEKKER_JOURNAL_FOLDER }))[Symbol.asyncDispose]();
  });
});

const signedIn = (folder: string) => readdirSync(folder).filter((name) => name.startsWith('signed-'));

describe('the folder of the signed numbers', () => {
  test('may not lie in the data folder, and so in its backups', async () => {
    bench = await connectorBench();
    const STEKKER_SIGNED_FOLDER = join(bench.config.STEKKER_DATA, 'inside');
    await expect(bench.start({ STEKKER_SIGNED_FOLDER })).rejects.toMatchObject({
      code: 'config-invalid',
      detail: 'STEKKER_SIGNED_FOLDER lies inside STEKKER_DATA, and so inside its backups',
    });
  });

  test('is that of the journals; when it gets a name what was signed before is taken along', async () => {
    bench = await connectorBench();
    const journals = `${bench.config.STEKKER_DATA}-journal`;
    const STEKKER_SIGNED_FOLDER = `${bench.config.STEKKER_DATA}-signed`;
    await (await bench.start())[Symbol.asyncDispose]();
    expect(signedIn(journals)).toHaveLength(1);
    for (const starts of [2, 3]) {
      await (await bench.start({ STEKKER_SIGNED_FOLDER }))[Symbol.asyncDispose]();
      expect(signedIn(journals)).toEqual([]);
      expect(signedIn(STEKKER_SIGNED_FOLDER)).toHaveLength(starts);
    }
  });

  test('has a name where processes share a database', () => {
    const shared = {
      STEKKER_DATA: '/data',
      STEKKER_PUBLIC_URL: 'https://connector.example',
      STEKKER_DATA_URL: 'https://data.connector.example',
      STEKKER_PASSPHRASE: 'a sentence nobody guesses',
      STEKKER_MANAGEMENT_TOKEN: 'kq3-of-24-characters-or-more',
      STEKKER_DATABASE_URL: 'postgresql://stekker@db.internal/stekker',
      STEKKER_KEYS: '/keys',
    };
    expect(() => readConnectorConfig(shared)).toThrow('STEKKER_SIGNED_FOLDER is needed with STEKKER_DATABASE_URL');
    const named = { ...shared, STEKKER_SIGNED_FOLDER: '/signed' };
    expect(readConnectorConfig(named).STEKKER_SIGNED_FOLDER).toBe('/signed');
    const { STEKKER_DATABASE_URL: _left, ...alone } = shared;
    expect(readConnectorConfig(alone).STEKKER_SIGNED_FOLDER).toBeUndefined();
  });
});
