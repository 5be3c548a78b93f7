import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { toBase64Url } from '../../contracts/bytes.ts';
import type { Did } from '../../contracts/ids.ts';
import { formatTime } from '../../contracts/time.ts';
import type { Credential } from '../../contracts/vc/credential.ts';
import { withBit } from '../../contracts/vc/status-list.ts';
import { membershipOf, start } from '../../test/support/identities.ts';
import { encodeBits, type Lists, type Site, serveLists, startSite } from '../../test/support/sites.ts';
import { manualClock } from '../clock.ts';
import { createDidResolver } from '../did.ts';
import { createGuardedClient } from '../http/client.ts';
import { issueAsJwt } from './issue.ts';
import { createStatusLists, decodeList } from './status.ts';

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one[Symbol.asyncDispose]();
});

const world = async () => {
  const clock = manualClock(start);
  let lists: Lists | undefined;
  const issuer = await startSite({
    byte: 3,
    routes: (app, site) => {
      lists = serveLists(app, site, clock.now);
    },
  });
  const client = createGuardedClient({ allowLoopbackHttp: true });
  open.push(client, issuer);
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true });
  const status = createStatusLists({ client, clock, resolver });
  const about = (index = 94_567): Credential =>
    membershipOf({
      issuer: issuer.did,
      subject: 'did:web:holder.example' as Did,
      list: `${issuer.origin}/status/1`,
      index,
    });
  if (lists === undefined) throw new Error('no lists');
  return { clock, issuer, lists, status, about };
};

const listFetches = (issuer: Site) => issuer.asked.filter((path) => path.includes('/status/')).length;

describe('status lists', () => {
  test('nothing set is good until the lists end; one fetch for each list, however many ask', async () => {
    const { status, about, issuer } = await world();
    const results = await Promise.all([1, 2, 3, 4].map((index) => status.check(about(index))));
    for (const result of results) expect(result).toEqual({ ok: true, value: start + 900_000 });
    expect(listFetches(issuer)).toBe(2);
  });

  test('any set bit refuses, and revoked is told from suspended', async () => {
    const { status, about, lists } = await world();
    lists.bits.revocation = withBit(lists.bits.revocation, 7, true);
    lists.bits.suspension = withBit(lists.bits.suspension, 8, true);
    expect(await status.check(about(7))).toEqual({ ok: false, reason: 'revoked' });
    expect(await status.check(about(8))).toEqual({ ok: false, reason: 'suspended' });
    expect((await status.check(about(9))).ok).toBe(true);
  });

  test('a list is kept until its validUntil, and read again at once when somebody was revoked', async () => {
    const { status, about, lists, clock, issuer } = await world();
    expect((await status.check(about())).ok).toBe(true);
    lists.bits.revocation = withBit(lists.bits.revocation, 94_567, true);
    clock.advance(899_000);
    expect((await status.check(about())).ok).toBe(true);
    expect(listFetches(issuer)).toBe(2);
    status.forget();
    expect(await status.check(about())).toEqual({ ok: false, reason: 'revoked' });
    expect(listFetches(issuer)).toBe(4);
  });

  test('max-age of the answer shortens the time', async () => {
    const { status, about, lists } = await world();
    lists.answer = (text) =>
      new Response(text, { headers: { 'content-type': 'application/vc+jwt', 'cache-control': 'max-age=60' } });
    expect(await status.check(about())).toEqual({ ok: true, value: start + 60_000 });
  });

  test('an index is a plain decimal inside the list, nothing that merely begins like one', async () => {
    const { status, about, lists } = await world();
    lists.bits.revocation = withBit(lists.bits.revocation, 0, true);
    const withIndex = (statusListIndex: string): Credential => ({
      ...about(),
      credentialStatus: about().credentialStatus.map((entry) => ({ ...entry, statusListIndex })),
    });
    for (const index of ['94567x', '1e5', '0x17167', '-1', ' 1', '01', '', '131072', '9999999999']) {
      expect(await status.check(withIndex(index)), index).toEqual({
        ok: false,
        reason: 'the status list has no such entry',
      });
    }
  });

  test.each<[string, (lists: Lists, issuer: Site) => void, string]>([
    ['another id', (lists, { origin }) => patch(lists, { id: `${origin}/status/2` }), 'has another id'],
    [
      'another purpose',
      (lists) =>
        patchSubject(lists, (purpose) => ({ statusPurpose: purpose === 'revocation' ? 'suspension' : 'revocation' })),
      'has another purpose',
    ],
    ['a list past its validUntil', (lists) => patch(lists, { validUntil: formatTime(start - 1) }), 'has expired'],
    ['a list of the future', (lists) => patch(lists, { validFrom: formatTime(start + 3_600_000) }), 'not valid yet'],
    [
      'a list of 8 bits',
      (lists) => patchSubject(lists, () => ({ encodedList: encodeBits(new Uint8Array(1)) })),
      'cannot be decoded',
    ],
    ['no gzip', (lists) => patchSubject(lists, () => ({ encodedList: 'uAAAA' })), 'cannot be decoded'],
    [
      'a bomb of 64 MiB',
      (lists) => patchSubject(lists, () => ({ encodedList: encodeBits(new Uint8Array(64 << 20)) })),
      'cannot be decoded',
    ],
    ['an error', (lists) => answer(lists, () => new Response('no', { status: 500 })), 'answered with 500'],
    [
      'a redirect',
      (lists) => answer(lists, () => new Response(null, { status: 302, headers: { location: 'http://localhost:1/' } })),
      'answered with 302',
    ],
    ['unsigned JSON', (lists) => answer(lists, () => Response.json({})), 'answered with 200'],
    [
      'another type',
      (lists) => answer(lists, (text) => new Response(text, { headers: { 'content-type': 'text/html' } })),
      'answered with 200',
    ],
    [
      'a broken signature',
      (lists) => answer(lists, (text) => jwt(`${text.slice(0, -4)}AAAA`)),
      'signature that does not hold',
    ],
    ['an endless answer', (lists) => answer(lists, () => jwt('x'.repeat(3 << 20))), 'cannot be had'],
  ])('fails closed: %s', async (_name, spoil, reason) => {
    const { status, about, lists, issuer } = await world();
    spoil(lists, issuer);
    const result = await status.check(about());
    expect(result).toMatchObject({ ok: false, reason: expect.stringContaining(reason) });
  });

  test("fails closed: a list that somebody else signed, in his own name or in the issuer's", async () => {
    const { status, about, lists, issuer } = await world();
    const other = await startSite({ byte: 9 });
    open.push(other);
    lists.sign = (list) => issueAsJwt({ ...list, issuer: other.did }, other.keys.assertion);
    expect(await status.check(about())).toMatchObject({ ok: false, reason: 'the status list is of another issuer' });
    status.forget();
    lists.sign = (list) => issueAsJwt(list, { ...other.keys.assertion, kid: issuer.keys.assertion.kid });
    expect(await status.check(about())).toMatchObject({ ok: false, reason: expect.stringContaining('does not hold') });
    status.forget();
    lists.sign = (list) => issueAsJwt(list, issuer.keys.authentication);
    expect(await status.check(about())).toMatchObject({
      ok: false,
      reason: expect.stringContaining('no assertion key'),
    });
  });

  test('a bomb is not unpacked beyond the limit', () => {
    expect(decodeList(encodeBits(new Uint8Array((1 << 20) + 1)))).toBeUndefined();
    expect(decodeList(encodeBits(new Uint8Array(1 << 20)))).toHaveLength(1 << 20);
    expect(decodeList(toBase64Url(gzipSync(new Uint8Array(16_384))))).toHaveLength(16_384);
  });
});

const jwt = (text: string) => new Response(text, { headers: { 'content-type': 'application/vc+jwt' } });

const patch = (lists: Lists, change: object) => {
  lists.spoil = (list) => ({ ...list, ...change });
};
const patchSubject = (lists: Lists, change: (purpose: string) => object) => {
  lists.spoil = (list) => ({
    ...list,
    credentialSubject: { ...list.credentialSubject, ...change(list.credentialSubject.statusPurpose) },
  });
};
const answer = (lists: Lists, make: Lists['answer']) => {
  lists.answer = make;
};
