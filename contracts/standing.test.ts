import { describe, expect, test } from 'vitest';
import type { Did } from './ids.ts';
import { ownershipOf, saysTheSame, supersedes } from './standing.ts';

const broker = 'did:web:broker.example';
const issuer = 'did:web:issuer.example%3A8443:t:a' as Did;

describe('whose word counts', () => {
  test.each([
    ['urn:uuid:0190', 'unknown'],
    ['https://issuer.example:8443/t/a/credentials/1', 'own'],
    ['http://issuer.example:8443/t/a/credentials/1', 'own'],
    ['https://issuer.example:8443/t/ab/credentials/1', 'foreign'],
    ['https://issuer.example/t/a/credentials/1', 'foreign'],
    ['https://evil.example/issuer.example:8443/t/a/1', 'foreign'],
    [`${issuer}#1`, 'own'],
    [`${issuer}x#1`, 'foreign'],
    ['did:web:member.example', 'foreign'],
    [issuer, 'foreign'],
  ])('of %s this issuer is told to be: %s', (subject, ownership) => {
    expect(ownershipOf(issuer, subject, broker)).toBe(ownership);
  });

  test('only the broker speaks about participants', () => {
    expect(ownershipOf(broker, 'did:web:member.example', broker)).toBe('own');
  });

  test('an issuer whose DID has no place owns no address', () => {
    expect(ownershipOf('did:key:z6Mk', 'https://z6Mk/1', broker)).toBe('foreign');
  });
});

describe('which word is the last', () => {
  test('a revocation is final, a later word counts, an earlier or repeated one does not', () => {
    expect(supersedes(undefined, { type: 'reinstated', at: 1 })).toBe(true);
    expect(supersedes({ type: 'suspended', at: 1 }, { type: 'reinstated', at: 2 })).toBe(true);
    expect(supersedes({ type: 'reinstated', at: 2 }, { type: 'suspended', at: 1 })).toBe(false);
    expect(supersedes({ type: 'suspended', at: 1 }, { type: 'suspended', at: 1 })).toBe(false);
    expect(supersedes({ type: 'revoked', at: 1 }, { type: 'reinstated', at: 2 })).toBe(false);
    expect(supersedes({ type: 'revoked', at: 1 }, { type: 'revoked', at: 2 })).toBe(false);
    expect(supersedes({ type: 'agreement-ended', at: 1 }, { type: 'revoked', at: 2 })).toBe(false);
    expect(supersedes({ type: 'reinstated', at: 9 }, { type: 'revoked', at: 1 })).toBe(true);
    expect(supersedes({ type: 'suspended', at: 9 }, { type: 'agreement-ended', at: 1 })).toBe(true);
  });

  test('an event says what its notice says, or not', () => {
    const time = '2026-11-26T10:00:00.000Z';
    const notice = { v: 1, type: 'revoked', issuer, subject: 's', at: time, effectiveAt: time, reason: '' } as const;
    const event = { type: 'revoked', subject: 's', effectiveAt: time };
    expect(saysTheSame(event, notice)).toBe(true);
    expect(saysTheSame({ ...event, type: 'reinstated' }, notice)).toBe(false);
    expect(saysTheSame({ ...event, subject: 't' }, notice)).toBe(false);
    expect(saysTheSame({ ...event, effectiveAt: '2026-11-26T10:00:00.001Z' }, notice)).toBe(false);
  });
});
