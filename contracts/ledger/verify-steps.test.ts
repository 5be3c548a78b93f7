import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { ed25519FromByte, p256FromByte, signDer, type TestKey } from '../../test/support/keys.ts';
import { buildWorld } from '../../test/support/ledger-world.ts';
import { toBase64Url, utf8 } from '../bytes.ts';
import { buildEntry } from './entry.ts';
import { jwsText } from './jws.ts';
import { buildVerifierKey } from './note.ts';
import type { EvmAnchor, Receipt, TrustFile } from './receipt.ts';
import { receiptText } from './receipt.ts';
import { type AnchorVerdict, type Verdict, verifyReceipt } from './verify.ts';

/** What a party could do that signs everything properly and still lies: each lie is found at its own step. */

const hash = toBase64Url(nodeCrypto.sha256(utf8('another')));

const verify = (
  { receipt, trust }: { readonly receipt: Receipt; readonly trust: TrustFile },
  anchor: AnchorVerdict = { state: 'failed', reason: 'no anchor was expected' },
): Verdict => verifyReceipt({ crypto: nodeCrypto, verifyAnchor: () => anchor }, trust, receiptText(receipt));

const stepOf = (verdict: Verdict, step: number) => verdict.steps.find((one) => one.step === step);

describe('signed lies', () => {
  test.each([
    ['the statement names another agreement', { agreement: 'urn:agreement:other' }],
    ['the parties are not those of the agreement', { provider: 'did:web:third.example' as never }],
    ['the parties are not those of the agreement', { consumer: 'did:web:third.example' as never }],
    ['the price plan is not the agreed one', { price: hash }],
    ['the first statement does not begin with the agreement', { from: '2026-11-23T10:00:00.001Z' }],
    ['the statement is of another agreement', { agreementDigest: hash }],
    ['totals and amount are not those of the statement', { sums: hash }],
  ])('step 3: %s', (detail, statement) => {
    expect(stepOf(verify(buildWorld({ statement })), 3)).toEqual({ step: 3, state: 'failed', detail });
  });

  test('a later statement need not begin with the agreement', () => {
    const statement = { seq: '2', prev: hash, from: '2026-11-23T10:30:00.000Z' };
    expect(verify(buildWorld({ statement })).code).toBe(0);
  });

  test('step 1: a record before the interval, and an interval that cannot be', () => {
    const early = stepOf(verify(buildWorld({ statement: { first: '2', last: '4' } })), 1);
    expect(early).toMatchObject({ state: 'failed', detail: expect.stringContaining('does not stand in the interval') });
    const endless = stepOf(verify(buildWorld({ statement: { last: '9223372036854775807' } })), 1);
    expect(endless).toMatchObject({ state: 'failed', detail: 'no interval has 9223372036854775807 records' });
  });

  const otherEntry = (bytes: Uint8Array, key: TestKey) =>
    buildEntry({ digest: nodeCrypto.sha256(bytes), signature: signDer(key, bytes), spki: key.spki });

  test('step 4: an entry under another leaf key, or by another registry', () => {
    const world = buildWorld();
    const { receipt } = world;
    const statement = {
      ...receipt.statement,
      entry: otherEntry(utf8(jwsText(receipt.statement.artifact)), p256FromByte(70)),
    };
    expect(stepOf(verify({ ...world, receipt: { ...receipt, statement } }), 4)?.detail).toContain('another leaf key');
    const [first, ...rest] = receipt.keys;
    if (first === undefined) throw new Error('no key entry');
    const forged = { ...first, entry: otherEntry(utf8(jwsText(first.artifact as never)), p256FromByte(71)) };
    const byOther = verify({ ...world, receipt: { ...receipt, keys: [forged, ...rest] } });
    expect(stepOf(byOther, 4)?.detail).toBe('key entry 1 is not by the registry');
  });

  test('a trust file whose policy cannot be read, or names another key, vouches for nothing', () => {
    const world = buildWorld();
    const [log] = world.trust.logs;
    if (log === undefined) throw new Error('no log');
    const withLog = (changes: Partial<typeof log>) =>
      verify({ ...world, trust: { ...world.trust, logs: [{ ...log, ...changes }] } });
    expect(withLog({ policy: 'quorum none\n' }).steps[0]?.detail).toContain('no usable policy');
    expect(withLog({ registryKey: '?' }).steps[0]?.detail).toContain('no usable policy');
    const witness = buildVerifierKey(nodeCrypto, 'witness.example/w1', ed25519FromByte(2).spki.subarray(12), 'witness');
    const demanding = withLog({ policy: `log ${log.vkey}\nwitness w1 ${witness}\nquorum w1\n` });
    expect(stepOf(demanding, 5)?.detail).toBe('the quorum of witnesses is not reached');
    expect(demanding.notChecked).not.toContain('split-view');
  });
});

describe('anchors', () => {
  const anchor: EvmAnchor = {
    kind: 'evm',
    chainId: '31337',
    contract: `0x${'ab'.repeat(20)}`,
    header: 'AA==',
    key: 'AA==',
    nodes: ['AA=='],
    logIndex: '0',
    later: null,
  };
  const authenticated: AnchorVerdict = { state: 'authenticated', reason: 'block 7' };
  const consistent: AnchorVerdict = { state: 'consistent', reason: 'fits' };
  const failed: AnchorVerdict = { state: 'failed', reason: 'another root' };
  const anchored = (later: EvmAnchor['later'], verdict: AnchorVerdict) => {
    const world = buildWorld();
    return verify({ ...world, receipt: { ...world.receipt, anchors: [{ ...anchor, later }] } }, verdict);
  };

  test('one that the reader can authenticate counts, one that only fits does not, one that does not fit fails', () => {
    const good = anchored(null, authenticated);
    expect([good.code, stepOf(good, 6)?.state, good.facts?.anchored]).toEqual([0, 'ok', ['chain 31337: block 7']]);
    const doubtful = anchored(null, consistent);
    expect([doubtful.code, stepOf(doubtful, 6)?.state]).toEqual([0, 'none']);
    expect(doubtful.notChecked).toContain('anchor-block');
    expect(anchored(null, failed).code).toBe(1);
  });

  test('one of a later checkpoint counts when that one is signed and extends this one', () => {
    const world = buildWorld();
    const check = (later: EvmAnchor['later'], trust = world.trust) =>
      verify({ trust, receipt: { ...world.receipt, anchors: [{ ...anchor, later }] } }, authenticated);
    const later = world.grow(4);
    expect(check(later).code).toBe(0);
    const unknown = check(later, { ...world.trust, logs: [] });
    expect([unknown.code, stepOf(unknown, 6)?.state]).toEqual([3, 'ok']);
    const detail = (bad: EvmAnchor['later']) => {
      const verdict = check(bad);
      expect(verdict.code).toBe(1);
      return stepOf(verdict, 6)?.detail;
    };
    expect(detail({ ...later, consistency: later.consistency.slice(1) })).toContain('does not extend');
    expect(detail({ ...later, checkpoint: 'nonsense' })).toContain('no signature lines');
    expect(detail(world.grow(4, ed25519FromByte(80)))).toContain('the later checkpoint: the signature of');
    expect(detail(world.grow(4, undefined, 'other.example/log'))).toBe('the later checkpoint is of another log');
    expect(detail(buildWorld().grow(4))).toContain('does not extend');
  });
});
