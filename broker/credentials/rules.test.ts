import { describe, expect, test } from 'vitest';
import { start } from '../../test/support/identities.ts';
import { holder, issuedOf, issuer } from '../../test/support/issued.ts';
import type { Grant } from './ports.ts';
import { decideGrant, isGivenUp, isListFresh, maxRefusals, maxWaitMs, standingAfter } from './rules.ts';

const day = 86_400_000;
const grant: Grant = {
  key: 'membership',
  type: 'MembershipCredential',
  subject: { id: holder, role: ['participant'], memberOf: issuer },
  since: start,
  validUntil: start + day,
};

describe('what a grant comes to', () => {
  test('a first credential is issued, the same one is given again', () => {
    expect(decideGrant(grant, [], start)).toEqual({ kind: 'issue' });
    expect(decideGrant(grant, [issuedOf(1)], start)).toEqual({ kind: 'again', id: issuedOf(1).id });
  });

  test('one that says something else, or lasts less than half as long, is replaced', () => {
    const roles = { ...grant, subject: { id: holder, role: ['other'], memberOf: issuer } };
    expect(decideGrant(roles, [issuedOf(1)], start)).toEqual({ kind: 'issue' });
    const other: Grant = { ...grant, type: 'ApplicationAccreditationCredential' };
    expect(decideGrant(other, [issuedOf(1)], start)).toEqual({ kind: 'issue' });
    expect(decideGrant(grant, [issuedOf(1, { validUntil: start + day / 2 })], start).kind).toBe('again');
    expect(decideGrant(grant, [issuedOf(1, { validUntil: start + day / 2 - 1 })], start)).toEqual({ kind: 'issue' });
  });

  test('a suspended one stops every new one, and so does a revoked one until the grant is decided anew', () => {
    const suspended = issuedOf(1, { standing: 'suspended', standingAt: start - 9 });
    expect(decideGrant(grant, [issuedOf(2), suspended], start).kind).toBe('refuse');
    const revoked = issuedOf(1, { standing: 'revoked', standingAt: start + 1 });
    expect(decideGrant(grant, [issuedOf(2), revoked], start).kind).toBe('refuse');
    expect(decideGrant({ ...grant, since: start + 1 }, [revoked], start)).toEqual({ kind: 'issue' });
  });

  test('a decision that has run out gives nothing', () => {
    expect(decideGrant({ ...grant, validUntil: start }, [], start).kind).toBe('refuse');
  });
});

describe('standing', () => {
  test.each([
    ['active', 'revoked', 'revoked'],
    ['active', 'suspended', 'suspended'],
    ['active', 'reinstated', 'same'],
    ['suspended', 'revoked', 'revoked'],
    ['suspended', 'suspended', 'same'],
    ['suspended', 'reinstated', 'active'],
    ['revoked', 'revoked', 'same'],
    ['revoked', 'suspended', 'final'],
    ['revoked', 'reinstated', 'final'],
  ] as const)('%s, then %s: %s', (standing, change, after) => {
    expect(standingAfter(standing, change)).toBe(after);
  });
});

describe('limits', () => {
  test('a list is fresh for half of its life, and not when the clock stands before its signature', () => {
    expect([0, 499, 500, -1].map((age) => isListFresh(1_000, 1_000, 1_000 + age))).toEqual([true, true, false, false]);
  });

  test('a delivery is given up after so many refusals, or after a day', () => {
    const its = { attempts: 0, createdAt: 0, now: 1 };
    expect(isGivenUp('refused', its)).toBe(false);
    expect(isGivenUp('refused', { ...its, attempts: maxRefusals - 1 })).toBe(true);
    expect(isGivenUp('unreachable', { ...its, attempts: maxRefusals - 1 })).toBe(false);
    expect(isGivenUp('unreachable', { ...its, now: maxWaitMs })).toBe(true);
  });
});
