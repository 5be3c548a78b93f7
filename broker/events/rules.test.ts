import { describe, expect, test } from 'vitest';
import type { StandingNotice } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import { formatTime } from '../../contracts/time.ts';
import type { KnownNotice } from './ports.ts';
import { judgeNotice, msOf, nextBeat, readLastEventId } from './rules.ts';

const now = 1_795_600_000_000;
const registrar = 'did:web:broker.example';
const issuer = 'did:web:issuer.example' as Did;
const other = 'did:web:other.example' as Did;
const noticeOf = (changes: Partial<StandingNotice> = {}): StandingNotice => ({
  v: 1,
  type: 'revoked',
  issuer,
  subject: 'urn:uuid:1',
  at: formatTime(now),
  effectiveAt: formatTime(now),
  reason: '',
  ...changes,
});
const judge = (
  notice: StandingNotice,
  its: { readonly owner?: string; readonly known?: readonly KnownNotice[] } = {},
) => judgeNotice(notice, { owner: its.owner, registrar, known: its.known ?? [], now });

describe('heartbeat', () => {
  test('grows with the clock, and by itself when the clock is set back a little', () => {
    expect(nextBeat(10, 20)).toBe(20);
    expect(nextBeat(20, 20)).toBe(21);
    expect(nextBeat(50_000, 20)).toBe(50_001);
  });
  test('follows the clock again after a jump that nobody believed', () => {
    expect(nextBeat(3_600_000, 20)).toBe(20);
  });
});

describe('last event id', () => {
  test.each([
    ['0', 0],
    ['17', 17],
    ['', undefined],
    ['-1', undefined],
    ['1e3', undefined],
    ['01', undefined],
    ['99999999999999999', undefined],
    [undefined, undefined],
    [null, undefined],
  ])('%s is read as %s', (text, n) => {
    expect(readLastEventId(text)).toBe(n);
  });
});

describe('notices', () => {
  test('the first word about a credential is passed on', () => {
    expect(judge(noticeOf())).toEqual({ do: 'publish', expected: null });
    expect(judge(noticeOf(), { owner: issuer })).toEqual({ do: 'publish', expected: null });
    expect(judge(noticeOf(), { known: [{ issuer, type: 'suspended', at: now - 5 }] })).toEqual({
      do: 'publish',
      expected: now - 5,
    });
  });

  test('a repeat and an overtaken word change nothing', () => {
    expect(judge(noticeOf(), { known: [{ issuer, type: 'revoked', at: now }] })).toEqual({ do: 'nothing' });
    const older = noticeOf({ type: 'suspended', at: formatTime(now - 10) });
    expect(judge(older, { known: [{ issuer, type: 'reinstated', at: now - 5 }] })).toEqual({ do: 'nothing' });
    expect(judge(older, { known: [{ issuer, type: 'revoked', at: now - 5 }] })).toEqual({ do: 'nothing' });
  });

  test('a revocation cannot be undone', () => {
    const known: readonly KnownNotice[] = [{ issuer, type: 'revoked', at: now - 5 }];
    expect(judge(noticeOf({ type: 'reinstated' }), { known })).toMatchObject({ do: 'refuse' });
    expect(judge(noticeOf({ type: 'suspended' }), { known })).toMatchObject({ do: 'refuse' });
  });

  test('nobody speaks about the credentials of somebody else', () => {
    expect(judge(noticeOf({ subject: 'https://other.example/1' }))).toMatchObject({ do: 'refuse' });
    expect(judge(noticeOf(), { owner: other })).toMatchObject({ do: 'refuse' });
    expect(judge(noticeOf(), { known: [{ issuer: other, type: 'suspended', at: 1 }] })).toMatchObject({ do: 'refuse' });
    // Whose it is was known: then what a stranger said before takes nothing away.
    expect(judge(noticeOf(), { owner: issuer, known: [{ issuer: other, type: 'suspended', at: 1 }] })).toMatchObject({
      do: 'publish',
    });
  });

  test('a word of the future is refused: it would silence every later one', () => {
    expect(judge(noticeOf({ at: formatTime(now + 60_000) }))).toMatchObject({ do: 'publish' });
    expect(judge(noticeOf({ at: formatTime(now + 60_001) }))).toMatchObject({ do: 'refuse' });
  });

  test('a time that is none counts as the beginning of time', () => {
    expect(msOf('nonsense')).toBe(0);
  });
});
