import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type ConnectorBench, connectorBench } from '../test/support/chain-world.ts';

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
