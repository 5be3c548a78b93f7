import { describe, expect, test } from 'vitest';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { ed25519FromByte, p256FromByte } from '../../test/support/keys.ts';
import { signAs } from '../../test/support/ledger-world.ts';
import { fromHex, toBase64, toBase64Url, toHex, utf8 } from '../bytes.ts';
import { canonicalize, type Json, type JsonObject } from '../json.ts';
import { checkRoles, readAgreement, readAgreementEvent } from './agreement.ts';
import { buildEntry, checkEntry, readEntry } from './entry.ts';
import { bytesOf, type Checked, ed25519Spki, encodeSpki, isEd25519Spki, isP256Spki, p256Spki } from './forms.ts';
import { assembleJws, encodeProtected, jwsText, readJws, signingInput, verifySignature } from './jws.ts';
import { readNote, readPolicy, readVerifierKey, verifyNote } from './note.ts';
import { addUnits, amountOf, formatAmount, readPricePlan } from './price-plan.ts';
import { verifyPromise } from './promise.ts';
import { readPublicArtifact } from './public-entries.ts';
import { extDigest, readRecord } from './record.ts';
import {
  checkFollows,
  checkSumsGrow,
  readEquivocation,
  readRefusalArtifact,
  readStatement,
  readStatementArtifact,
  type StatementSums,
} from './statement.ts';
import vectors from './vectors.json' with { type: 'json' };

const parse = (text: string) => JSON.parse(text) as JsonObject;
const reason = (checked: Checked<unknown>): string => (checked.ok ? 'accepted' : checked.reason);
const must = <Value>(checked: Checked<Value>): Value => {
  if (!checked.ok) throw new Error(checked.reason);
  return checked.value;
};
const record = parse(vectors.records[0]?.record ?? '');
const statement = parse(vectors.statement.payload);
const agreement = parse(vectors.agreement.payload);
const plan = parse(vectors.pricePlan.jcs);
const withMember = (value: JsonObject, changes: JsonObject) => canonicalize({ ...value, ...changes });
const without = (value: JsonObject, name: string) =>
  canonicalize(Object.fromEntries(Object.entries(value).filter(([key]) => key !== name)));

describe('ledger §2, each rule by a wrong example', () => {
  test.each([
    ['an integer as a JSON number', { n: 1 }, 'n:'],
    ['a leading zero', { bytes: '03' }, 'bytes: is no decimal integer'],
    ['a sign', { bytes: '-3' }, 'bytes: is no decimal integer'],
    ['more than 2^63-1', { bytes: '9223372036854775808' }, 'bytes: is no decimal integer'],
    ['a number that starts at 0', { n: '0' }, 'n: must be at least 1'],
    ['a float', { bytes: '3.0' }, 'bytes: is no decimal integer'],
    ['a time without milliseconds', { at: '2026-11-23T11:00:00Z' }, 'at: is no time'],
    ['a day that does not exist', { at: '2026-02-30T11:00:00.000Z' }, 'at: is no time'],
    ['padded base64url', { digest: `${record.digest}=` }, 'digest: is not 32 bytes'],
    [
      'base64url that encodes back to something else',
      { digest: `${String(record.digest).slice(0, 42)}B` },
      'digest: is not 32 bytes',
    ],
    ['the other alphabet', { digest: String(record.digest).replace(/[-_]/g, '+') }, 'digest: is not 32 bytes'],
    ['a short salt', { salt: 'AAAA' }, 'salt: is not 16 bytes'],
    ['an upper-case request id', { request: String(record.request).toUpperCase() }, 'request: is no lower-case UUIDv7'],
    [
      'a request id of version 4',
      { request: '01a20810-0f6c-4000-8000-000000000001' },
      'request: is no lower-case UUIDv7',
    ],
    ['an unknown outcome', { outcome: 'fine' }, 'outcome:'],
    ['a zero unit, which is left out', { units: { bytes: '0' } }, 'units.bytes: must be at least 1'],
    ['a unit with another name', { units: { Bytes: '1' } }, 'units'],
    ['a version as text', { v: '1' }, 'v:'],
    ['an unknown member', { note: '' }, 'Unrecognized key'],
    ['another operation', { op: 'write' }, 'op:'],
    ['a status that is none', { status: '099' }, 'status:'],
    ['a control character', { asset: 'a\u0007' }, 'asset: is empty, too long, or has control characters'],
  ])('a record with %s is refused', (_what, changes, expected) => {
    expect(reason(readRecord(withMember(record, changes as JsonObject)))).toContain(expected);
  });

  test('known answers themselves are accepted', () => {
    expect(readRecord(canonicalize(record)).ok).toBe(true);
    expect(readRecord(withMember(record, { bytes: '9223372036854775807' })).ok).toBe(true);
  });

  test.each(Object.keys(record))('a record without %s is refused', (name) => {
    expect(readRecord(without(record, name)).ok).toBe(false);
  });

  test('duplicate keys, other order and spaces are refused', () => {
    const text = canonicalize(record);
    expect(reason(readRecord(text.replace('{', '{"agreement":"x",')))).toBe('is not canonical JSON');
    expect(reason(readRecord(text.replace(':', ': ')))).toBe('is not canonical JSON');
    expect(reason(readRecord(JSON.stringify({ v: 1, ...record })))).toBe('is not canonical JSON');
  });

  test.each([
    ['the same party on both sides', { consumer: 'did:web:provider.example' }, 'consumer: is the provider'],
    ['records that end before they begin', { last: '1', first: '3' }, 'last: lies before first'],
    ['an end before its begin', { to: '2026-11-23T09:00:00.000Z' }, 'to: lies before from'],
    ['a predecessor of the first', { prev: statement.root }, 'prev: is null exactly for the first statement'],
    ['no predecessor of the second', { seq: '2' }, 'prev: is null exactly for the first statement'],
  ])('a statement with %s is refused', (_what, changes, expected) => {
    expect(reason(readStatement(withMember(statement, changes as JsonObject)))).toContain(expected);
  });

  test('an empty interval has last = first - 1', () => {
    expect(readStatement(withMember(statement, { first: '4', last: '3' })).ok).toBe(true);
  });

  test.each([
    [
      'the same party on both sides',
      {
        consumer: agreement.provider,
        agreement: { ...(agreement.agreement as JsonObject), assignee: agreement.provider },
      },
      'consumer: is the provider',
    ],
    [
      'a consumer without a DID, cosigned',
      { consumer: 'edc', agreement: { ...(agreement.agreement as JsonObject), assignee: 'edc' } },
      'consumer: is no DID',
    ],
    ['an assigner who is not the provider', { provider: 'did:web:other.example' }, 'provider: is not the assigner'],
    ['an assignee who is not the consumer', { consumer: 'did:web:other.example' }, 'consumer: is not the assignee'],
    ['no offer', { offers: [] }, 'offers:'],
    ['another assurance', { assurance: 'trust-me' }, 'assurance:'],
  ])('an agreement with %s is refused', (_what, changes, expected) => {
    expect(reason(readAgreement(withMember(agreement, changes as JsonObject)))).toContain(expected);
  });

  test('under plain-dsp a consumer has the name it proved, and no broken DID', () => {
    const between = (consumer: string) =>
      readAgreement(
        withMember(agreement, {
          assurance: 'plain-dsp',
          consumer,
          agreement: { ...(agreement.agreement as JsonObject), assignee: consumer },
        }),
      );
    expect(between('edc').ok).toBe(true);
    expect(readStatement(withMember(statement, { consumer: 'edc' })).ok).toBe(true);
    for (const broken of ['did:web:', 'two words', '', 'x'.repeat(257)])
      expect(reason(between(broken))).toContain('is no name of a party');
  });

  test.each([
    ['that is free and has lines', { free: true }, 'free: is true exactly when there are no lines'],
    ['with a quantity of zero', { lines: [{ unit: 'bytes', quantity: '0', value: '1' }] }, 'must be at least 1'],
    [
      'with a unit twice',
      {
        lines: [
          { unit: 'bytes', quantity: '1', value: '1' },
          { unit: 'bytes', quantity: '2', value: '1' },
        ],
      },
      'has a unit twice',
    ],
    ['with a fraction', { lines: [{ unit: 'bytes', quantity: '1', value: '0.5' }] }, 'is no decimal integer'],
    ['in no currency', { currency: 'euro' }, 'is no ISO 4217 code'],
    ['with a scale beyond 18', { scale: '19' }, 'is no scale'],
  ])('a price plan %s is refused', (_what, changes, expected) => {
    expect(reason(readPricePlan(withMember(plan, changes as JsonObject)))).toContain(expected);
  });
});

describe('keys that may not sign', () => {
  const smallOrder = [
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0100000000000000000000000000000000000000000000000000000000000000',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    '0000000000000000000000000000000000000000000000000000000000000080',
  ];
  const notCanonical = [
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
    '0100000000000000000000000000000000000000000000000000000000000080',
  ];
  test.each([...smallOrder, ...notCanonical])('Ed25519 point %s is refused', (point) => {
    expect(isEd25519Spki(ed25519Spki(fromHex(point) ?? new Uint8Array(0)))).toBe(false);
  });

  test('an ordinary key is accepted, in one encoding only', () => {
    const ed = ed25519FromByte(3).spki;
    expect(isEd25519Spki(ed)).toBe(true);
    expect(isEd25519Spki(ed.subarray(0, 43))).toBe(false);
    expect(isEd25519Spki(p256FromByte(5).spki)).toBe(false);
    const p256 = p256FromByte(5).spki;
    expect(isP256Spki(p256)).toBe(true);
    expect(isP256Spki(p256.with(26, 2))).toBe(false);
    expect(toHex(p256Spki(p256.subarray(27, 59), p256.subarray(59)))).toBe(toHex(p256));
    expect(encodeSpki(ed)).toBe(vectors.keys.providerSpki);
    expect(bytesOf('a')).toEqual(utf8('a'));
  });

  test('a key event that introduces such a key, or speaks for another DID, is refused', () => {
    const event = parse(vectors.keyEvents[0]?.payload ?? '');
    const [key] = event.keys as readonly JsonObject[];
    const read = (changes: JsonObject) => {
      const payload = withMember(event, changes);
      return reason(
        readPublicArtifact(
          signAs(payload, 'stekker-key-event+jws', [['did:web:provider.example#s', ed25519FromByte(3)]]),
        ),
      );
    };
    const weak = encodeSpki(ed25519Spki(fromHex(smallOrder[1] ?? '') ?? new Uint8Array(0)));
    expect(read({ keys: [{ ...key, spki: weak }] })).toContain('is no SPKI of P-256 or of a safe Ed25519 key');
    expect(read({ did: 'did:web:other.example' })).toContain('names a key of another DID');
    expect(read({ keys: [key ?? null, key ?? null] })).toContain('has a kid twice');
    expect(read({ event: 'end' })).toContain('must introduce at seq 1');
    expect(read({ prev: event.did ?? null })).toContain('prev: is not 32 bytes');
    expect(read({ document: 'x'.repeat(16_385) })).toContain('document:');
    expect(read({})).toBe('accepted');
  });
});

describe('signatures', () => {
  const payload = vectors.statement.payload;
  const typ = 'stekker-usage-statement+jws';
  const header = (text: string) => ({ protected: toBase64Url(utf8(text)), signature: new Uint8Array(64) });
  const readHeader = (text: string) => reason(readStatementArtifact(assembleJws(payload, [header(text)])));

  test.each([
    [
      'another algorithm',
      '{"alg":"HS256","kid":"did:web:a.example#s","typ":"stekker-usage-statement+jws"}',
      'alg: is no algorithm of the ledger',
    ],
    [
      'no algorithm',
      '{"alg":"none","kid":"did:web:a.example#s","typ":"stekker-usage-statement+jws"}',
      'alg: is no algorithm of the ledger',
    ],
    [
      'crit',
      '{"alg":"Ed25519","crit":["b64"],"kid":"did:web:a.example#s","typ":"stekker-usage-statement+jws"}',
      'Unrecognized key',
    ],
    ['its key inside', '{"alg":"Ed25519","jwk":{},"kid":"a","typ":"stekker-usage-statement+jws"}', 'Unrecognized key'],
    [
      'another type',
      '{"alg":"Ed25519","kid":"did:web:a.example#s","typ":"stekker-agreement+jws"}',
      'typ is stekker-agreement+jws',
    ],
    [
      'members out of order',
      '{"kid":"a","alg":"Ed25519","typ":"stekker-usage-statement+jws"}',
      'is not canonical JSON',
    ],
  ])('a protected header with %s is refused', (_what, text, expected) => {
    expect(readHeader(text)).toContain(expected);
  });

  test('unprotected headers, three signatures and other encodings are refused', () => {
    const one = { protected: encodeProtected('did:web:a.example#s', typ), signature: toBase64Url(new Uint8Array(64)) };
    const form = { payload: toBase64Url(utf8(payload)), signatures: [one] };
    expect(reason(readJws({ ...form, signatures: [{ ...one, header: {} }] }, typ))).toContain('Unrecognized key');
    expect(reason(readJws({ ...form, signatures: [one, one, one] }, typ))).toContain('signatures:');
    expect(reason(readJws({ ...form, signatures: [] }, typ))).toContain('signatures:');
    expect(reason(readJws({ ...form, payload: `${form.payload}=` }, typ))).toContain(
      'payload: is not canonical base64',
    );
    expect(reason(readJws({ ...form, payload: toBase64Url(Uint8Array.of(0xff)) }, typ))).toBe(
      'the payload is not UTF-8',
    );
    expect(reason(readStatementArtifact({ ...form, payload: toBase64Url(utf8('{}')) }))).toContain('Invalid');
    expect(reason(readStatementArtifact('text'))).not.toBe('accepted');
  });

  test('a signature is checked under a key of its own kind', () => {
    const read = must(readStatementArtifact(JSON.parse(vectors.statement.artifact)));
    const [first] = read.signatures;
    if (first === undefined) throw new Error('no signature');
    expect(verifySignature(nodeCrypto, first, ed25519FromByte(3).spki)).toBe(true);
    expect(verifySignature(nodeCrypto, first, ed25519FromByte(4).spki)).toBe(false);
    expect(verifySignature(nodeCrypto, first, p256FromByte(5).spki)).toBe(false);
    expect(
      verifySignature(nodeCrypto, { ...first, signature: first.signature.subarray(1) }, ed25519FromByte(3).spki),
    ).toBe(false);
    expect(verifySignature(nodeCrypto, { ...first, alg: 'ES256' }, p256FromByte(5).spki)).toBe(false);
    expect(signingInput('a', 'b')).toEqual(utf8('a.Yg'));
  });

  test('roles: provider first, as many as the assurance asks for', () => {
    const parties = { provider: 'did:web:a.example', consumer: 'did:web:b.example' };
    const a = { kid: 'did:web:a.example#s' };
    const b = { kid: 'did:web:b.example#s' };
    expect(checkRoles([a, b], parties, 'cosigned').ok).toBe(true);
    expect(checkRoles([a], parties, 'plain-dsp').ok).toBe(true);
    expect(reason(checkRoles([b, a], parties, 'cosigned'))).toContain('signature 1 is not by');
    expect(reason(checkRoles([a, a], parties, 'cosigned'))).toContain('signature 2 is not by');
    expect(reason(checkRoles([a, b], parties, 'plain-dsp'))).toContain('2 signatures where plain-dsp has 1');
    expect(reason(checkRoles([{ kid: 'did:web:a.example.evil#s' }, b], parties, 'cosigned'))).toContain('signature 1');
  });
});

describe('entries, events and promises', () => {
  test('an entry with an extra member, another kind, or too long, is refused', () => {
    const entry = JSON.parse(vectors.agreement.entry);
    expect(reason(readEntry(canonicalize({ ...entry, extra: '' })))).toContain('Unrecognized key');
    expect(reason(readEntry(canonicalize({ ...entry, kind: 'dsse' })))).toContain('kind');
    expect(reason(readEntry(`"${'x'.repeat(65_536)}"`))).toContain('longer than 65535 bytes');
  });

  test('an entry fits its own artifact only', () => {
    const entry = must(readEntry(vectors.agreement.entry));
    expect(reason(checkEntry(nodeCrypto, entry, utf8('else')))).toBe('the entry has the digest of something else');
    const bytes = utf8(vectors.agreement.artifact);
    const forged = buildEntry({
      digest: nodeCrypto.sha256(bytes),
      signature: new Uint8Array(70),
      spki: p256FromByte(5).spki,
    });
    expect(reason(checkEntry(nodeCrypto, forged, bytes))).toBe('the signature in the entry does not hold');
  });

  test('agreement events are read strictly', () => {
    const event = {
      v: 1,
      type: 'agreement-event',
      agreementDigest: vectors.agreement.agreementDigest,
      event: 'end',
      effectiveAt: '2026-11-23T12:00:00.000Z',
      reason: 'done',
      leafKey: toBase64Url(new Uint8Array(32)),
      salt: toBase64Url(new Uint8Array(32)),
    };
    const signEvent = (value: JsonObject) =>
      signAs(canonicalize(value), 'stekker-agreement-event+jws', [['did:web:provider.example#s', ed25519FromByte(3)]]);
    expect(readAgreementEvent(signEvent(event)).ok).toBe(true);
    expect(reason(readAgreementEvent(signEvent({ ...event, event: 'pause' })))).toContain('event:');
    expect(readAgreementEvent({}).ok).toBe(false);
  });

  test('a promise of another log, by another key, or with two signatures, is refused', () => {
    const log = must(
      readVerifierKey(nodeCrypto, 'broker.example/log/2026+df9a09f1+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c'),
    );
    const jws = JSON.parse(vectors.promise.jws);
    expect(verifyPromise(nodeCrypto, jws, log).ok).toBe(true);
    expect(
      reason(verifyPromise(nodeCrypto, { ...jws, signatures: [...jws.signatures, ...jws.signatures] }, log)),
    ).toContain('by the log alone');
    const kid = jws.signatures[0].protected;
    const signBy = (key: number, payload: string) => {
      const signature = signAs(payload, 'stekker-log-promise+jws', [['x', ed25519FromByte(key)]]);
      return { ...signature, signatures: [{ protected: kid, signature: signature.signatures[0]?.signature ?? '' }] };
    };
    expect(reason(verifyPromise(nodeCrypto, signBy(2, vectors.promise.payload), log))).toBe(
      'the signature of the log does not hold',
    );
    const other = vectors.promise.payload.replace('broker.example/log/2026', 'other.example/log/2026');
    expect(reason(verifyPromise(nodeCrypto, signBy(1, other), log))).toBe('is of another log');
    expect(reason(verifyPromise(nodeCrypto, signBy(1, '{}'), log))).toContain('Invalid');
    expect(verifyPromise(nodeCrypto, {}, log).ok).toBe(false);
  });

  test('public artifacts of unknown kind are refused', () => {
    expect(reason(readPublicArtifact({ type: 'note' }))).toBe('is no public artifact');
    expect(reason(readPublicArtifact([]))).toBe('is no object');
    expect(reason(readPublicArtifact({ type: 'genesis' }))).toContain('origin');
    expect(reason(readPublicArtifact({ type: 'policy' }))).toContain('policy');
    expect(reason(readPublicArtifact({ type: 'key-effective' }))).toContain('event');
    expect(
      readPublicArtifact({ v: 1, type: 'policy', policy: 'quorum none\n', at: '2026-11-23T12:00:00.000Z' }).ok,
    ).toBe(true);
    expect(reason(readPublicArtifact({ payload: 1 }))).toContain('payload');
    const twice = signAs('{}', 'stekker-key-event+jws', [['a', ed25519FromByte(3)]]);
    expect(reason(readPublicArtifact(twice))).toContain('did');
    const event = vectors.keyEvents[0]?.payload ?? '';
    const both = signAs(event, 'stekker-key-event+jws', [
      ['a', ed25519FromByte(3)],
      ['b', ed25519FromByte(3)],
    ]);
    expect(reason(readPublicArtifact(both))).toBe('a key event has exactly one signature');
    expect(jwsText(both)).toContain('signatures');
  });
});

describe('checkpoints and policies', () => {
  const vkey = 'broker.example/log/2026+df9a09f1+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c';
  const w1 = 'witness.example/w1+df1c0a35+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU';
  const policyOf = (text: string) => readPolicy(nodeCrypto, text);
  const none = must(policyOf(`log ${vkey}\nquorum none\n`));
  const note = vectors.log.checkpoint;

  test.each([
    ['four text lines', note.replace('\n\n', '\nextension\n\n'), 'the text is not origin, size and root'],
    ['a size with a zero in front', note.replace('\n5\n', '\n05\n'), 'the text is not origin, size and root'],
    ['no signature', `${note.split('\n\n')[0]}\n`, 'the note has no signature lines'],
    ['a line that is none', `${note}— x\n`, 'a signature line cannot be read'],
    ['too many lines', note + note.split('\n\n')[1]?.repeat(64), 'more than 64 signature lines'],
    ['too many bytes', note + 'x'.repeat(70_000), 'longer than 64 KiB'],
  ])('a note with %s is refused', (_what, text, expected) => {
    expect(reason(readNote(text))).toContain(expected);
  });

  test('a changed root, a missing log line and a missing quorum are refused', () => {
    expect(reason(verifyNote(nodeCrypto, note.replace('\n5\n', '\n6\n'), none))).toContain('does not hold');
    const stranger = note.replace('35oJ8X', '45oJ8X');
    expect(reason(verifyNote(nodeCrypto, stranger, none))).toBe('the log itself has not signed');
    expect(reason(verifyNote(nodeCrypto, 'x', none))).toContain('no signature lines');
    const one = must(policyOf(`log ${vkey}\nwitness w1 ${w1}\nquorum w1\n`));
    expect(reason(verifyNote(nodeCrypto, note, one))).toBe('the quorum of witnesses is not reached');
    const otherName = { ...none, log: { ...none.log, name: 'other' } };
    expect(reason(verifyNote(nodeCrypto, note, otherName))).toBe('the origin is not the name of the log key');
    const asWitness = { ...none, log: { ...none.log, type: 4 } };
    expect(reason(verifyNote(nodeCrypto, note, asWitness))).toContain('does not hold');
  });

  test('groups count distinct witnesses', () => {
    const text = `log ${vkey}\nwitness w1 ${w1}\ngroup g any w1\ngroup all2 all w1 g\nquorum all2\n`;
    expect(policyOf(text).ok).toBe(true);
    expect(reason(verifyNote(nodeCrypto, note, must(policyOf(text))))).toBe('the quorum of witnesses is not reached');
  });

  test.each([
    ['no log', 'quorum none\n', 'needs a log and a quorum'],
    ['no quorum', `log ${vkey}\n`, 'needs a log and a quorum'],
    ['two logs', `log ${vkey}\nlog ${vkey}\nquorum none\n`, 'one log with a usable key'],
    ['a witness as log', `log ${w1}\nquorum none\n`, 'one log with a usable key'],
    ['a log as witness', `log ${vkey}\nwitness w ${vkey}\nquorum none\n`, 'a witness has no usable key'],
    [
      'a key under two names',
      `log ${vkey}\nwitness a ${w1}\nwitness b ${w1}\nquorum none\n`,
      'a key stands under two names',
    ],
    ['a name twice', `log ${vkey}\nwitness a ${w1}\ngroup a any a\nquorum a\n`, 'a name is taken'],
    [
      'a witness name twice',
      `log ${vkey}\ngroup a any a\nquorum none\n`,
      'a group names somebody who is not defined above',
    ],
    ['an empty group', `log ${vkey}\ngroup a any\nquorum none\n`, 'a group names somebody who is not defined above'],
    ['a member twice', `log ${vkey}\nwitness a ${w1}\ngroup g any a a\nquorum none\n`, 'a group names somebody twice'],
    ['an impossible threshold', `log ${vkey}\nwitness a ${w1}\ngroup g 2 a\nquorum none\n`, 'no possible threshold'],
    ['an unknown quorum', `log ${vkey}\nquorum x\n`, 'one quorum of a known name'],
    ['another word', `log ${vkey}\nquorum none\ntrust me\n`, 'a line begins with trust'],
  ])('a policy with %s is refused', (_what, text, expected) => {
    expect(reason(policyOf(text))).toContain(expected);
  });

  test.each([
    ['no key', 'name'],
    ['a wrong key id', vkey.replace('df9a09f1', 'df9a09f2')],
    ['no name', vkey.slice('broker.example/log/2026'.length)],
    ['a short key', 'a+00000000+AYqI'],
    ['no base64', 'a+00000000+?'],
  ])('a verifier key with %s is refused', (_what, text) => {
    expect(readVerifierKey(nodeCrypto, text).ok).toBe(false);
  });

  test('a verifier key under which everything verifies is refused', () => {
    const typed = Uint8Array.of(1, 1, ...new Uint8Array(31));
    const id = toHex(nodeCrypto.sha256(Uint8Array.of(...utf8('a\n'), ...typed)).subarray(0, 4));
    expect(reason(readVerifierKey(nodeCrypto, `a+${id}+${toBase64(typed)}`))).toBe(
      'has a key that would verify anything',
    );
  });
});

describe('statements that follow each other', () => {
  const first = must(readStatement(vectors.statement.payload));
  const previous = { text: vectors.statement.payload, value: first };
  const next = {
    ...first,
    seq: '2',
    prev: vectors.statement.digest,
    first: '4',
    last: '6',
    from: first.to,
    to: '2026-11-23T11:10:00.000Z',
  };

  test('the next one fits', () => {
    expect(checkFollows(nodeCrypto, first, undefined).ok).toBe(true);
    expect(checkFollows(nodeCrypto, next, previous).ok).toBe(true);
    expect(reason(checkFollows(nodeCrypto, next, undefined))).toContain('has seq 1');
  });

  test.each([
    ['of another agreement', { agreementDigest: first.root }, 'is of another agreement'],
    ['between others', { consumer: first.provider }, 'is between other parties'],
    ['at another price', { price: '' }, 'has another price plan'],
    ['with a gap in seq', { seq: '3' }, 'does not have the next seq'],
    ['with a gap in records', { first: '5' }, 'does not begin after the last record'],
    ['with a gap in time', { from: next.to }, 'does not begin when the one before ended'],
    ['with another predecessor', { prev: first.root }, 'does not name the one before'],
  ])('one %s is refused', (_what, changes, expected) => {
    expect(reason(checkFollows(nodeCrypto, { ...next, ...changes }, previous))).toContain(expected);
  });

  test('nothing follows a final statement', () => {
    const final = { ...first, final: true };
    expect(reason(checkFollows(nodeCrypto, next, { text: '', value: final }))).toBe('the statement before was final');
  });

  test('totals and amount never fall', () => {
    const sums = (value: string, totals: Record<string, string>): StatementSums => ({
      amount: { currency: 'EUR', scale: '4', value },
      salt: first.salt,
      totals,
    });
    expect(checkSumsGrow(sums('1', { bytes: '3' }), sums('2', { bytes: '3', requests: '1' })).ok).toBe(true);
    expect(reason(checkSumsGrow(sums('1', { bytes: '3' }), sums('2', { bytes: '2' })))).toBe(
      'the total of bytes falls',
    );
    expect(reason(checkSumsGrow(sums('1', { bytes: '3' }), sums('2', {})))).toBe('the total of bytes falls');
    expect(reason(checkSumsGrow(sums('2', {}), sums('1', {})))).toBe('the amount falls');
    const dollars = sums('2', {});
    expect(reason(checkSumsGrow(sums('1', {}), { ...dollars, amount: { ...dollars.amount, currency: 'USD' } }))).toBe(
      'the currency changes',
    );
  });

  test('two statements for one number are an equivocation proof; a repeat is not', () => {
    const sign = (value: JsonObject) =>
      signAs(canonicalize(value), 'stekker-usage-statement+jws', [['did:web:provider.example#s', ed25519FromByte(3)]]);
    const a = sign(statement);
    const b = sign({ ...statement, final: true });
    const proof = (one: Json, two: Json) => readEquivocation({ type: 'equivocation-proof', a: one, b: two });
    expect(proof(a, b).ok).toBe(true);
    expect(reason(proof(a, a))).toBe('the two say the same');
    expect(reason(proof(a, sign({ ...statement, seq: '2', prev: statement.root ?? null })))).toBe(
      'the two are not statements for one number',
    );
    expect(proof(a, sign({})).ok).toBe(false);
    expect(proof(sign({}), a).ok).toBe(false);
    expect(readEquivocation({}).ok).toBe(false);
    expect(readRefusalArtifact(a).ok).toBe(false);
    expect(readRefusalArtifact(signAs('{}', 'stekker-statement-refusal+jws', [['a', ed25519FromByte(4)]])).ok).toBe(
      false,
    );
  });
});

describe('money and units', () => {
  test('amounts are floored per line, over cumulative totals', () => {
    const its = must(readPricePlan(vectors.pricePlan.jcs));
    expect(amountOf(its, { requests: '1', bytes: '999999' })).toEqual({ ok: true, value: 34n });
    expect(amountOf(its, { requests: '1', bytes: '1000000' })).toEqual({ ok: true, value: 35n });
    expect(amountOf(its, {})).toEqual({ ok: true, value: 0n });
    expect(reason(amountOf(its, { requests: '9223372036854775807' }))).toBe('the amount is larger than 2^63-1');
  });

  test('amounts are written with their scale', () => {
    expect(formatAmount('75', '4')).toBe('0.0075');
    expect(formatAmount('123456', '2')).toBe('1234.56');
    expect(formatAmount('7', '0')).toBe('7');
  });

  test('units add up, and an absent addition has no digest', () => {
    expect(addUnits({ bytes: '3' }, { bytes: '4', requests: '1' })).toEqual({ bytes: '7', requests: '1' });
    expect(extDigest(nodeCrypto, null)).toBe('');
    expect(extDigest(nodeCrypto, { statusAge: '3' })).toHaveLength(43);
  });
});
