import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toHex } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import { replayKey } from '../../contracts/ledger/record.ts';
import vectors from '../../contracts/ledger/vectors.json' with { type: 'json' };
import { nodeCrypto } from '../../kernel/crypto.ts';
import { createItemCounter } from './items.pure.ts';
import { readProof, readProofKey, verifyProof } from './proof.ts';
import { createReplaySet, generationMs } from './replay.pure.ts';
import {
  countsAsItems,
  goesOn,
  isApplicationId,
  needsAccreditation,
  passHeaders,
  problemText,
  splitGatewayTarget,
  splitTarget,
} from './rules.ts';

const key = (text: string) => nodeCrypto.sha256(Buffer.from(text)).subarray(0, 16);

describe('replay set', () => {
  test('a key counts once in its time, and again only when that time is long over', () => {
    const replay = createReplaySet(64);
    expect(replay.claim(key('a'), 0, 'x')).toBe('fresh');
    expect(replay.claim(key('a'), generationMs - 1, 'x')).toBe('seen');
    expect(replay.claim(key('b'), generationMs, 'x')).toBe('fresh');
    expect(replay.claim(key('a'), 5, 'x')).toBe('seen');
    expect(replay.claim(key('a'), 2 * generationMs, 'x')).toBe('fresh');
  });

  test('a clock that went back makes nothing good again', () => {
    const replay = createReplaySet(64);
    replay.claim(key('a'), 0, 'x');
    replay.claim(key('b'), 2 * generationMs, 'x');
    expect(replay.claim(key('a'), 0, 'x')).toEqual({ retryAfterSeconds: 60 });
  });

  test('is full instead of forgetting, for one agreement before all others', () => {
    const replay = createReplaySet(64);
    for (let count = 0; count < 8; count += 1) expect(replay.claim(key(`a${count}`), 0, 'x')).toBe('fresh');
    expect(replay.claim(key('a8'), 0, 'x')).toEqual({ retryAfterSeconds: 60 });
    expect(replay.claim(key('a0'), 0, 'y')).toBe('seen');
    for (let count = 0; count < 56; count += 1)
      expect(replay.claim(key(`b${count}`), 0, `other ${count}`)).toBe('fresh');
    expect(replay.claim(key('c'), 0, 'z')).toEqual({ retryAfterSeconds: 60 });
    expect(replay.claim(key('c'), generationMs, 'x')).toBe('fresh');
  });

  test('a key of zeros is a key, too', () => {
    const replay = createReplaySet(64);
    expect(replay.claim(new Uint8Array(16), 0, 'x')).toBe('fresh');
    expect(replay.claim(new Uint8Array(16), 0, 'x')).toBe('seen');
  });

  test('agrees with a plain set for any keys', () => {
    const bytes = fc.uint8Array({ minLength: 16, maxLength: 16, max: 3 });
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 200 }), (keys) => {
        const replay = createReplaySet(4096);
        const plain = new Set<string>();
        for (const [index, one] of keys.entries()) {
          const zeros = one.every((byte) => byte === 0);
          const name = zeros ? toHex(Uint8Array.of(...one.slice(0, 15), 1)) : toHex(one);
          expect(replay.claim(one, 0, String(index))).toBe(plain.has(name) ? 'seen' : 'fresh');
          plain.add(name);
        }
      }),
      { numRuns: 200 },
    );
  });
});

const countOf = (text: string, cut = text.length): number | null => {
  const counter = createItemCounter();
  const bytes = Buffer.from(text);
  counter.push(bytes.subarray(0, cut));
  counter.push(bytes.subarray(cut));
  return counter.total();
};

describe('items', () => {
  test.each([
    ['{"type":"FeatureCollection","features":[]}', 0],
    ['{"features":[ ]}', 0],
    ['{"features":[{"type":"Feature"}]}', 1],
    ['{"features":[{"a":[1,2,{"features":[1,2]}]},{},{}],"numberReturned":3}', 3],
    ['{"features":[1,"two, three",null]}', 3],
    ['{"a":"\\"features\\":[1,2]","features":["]"]}', 1],
    ['{"a":"features","b":[1,2]}', null],
    ['{"properties":{"features":[1]}}', null],
    ['{"features":{"a":[1]}}', null],
    ['{"features":[1],"features":[1,2]}', null],
    ['["features",[1]]', null],
    ['{"features":[1,2]', null],
    ['no JSON', null],
    ['', null],
  ])('of %s are %s', (text, count) => expect(countOf(text)).toBe(count));

  test('are the same wherever the bytes are cut', () => {
    const text = '{ "x" : "\\\\", "features" : [ {"a":"é,]}"} , [1,2] , "z" ] , "y" : [ 1 , 2 ] }';
    for (let cut = 0; cut <= Buffer.byteLength(text); cut += 1) expect(countOf(text, cut), String(cut)).toBe(3);
  });

  test('are what a parser counts', () => {
    const collection = fc.record({ features: fc.array(fc.jsonValue()), more: fc.jsonValue() });
    fc.assert(fc.property(collection, (value) => countOf(JSON.stringify(value)) === value.features.length));
  });

  test('are counted only in whole, plain answers of the one media type', () => {
    const type = ['content-type', 'application/geo+json; charset=utf-8'];
    expect(countsAsItems(200, type)).toBe(true);
    expect(countsAsItems(200, [...type, 'content-encoding', 'identity'])).toBe(true);
    expect(countsAsItems(206, type)).toBe(false);
    expect(countsAsItems(200, [...type, 'content-encoding', 'gzip'])).toBe(false);
    expect(countsAsItems(200, ['content-type', 'application/json'])).toBe(false);
  });
});

describe('proofs', () => {
  const { dpop } = vectors;
  const changed = (index: 0 | 1 | 2, text: string) =>
    dpop.proof
      .split('.')
      .map((part, at) => (at === index ? text : part))
      .join('.');
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const header = JSON.parse(Buffer.from(dpop.proof.split('.')[0] ?? '', 'base64url').toString());

  test('the known answer of the wire is read, verified and keyed', () => {
    const proof = readProof(dpop.proof);
    const found = readProofKey(proof?.header ?? '');
    expect(found?.jkt).toBe(dpop.jkt);
    expect(proof?.claims.ath).toBe(dpop.ath);
    expect(proof !== undefined && found !== undefined && verifyProof(proof, found)).toBe(true);
    const agreement = JSON.parse(Buffer.from(dpop.accessToken.split('.')[1] ?? '', 'base64url').toString()).agreement;
    expect(toHex(replayKey(nodeCrypto, agreement, proof?.claims.jti ?? ''))).toBe(dpop.replayKey);
  });

  test('other bytes that a lenient decoder reads the same are none', () => {
    const end = dpop.proof.split('.')[2] ?? '';
    const last = end.at(-1) ?? '';
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const twin = `${end.slice(0, -1)}${alphabet[(alphabet.indexOf(last) & 48) | ((alphabet.indexOf(last) + 1) & 15)]}`;
    expect(Buffer.from(twin, 'base64url').equals(Buffer.from(end, 'base64url'))).toBe(true);
    expect(readProof(changed(2, twin))).toBeUndefined();
    expect(readProof(`${dpop.proof}=`)).toBeUndefined();
    expect(readProof(changed(2, `${end.slice(0, -1)}+`))).toBeUndefined();
  });

  test.each([
    ['another type', { ...header, typ: 'JWT' }],
    ['no algorithm', { ...header, alg: 'none' }],
    ['a shared secret', { ...header, alg: 'HS256' }],
    ['an algorithm that is not the key’s', { ...header, alg: 'EdDSA' }],
    ['a private key', { ...header, jwk: { ...header.jwk, d: 'AAAA' } }],
    ['a key elsewhere', { ...header, jku: 'https://evil.example/keys' }],
    ['critical extensions', { ...header, crit: ['b64'], b64: false }],
    ['no key', { typ: 'dpop+jwt', alg: 'ES256' }],
    ['a point that is on no curve', { ...header, jwk: { ...header.jwk, x: header.jwk.y } }],
  ])('a header with %s is none', (_name, value) => expect(readProofKey(encode(value))).toBeUndefined());

  test.each(['', 'a.b', 'a.b.c', `${'a'.repeat(5_000)}.b.c`, changed(1, encode({ jti: 1 })), changed(1, encode([]))])(
    'text that is no proof is read as none (%#)',
    (text) => expect(readProof(text)).toBeUndefined(),
  );
});

describe('targets', () => {
  test('are taken apart as they stand', () => {
    expect(splitTarget('/urn:uuid:1/a/b%20c?x=%2e%2e')).toEqual({
      first: 'urn:uuid:1',
      rest: '/a/b%20c',
      query: '?x=%2e%2e',
    });
    expect(splitTarget('/urn:uuid:1')).toEqual({ first: 'urn:uuid:1', rest: '', query: '' });
    expect(splitGatewayTarget('/data/urn%3Auuid%3A1%2Fx/a?b')).toEqual({
      first: 'urn%3Auuid%3A1%2Fx',
      rest: '/a',
      query: '?b',
    });
  });

  test.each([
    '/',
    '',
    '*',
    'http://other.example/x',
    '//other.example/x',
    '/p/../x',
    '/p/./x',
    '/p/..',
    '/../x',
    '/p/%2e%2e/x',
    '/p/%2E%2e/x',
    '/p/a%2fb',
    '/p/a%5Cb',
    '/p/a\\b',
    '/p/a#b',
    '/p/a b',
    '/p/a?b c',
    '/p/é',
    `/p/${'x'.repeat(9_000)}`,
  ])('%j leads nowhere', (target) => expect(splitTarget(target)).toBeUndefined());
});

describe('headers', () => {
  test('of the connection, secrets and ours do not go on to the source', () => {
    for (const name of ['authorization', 'dpop', 'cookie', 'host', 'connection', 'x-forwarded-for', 'stekker-purpose'])
      expect(goesOn(name, false), name).toBe(false);
    for (const name of ['accept', 'range', 'if-none-match', 'accept-crs', 'traceparent'])
      expect(goesOn(name, false), name).toBe(true);
    expect(goesOn('range', true)).toBe(false);
    expect(goesOn('accept-encoding', true)).toBe(false);
  });

  test('of an answer that are the connection’s or secret stay behind, with those that it names', () => {
    const got = ['content-type', 'a/b', 'set-cookie', 's=1', 'connection', 'close, X-Hop', 'x-hop', '1', 'etag', '"e"'];
    expect(passHeaders(got, 'source')).toEqual(['content-type', 'a/b', 'etag', '"e"']);
    expect(passHeaders(['ratelimit', 'r', 'location', 'http://inside/'], 'source')).toEqual([]);
    expect(passHeaders(['ratelimit', 'r', 'set-cookie', 's'], 'provider')).toEqual(['ratelimit', 'r']);
  });
});

describe('rules of an access', () => {
  const asks = (leftOperand: string) => ({
    permission: [{ action: 'use', constraint: [{ or: [{ leftOperand, operator: 'eq', rightOperand: 'urn:x' }] }] }],
  });

  test('an accreditation is asked for when the rules ask what only it can answer', () => {
    expect(needsAccreditation(asks('urn:stekker:1:accreditedFor'))).toBe(true);
    expect(needsAccreditation(asks('urn:stekker:1:applicationVersion'))).toBe(true);
    expect(needsAccreditation(asks('odrl:purpose'))).toBe(false);
  });

  test.each([
    ['urn:app:x@1.0.0', true],
    ['https://a.example/b@c@2', true],
    ['urn:app:x', false],
    ['@1', false],
    ['urn:app:x@', false],
    ['urn:app x@1', false],
  ])('%s names an application: %s', (text, is) => expect(isApplicationId(text)).toBe(is));

  test('a problem shows what may be shown, and reasons in both languages', () => {
    const reasons = [{ nl: 'nee', en: 'no' }];
    const shown = JSON.parse(problemText({ error: new AppError('policy-denied', { detail: 'no' }), reasons }));
    expect(shown).toMatchObject({ type: 'urn:stekker:1:error:policy-denied', status: 403, detail: 'no', reasons });
    expect(problemText({ error: new AppError('upstream-failed', { detail: 'MARKER' }) })).not.toContain('MARKER');
  });
});
