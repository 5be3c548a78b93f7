import { describe, expect, test } from 'vitest';
import type { BrokerMessage, StandingNotice } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import { formatTime } from '../../contracts/time.ts';
import type { Followed } from './ports.ts';
import { elapse, faultOfEvidence, judgeSilence, msOf, nextStep, pauseBefore } from './rules.ts';

const now = 1_795_600_000_000;
const time = formatTime(now);
const followed: Followed = { n: 4, wordAt: now - 1_000, heardAt: now - 1_000 };
const heartbeat = (n: number, at = now): BrokerMessage => ({ v: 1, type: 'heartbeat', n, at: formatTime(at) });
const snapshot = (n: number, at = now): BrokerMessage => ({
  v: 1,
  type: 'snapshot',
  n,
  at: formatTime(at),
  events: [],
});
const event = (n: number): BrokerMessage => ({
  v: 1,
  type: 'keys',
  n,
  at: time,
  subject: 'did:web:a.example',
  effectiveAt: time,
  evidence: null,
});

describe('the next message', () => {
  test('a heartbeat with our number is heard', () => {
    expect(nextStep(followed, heartbeat(4), now)).toEqual({ do: 'hear' });
  });

  test('a heartbeat whose time does not grow, or is of another day, counts for nothing', () => {
    expect(nextStep(followed, heartbeat(4, now - 1_000), now)).toEqual({ do: 'ignore' });
    expect(nextStep(followed, heartbeat(4, now - 2_000), now)).toEqual({ do: 'ignore' });
    expect(nextStep(followed, heartbeat(4, now), now + 60_001)).toEqual({ do: 'ignore' });
    expect(nextStep(followed, heartbeat(4, now), now - 60_001)).toEqual({ do: 'ignore' });
  });

  test('a heartbeat with another number shows a gap, whichever way', () => {
    expect(nextStep(followed, heartbeat(5), now)).toEqual({ do: 'resume' });
    expect(nextStep(followed, heartbeat(3), now)).toEqual({ do: 'resume' });
    expect(nextStep({ ...followed, n: null }, heartbeat(4), now)).toEqual({ do: 'resume' });
  });

  test('the next event is taken, a repeated one passed over, one too far shows a gap', () => {
    expect(nextStep(followed, event(5), now)).toMatchObject({ do: 'take', n: 5 });
    expect(nextStep(followed, event(4), now)).toEqual({ do: 'ignore' });
    expect(nextStep(followed, event(6), now)).toEqual({ do: 'resume' });
    expect(nextStep({ ...followed, n: null }, event(1), now)).toEqual({ do: 'resume' });
  });

  test('a snapshot is taken at any number, and an old one not', () => {
    expect(nextStep({ ...followed, n: null }, snapshot(9), now)).toMatchObject({ do: 'take', n: 9 });
    expect(nextStep(followed, snapshot(2), now)).toMatchObject({ do: 'take', n: 2 });
    expect(nextStep(followed, snapshot(9, now - 1_000), now)).toEqual({ do: 'ignore' });
  });
});

describe('silence', () => {
  test('strict ends after 3 s, grace after its own time behind that, marked on the way', () => {
    expect(judgeSilence(3_000, 'strict')).toEqual({ state: 'good', statusAge: null });
    expect(judgeSilence(3_001, 'strict')).toEqual({ state: 'unknown' });
    expect(judgeSilence(3_000, 2_000)).toEqual({ state: 'good', statusAge: null });
    expect(judgeSilence(3_001, 2_000)).toEqual({ state: 'good', statusAge: 3 });
    expect(judgeSilence(5_000, 2_000)).toEqual({ state: 'good', statusAge: 5 });
    expect(judgeSilence(5_001, 2_000)).toEqual({ state: 'unknown' });
  });

  test('a clock that is set back takes nothing back', () => {
    const first = elapse({ seen: 100, total: 0 }, 150);
    expect(first).toEqual({ seen: 150, total: 50 });
    const back = elapse(first, 20);
    expect(back).toEqual({ seen: 20, total: 50 });
    expect(elapse(back, 30).total).toBe(60);
  });
});

describe('evidence', () => {
  const issuer = 'did:web:issuer.example' as Did;
  const notice: StandingNotice = {
    v: 1,
    type: 'revoked',
    issuer,
    subject: 'urn:uuid:1',
    at: time,
    effectiveAt: time,
    reason: '',
  };
  const said = {
    v: 1,
    type: 'revoked',
    subject: 'urn:uuid:1',
    at: time,
    effectiveAt: time,
    evidence: null,
  } as const;
  const its = { broker: 'did:web:broker.example', owner: undefined };

  test('must say what the event says, about the issuer’s own', () => {
    expect(faultOfEvidence(said, notice, its)).toBeUndefined();
    expect(faultOfEvidence(said, notice, { ...its, owner: issuer })).toBeUndefined();
    expect(faultOfEvidence({ ...said, type: 'reinstated' }, notice, its)).toContain('something else');
    expect(faultOfEvidence(said, notice, { ...its, owner: 'did:web:x.example' })).toContain('somebody else');
    const foreign = 'https://x.example/1';
    expect(faultOfEvidence({ ...said, subject: foreign }, { ...notice, subject: foreign }, its)).toContain(
      'not one of',
    );
  });

  test('a time that is none counts as the beginning of time', () => {
    expect(msOf('nonsense')).toBe(0);
  });
});

describe('pauses', () => {
  test('double up to a limit, with a random half', () => {
    expect(pauseBefore(0, 0)).toBe(50);
    expect(pauseBefore(0, 0.5)).toBe(75);
    expect(pauseBefore(3, 0)).toBe(400);
    expect(pauseBefore(1_000, 0)).toBe(2_500);
    expect(pauseBefore(1_000, 0.999)).toBeLessThanOrEqual(5_000);
  });
});
