import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { buildAnchor } from '../../scripts/build-anchor.ts';
import { runForgeTests } from '../../scripts/foundry.ts';
import { toHex, utf8 } from '../bytes.ts';
import { anchorAbi, anchorBytecode } from './contract.ts';
import { anchoredTopic, logIdOf } from './proof.ts';

describe('the anchor contract', () => {
  test('what is committed is what its source compiles to', { timeout: 120_000 }, () => {
    const committed = readFileSync(new URL('./stekker-anchor.json', import.meta.url), 'utf8');
    expect(committed, 'run npm run anchor:build').toBe(buildAnchor());
    expect(anchorBytecode.length).toBeGreaterThan(2_000);
  });

  test('takes no value, and has no way to move a log, delete or upgrade', () => {
    const functions = anchorAbi.filter((item) => item.type === 'function');
    const writing = functions.filter((item) => !['view', 'pure'].includes(item.stateMutability ?? ''));
    expect(anchorAbi.filter((item) => item.stateMutability === 'payable')).toEqual([]);
    expect(writing.map((item) => item.name).toSorted()).toEqual([
      'acceptDefaultAdminTransfer',
      'anchor',
      'beginDefaultAdminTransfer',
      'cancelDefaultAdminTransfer',
      'changeDefaultAdminDelay',
      'close',
      'grantRole',
      'pause',
      'register',
      'renounceRole',
      'revokeRole',
      'rollbackDefaultAdminDelay',
      'unpause',
    ]);
  });

  test('names of events and logs are the known ones', () => {
    expect(`0x${toHex(keccak256(utf8('Anchored(bytes32,uint64,bytes32,bytes32)')))}`).toBe(anchoredTopic);
    expect(toHex(logIdOf(nodeCrypto, 'broker.example/log/2026'))).toBe(
      'd6992f6cc18f262a43eb699283a6a1054a9b58b4f3cf2f45670757d7af55a331',
    );
  });

  test('holds its invariants under examples, random calls and random sequences of calls', { timeout: 120_000 }, () => {
    const { passed, output } = runForgeTests('quick');
    expect(passed, output).toBe(true);
    expect(output).toContain('13 tests passed, 0 failed');
  });
});
