import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { isAppError } from '../contracts/errors.ts';
import { booleanText, describeSettings, integerText, originText, readSettings, setting } from './settings.ts';

const table = {
  STEKKER_PORT: setting(integerText(1, 65_535).prefault('8080'), 'A port.', '8080'),
  STEKKER_URL: setting(originText, 'An origin.', 'https://a.example'),
  STEKKER_QUIET: setting(booleanText.prefault('false'), 'A switch.', 'true'),
  STEKKER_KEY: setting(z.string().min(8, 'is too short'), 'A key.', 'abcdefgh', { secret: true }),
};
const good = { STEKKER_URL: 'https://a.example', STEKKER_KEY: 'geheim-marker-1' };

const faultsOf = (env: Record<string, string>) => {
  try {
    readSettings(table, env, 'STEKKER_');
  } catch (error) {
    if (isAppError(error, 'config-invalid')) return error.faults;
    throw error;
  }
  return [];
};

describe('settings', () => {
  test('take defaults and parse into types', () => {
    expect(readSettings(table, good, 'STEKKER_')).toEqual({
      STEKKER_PORT: 8080,
      STEKKER_URL: 'https://a.example',
      STEKKER_QUIET: false,
      STEKKER_KEY: 'geheim-marker-1',
    });
  });

  test('a wrong setting names the key, what is wrong, and an example; all of them at once', () => {
    const faults = faultsOf({ STEKKER_PORT: '80800', STEKKER_URL: 'https://a.example/x', STEKKER_QUIET: 'yes' });
    expect(faults).toEqual([
      { path: 'STEKKER_PORT', message: 'is above 65535; example: STEKKER_PORT=8080' },
      {
        path: 'STEKKER_URL',
        message:
          'is no origin such as https://connector.example, without path or trailing slash; example: STEKKER_URL=https://a.example',
      },
      { path: 'STEKKER_QUIET', message: 'is neither true nor false; example: STEKKER_QUIET=true' },
      { path: 'STEKKER_KEY', message: 'is missing; example: STEKKER_KEY=(a secret)' },
    ]);
  });

  test('an unknown key is a fault, so that a typing error leaves no default in place', () => {
    expect(faultsOf({ ...good, STEKKER_PROT: '1' })).toEqual([
      { path: 'STEKKER_PROT', message: 'is no setting of this program' },
    ]);
  });

  test('a secret comes from a file, and never from both', () => {
    const path = join(mkdtempSync(join(tmpdir(), 'settings-')), 'key');
    writeFileSync(path, 'geheim-marker-2\n');
    const fromFile = { STEKKER_URL: good.STEKKER_URL, STEKKER_KEY_FILE: path };
    expect(readSettings(table, fromFile, 'STEKKER_').STEKKER_KEY).toBe('geheim-marker-2');
    expect(faultsOf({ ...good, STEKKER_KEY_FILE: path })[0]?.message).toContain('not both');
  });

  test('a faulty secret is not shown', () => {
    const faults = faultsOf({ STEKKER_URL: good.STEKKER_URL, STEKKER_KEY: 'short' });
    expect(JSON.stringify(faults)).not.toContain('short"');
    expect(faults[0]?.message).toBe('is too short; example: STEKKER_KEY=(a secret)');
  });

  test('are described in a table with their defaults', () => {
    expect(describeSettings(table)).toContain('| `STEKKER_PORT` | A port. | `8080` | `8080` |');
    expect(describeSettings(table)).toContain('| `STEKKER_KEY` (secret) | A key. | required | `abcdefgh` |');
  });
});
