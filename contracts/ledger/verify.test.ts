import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { keccak256 } from '../../kernel/keccak.ts';
import { changed, expectedSteps, partOf, placesIn, replaceAt } from '../../test/support/changed-receipts.ts';
import { ed25519FromByte } from '../../test/support/keys.ts';
import {
  buildWorld,
  consumerDid,
  introduce,
  keyEventLeaf,
  keys,
  type Leaf,
  origin,
  plainLeaf,
  providerDid,
} from '../../test/support/ledger-world.ts';
import { verifyAnchor } from '../anchor/proof.ts';
import { toBase64, toBase64Url, utf8 } from '../bytes.ts';
import { canonicalize, type Json } from '../json.ts';
import type { KeyEvent } from './public-entries.ts';
import { receiptText, trustFile } from './receipt.ts';
import vectors from './vectors.json' with { type: 'json' };
import { notCheckedCodes, type Verdict, type VerifyTools, verifyReceipt } from './verify.ts';

const tools: VerifyTools = {
  crypto: nodeCrypto,
  verifyAnchor: (anchor, checkpoint, chains) =>
    verifyAnchor({ keccak256, sha256: nodeCrypto.sha256 }, anchor, checkpoint, chains),
};
const trust = trustFile.parse(JSON.parse(vectors.trust.jcs));
const failedAt = (verdict: Verdict) => verdict.steps.filter((step) => step.state === 'failed').map((step) => step.step);
const world = buildWorld();
const verifyWorld = (file: Parameters<typeof receiptText>[0], its = world.trust) =>
  verifyReceipt(tools, its, receiptText(file));

describe('verification of receipts', () => {
  test('the receipt of the known answers is valid', () => {
    const verdict = verifyReceipt(tools, trust, vectors.receipt.jcs);
    expect(verdict.steps.filter((step) => step.state === 'failed')).toEqual([]);
    expect(verdict.code).toBe(0);
    expect(verdict.facts).toMatchObject({
      provider: providerDid,
      consumer: consumerDid,
      records: 1,
      assurance: 'cosigned',
    });
  });

  test('always tells what it did not check', () => {
    const verdict = verifyReceipt(tools, trust, vectors.receipt.jcs);
    expect(verdict.notChecked).toEqual([...notCheckedCodes.slice(0, 6), 'split-view']);
  });

  test('each field of a receipt, changed in turn, is found at the right step', () => {
    const file: Json = JSON.parse(vectors.receipt.jcs);
    const places = placesIn(file);
    expect(places.length).toBeGreaterThan(80);
    for (const { path } of places) {
      const verdict = verifyReceipt(tools, trust, canonicalize(replaceAt(file, path, changed)));
      const found = failedAt(verdict);
      const allowed = expectedSteps[partOf(path)] ?? [];
      expect(verdict.code === 1 || verdict.code === 2, `${path.join('.')} gives ${verdict.code}`).toBe(true);
      expect(allowed, `${path.join('.')} was found at ${found}`).toContain(found[0]);
    }
  });

  test('each member taken out, and one added, is found', () => {
    const file = JSON.parse(vectors.receipt.jcs) as { [key: string]: Json };
    for (const name of Object.keys(file)) {
      const { [name]: _, ...rest } = file;
      expect(verifyReceipt(tools, trust, canonicalize(rest)).code, name).toBeGreaterThan(0);
    }
    expect(failedAt(verifyReceipt(tools, trust, canonicalize({ ...file, note: 'x' })))).toEqual([0]);
  });

  test('every flipped bit in every hundredth byte is found', () => {
    const bytes = utf8(vectors.receipt.jcs);
    for (let at = 0; at < bytes.length; at += 101) {
      for (let bit = 0; bit < 7; bit += 1) {
        const flipped = bytes.map((byte, index) => (index === at ? byte ^ (1 << bit) : byte));
        const verdict = verifyReceipt(tools, trust, new TextDecoder().decode(flipped));
        expect(verdict.code === 1 || verdict.code === 2, `byte ${at} bit ${bit}`).toBe(true);
      }
    }
  });

  test('a file that is not canonical, or no receipt, is refused', () => {
    expect(verifyReceipt(tools, trust, ` ${vectors.receipt.jcs}`).code).toBe(1);
    expect(verifyReceipt(tools, trust, '{"type":"invoice","v":1}').code).toBe(2);
    expect(verifyReceipt(tools, trust, '{"type":"receipt","v":2}').code).toBe(2);
    expect(verifyReceipt(tools, trust, 'no JSON').code).toBe(2);
    expect(verifyReceipt(tools, trust, '[]').code).toBe(2);
  });

  test('withheld parts are told, and the rest still holds', () => {
    const noContext = verifyWorld({ ...world.receipt, context: null });
    expect([noContext.code, noContext.steps[0]?.state]).toEqual([4, 'withheld']);
    const noSums = verifyWorld({ ...world.receipt, sums: null });
    expect([noSums.code, noSums.steps[2]?.state]).toEqual([4, 'withheld']);
  });

  test('a log that the reader does not trust makes it untrusted, not valid', () => {
    const verdict = verifyWorld(world.receipt, { ...world.trust, logs: [] });
    expect(verdict.code).toBe(3);
    expect(verdict.steps.filter((step) => step.state === 'untrusted').map((step) => step.step)).toEqual([4, 5]);
  });

  test('a trust file with another key for the same log refuses it', () => {
    const [log] = world.trust.logs;
    const other = buildWorld().trust.logs[0];
    if (log === undefined || other === undefined) throw new Error('no log');
    const stranger = ed25519FromByte(77).spki.subarray(12);
    const vkey = `${origin}+00000000+${toBase64(Uint8Array.of(1, ...stranger))}`;
    const broken = { ...world.trust, logs: [{ ...log, vkey }] };
    expect(verifyWorld(world.receipt, broken).code).toBe(1);
  });

  test('packed receipts verify, and a wrong one among them is named', () => {
    const many = buildWorld({ records: 130 });
    expect(verifyReceipt(tools, many.trust, receiptText(many.packed))).toMatchObject({
      code: 0,
      facts: { records: 130 },
    });
    const wrong = many.packed.records.map((item, index) =>
      index === 77 ? { ...item, record: { ...item.record, bytes: '4' } } : item,
    );
    const verdict = verifyReceipt(tools, many.trust, receiptText({ ...many.packed, records: wrong }));
    expect(verdict.steps[0]).toMatchObject({ step: 1, state: 'failed' });
    expect(verdict.steps[0]?.detail).toContain('record 78');
  });

  test('one access cannot be counted twice in one file', () => {
    const [first] = world.packed.records;
    if (first === undefined) throw new Error('no record');
    const verdict = verifyWorld({ ...world.packed, records: [first, first] });
    expect(verdict.steps[0]?.detail).toContain('cannot be counted more than once');
  });

  test('plain-dsp is untrusted unless the reader accepts one-sided receipts', () => {
    const plain = buildWorld({ assurance: 'plain-dsp' });
    const verdict = verifyReceipt(tools, plain.trust, receiptText(plain.receipt));
    expect(verdict.code).toBe(3);
    expect(verdict.steps[1]?.detail).toBe("possession: not proven; consumer's signature: none");
    expect(verdict.notChecked).toContain('possession');
    expect(verifyReceipt(tools, { ...plain.trust, oneSided: true }, receiptText(plain.receipt)).code).toBe(0);
  });

  test('one signature under a cosigned agreement is refused', () => {
    const { signatures, payload } = world.receipt.statement.artifact;
    const one = {
      ...world.receipt,
      statement: { ...world.receipt.statement, artifact: { payload, signatures: signatures.slice(0, 1) } },
    };
    expect(failedAt(verifyWorld(one))).toContain(2);
  });

  test('a garbage second signature is refused, though the first holds', () => {
    const [first, second] = world.receipt.statement.artifact.signatures;
    if (first === undefined || second === undefined) throw new Error('no signatures');
    const garbage = { ...second, signature: toBase64Url(new Uint8Array(64).fill(5)) };
    const artifact = { ...world.receipt.statement.artifact, signatures: [first, garbage] };
    const verdict = verifyWorld({ ...world.receipt, statement: { ...world.receipt.statement, artifact } });
    expect(verdict.steps[1]).toMatchObject({ step: 2, state: 'failed' });
  });

  test('signatures in the other order are refused', () => {
    const artifact = {
      ...world.receipt.agreement.artifact,
      signatures: world.receipt.agreement.artifact.signatures.toReversed(),
    };
    expect(verifyWorld({ ...world.receipt, agreement: { ...world.receipt.agreement, artifact } }).steps[1]?.state).toBe(
      'failed',
    );
  });

  test('an invented block does not count as an anchor', () => {
    expect(world.receipt.anchors).toEqual([]);
    expect(verifyWorld(world.receipt).steps[5]).toMatchObject({ step: 6, state: 'none' });
  });
});

describe('keys count by log order', () => {
  const old = introduce(consumerDid, keys.consumer);
  const fresh = ed25519FromByte(44);
  const prevOf = (leaf: { readonly bytes: Uint8Array }) => toBase64Url(nodeCrypto.sha256(leaf.bytes));
  const first = introduce(providerDid, keys.provider);
  const event = (changes: Partial<KeyEvent>): KeyEvent => ({
    v: 1,
    type: 'key-event',
    did: providerDid,
    event: 'introduce',
    seq: '2',
    prev: prevOf(first),
    document: null,
    keys: [{ kid: `${providerDid}#n`, use: ['assertionMethod'], spki: toBase64(fresh.spki) }],
    at: '2026-11-23T09:00:00.000Z',
    ...changes,
  });
  const byProvider = { kid: `${providerDid}#s`, key: keys.provider };
  const ownKey = [{ kid: `${providerDid}#s`, use: ['assertionMethod' as const], spki: toBase64(keys.provider.spki) }];
  const effect = (leaf: { readonly bytes: Uint8Array }) =>
    plainLeaf({ v: 1, type: 'key-effective', event: prevOf(leaf), at: '2026-11-24T09:00:00.000Z' });
  const codeWith = (keyLeaves: readonly Leaf[], lateLeaves: readonly Leaf[] = []) => {
    const made = buildWorld({ keyLeaves, lateLeaves });
    return verifyReceipt(tools, made.trust, receiptText(made.receipt));
  };

  test('a key introduced before the entry counts', () => {
    expect(codeWith([first, old]).code).toBe(0);
  });

  test('a key introduced only after the entry does not', () => {
    const verdict = codeWith([old], [first]);
    expect(verdict.steps[1]?.detail).toContain('no key did:web:provider.example#s counts for entry');
  });

  test('a key reported compromised before the entry does not count; after it, it does', () => {
    const compromise = keyEventLeaf(event({ event: 'compromise', keys: ownKey }), byProvider);
    expect(codeWith([first, old, compromise]).steps[1]?.state).toBe('failed');
    expect(codeWith([first, old], [compromise]).code).toBe(0);
  });

  test('an orderly end counts only from the entry that makes it effective', () => {
    const end = keyEventLeaf(event({ event: 'end', keys: ownKey }), byProvider);
    expect(codeWith([first, old, end]).code).toBe(0);
    expect(codeWith([first, old, end, effect(end)]).steps[1]?.state).toBe('failed');
    expect(codeWith([first, old, end], [effect(end)]).code).toBe(0);
  });

  test('a forged key event in the name of a participant counts for nothing', () => {
    const forged = keyEventLeaf(event({}), { kid: `${providerDid}#n`, key: fresh });
    expect(codeWith([first, old, forged, effect(forged)]).steps[1]?.detail).toContain(
      'not signed by a key that counts',
    );
  });

  test('a later key counts from its effect, not from its introduction', () => {
    const later = keyEventLeaf(event({}), byProvider);
    const end = keyEventLeaf(event({ event: 'end', seq: '3', prev: prevOf(later), keys: ownKey }), byProvider);
    expect(codeWith([first, old, later, end]).code).toBe(0);
    expect(codeWith([first, old, later, effect(later), end]).code).toBe(0);
    expect(codeWith([first, old, effect(later), later]).code).toBe(0);
  });

  test('recover is signed by the registry key and ends what was before', () => {
    const recover = event({
      event: 'recover',
      keys: [{ kid: `${providerDid}#r`, use: ['assertionMethod'], spki: toBase64(fresh.spki) }],
    });
    const byStranger = keyEventLeaf(recover, byProvider);
    expect(codeWith([first, old, byStranger]).steps[1]?.detail).toContain('not signed by a key that counts');
  });

  test('a gap, a wrong predecessor and a kid that comes back are refused', () => {
    const gap = keyEventLeaf(event({ seq: '3' }), byProvider);
    expect(codeWith([first, old, gap]).steps[1]?.detail).toContain('event 3 does not follow');
    const wrongPrev = keyEventLeaf(event({ prev: prevOf(old) }), byProvider);
    expect(codeWith([first, old, wrongPrev]).steps[1]?.detail).toContain('event 2 does not follow');
    const again = keyEventLeaf(event({ keys: ownKey }), byProvider);
    expect(codeWith([first, old, again]).steps[1]?.detail).toContain('introduced twice');
  });

  test('a key for another use does not sign statements', () => {
    const login = introduce(providerDid, keys.provider, {
      keys: [{ kid: `${providerDid}#s`, use: ['authentication'], spki: toBase64(keys.provider.spki) }],
    });
    expect(codeWith([login, old]).steps[1]?.detail).toContain('no key');
  });
});
