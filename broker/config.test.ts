import { describe, expect, test } from 'vitest';
import { secretText } from '../test/support/secrets.ts';
import { anchorSettings, readBrokerConfig } from './config.ts';

const least = {
  STEKKER_DATA: '/var/lib/stekker',
  STEKKER_PUBLIC_URL: 'https://broker.example',
  STEKKER_PASSPHRASE: secretText('passphrase'),
  STEKKER_MANAGEMENT_TOKEN: secretText('token-of-an-operator'),
};
const contract = '0x5FbDB2315678afecb367f032d93F642f64180aa3';
const key = `0x${'ab'.repeat(32)}`;
const settingsOf = (env: Readonly<Record<string, string>>) => anchorSettings(readBrokerConfig({ ...least, ...env }));

describe('settings of anchoring', () => {
  test('without a node nothing is anchored', () => {
    expect(settingsOf({})).toBeUndefined();
    expect(settingsOf({ STEKKER_ANCHOR_CONTRACT: contract, STEKKER_ANCHOR_KEY: key })).toBeUndefined();
  });

  test('with one, contract and key are needed; the contract is lower case from here on', () => {
    const node = { STEKKER_ANCHOR_RPC: 'https://node.example/v3/x' };
    expect(settingsOf({ ...node, STEKKER_ANCHOR_CONTRACT: contract, STEKKER_ANCHOR_KEY: key })).toEqual({
      rpc: 'https://node.example/v3/x',
      secondRpc: undefined,
      chainId: '31337',
      contract: contract.toLowerCase(),
      key,
    });
    expect(() => settingsOf({ ...node, STEKKER_ANCHOR_KEY: key })).toThrow('STEKKER_ANCHOR_CONTRACT is missing');
    expect(() => settingsOf({ ...node, STEKKER_ANCHOR_CONTRACT: contract })).toThrow('STEKKER_ANCHOR_KEY is missing');
  });

  test('a wrong value is told without the value, where it is a secret', () => {
    expect(() => settingsOf({ STEKKER_ANCHOR_KEY: 'marked-secret' })).toThrow('STEKKER_ANCHOR_KEY is no private key');
    expect(() => settingsOf({ STEKKER_ANCHOR_RPC: 'node' })).toThrow('STEKKER_ANCHOR_RPC is no URL of a node');
    expect(() => settingsOf({ STEKKER_ANCHOR_MAX_FEE_GWEI: '0' })).toThrow('is below 1');
  });
});

describe('settings of the broker', () => {
  test('with a database that processes share, the folders that they share are named', () => {
    const shared = { ...least, STEKKER_DATABASE_URL: 'postgresql://stekker@db.internal/stekker' };
    const folders = { STEKKER_KEYS: '/keys', STEKKER_LOG_FOLDER: '/log', STEKKER_INTENT_FOLDER: '/intent' };
    expect(readBrokerConfig({ ...shared, ...folders })).toMatchObject(folders);
    for (const key of Object.keys(folders)) {
      const { [key as keyof typeof folders]: _left, ...rest } = folders;
      expect(() => readBrokerConfig({ ...shared, ...rest })).toThrow(`${key} is needed with STEKKER_DATABASE_URL`);
    }
    const accreditor = { ...shared, STEKKER_ROLE: 'accreditor', STEKKER_KEYS: '/keys' };
    expect(readBrokerConfig(accreditor).STEKKER_LOG_FOLDER).toBeUndefined(); // it has no log
    expect(readBrokerConfig(least).STEKKER_KEYS).toBeUndefined();
  });
});
