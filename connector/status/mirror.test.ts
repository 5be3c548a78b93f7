import { describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import { manualClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createStatusMirror } from './mirror.ts';
import type { Notice } from './ports.ts';
import { statusWithoutBroker } from './service.ts';

const start = 1_795_000_000_000;
const issuer = 'did:web:accreditor.example' as Did;
const notice = (changes: Partial<Notice> = {}): Notice => ({
  type: 'revoked',
  at: start,
  issuer,
  subject: 'urn:credential:1',
  effectiveAt: start,
  evidence: null,
  isHeld: false,
  ...changes,
});
const whole = (silentMs: number | null) => ({ kind: 'pulse', silentMs, isWhole: true }) as const;

const make = () => {
  const clock = manualClock(start);
  const mirror = createStatusMirror({ clock, log: silentLogger });
  let changes = 0;
  mirror.onChange(() => {
    changes += 1;
  });
  return { clock, mirror, changes: () => changes };
};

describe('mirror of standing', () => {
  test('knows nothing good before it was told', () => {
    const { mirror } = make();
    expect(mirror.check([], 300_000)).toEqual({ state: 'unknown' });
    mirror.take({ kind: 'pulse', silentMs: 0, isWhole: false });
    expect(mirror.check([], 300_000)).toEqual({ state: 'unknown' });
    mirror.take(whole(0));
    expect(mirror.check(['urn:credential:1'], 'strict')).toEqual({ state: 'good', statusAge: null });
  });

  test('a word counts at once, and is taken back', () => {
    const { mirror, changes } = make();
    mirror.take(whole(0));
    mirror.take({ kind: 'put', notice: notice() });
    expect(changes()).toBe(1);
    expect(mirror.check(['urn:other', 'urn:credential:1'], 300_000)).toEqual({ state: 'revoked' });
    mirror.take({ kind: 'remove', notice: notice() });
    expect(changes()).toBe(2);
    expect(mirror.check(['urn:credential:1'], 300_000)).toEqual({ state: 'good', statusAge: null });
  });

  test('of a credential whose issuer is known nobody else’s word counts', () => {
    const { mirror } = make();
    mirror.take(whole(0));
    mirror.learn('urn:credential:1', 'did:web:other.example' as Did);
    mirror.take({ kind: 'put', notice: notice() });
    expect(mirror.check(['urn:credential:1'], 300_000)).toEqual({ state: 'good', statusAge: null });
  });

  test('a suspension counts on its date, and running streams are judged again then', async () => {
    const { clock, mirror, changes } = make();
    mirror.take(whole(null));
    mirror.take({ kind: 'put', notice: notice({ type: 'suspended', effectiveAt: start + 1_000 }) });
    expect(mirror.check(['urn:credential:1'], 300_000)).toEqual({ state: 'good', statusAge: null });
    const before = changes();
    for (let step = 0; step < 5; step += 1) {
      clock.advance(250);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(mirror.check(['urn:credential:1'], 300_000)).toEqual({ state: 'revoked' });
    expect(changes()).toBe(before + 1);
  });

  test('when it hears nothing more silence goes on: strict stops in three seconds, a grace at its end', async () => {
    const { clock, mirror, changes } = make();
    mirror.take(whole(500));
    clock.advance(2_500);
    expect(mirror.check([], 'strict')).toEqual({ state: 'good', statusAge: null });
    clock.advance(1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(mirror.check([], 'strict')).toEqual({ state: 'unknown' });
    expect(mirror.check([], 10_000)).toEqual({ state: 'good', statusAge: 3 });
    clock.advance(10_000);
    await new Promise((resolve) => setImmediate(resolve));
    expect(changes()).toBeGreaterThan(0);
    expect(mirror.check([], 10_000)).toEqual({ state: 'unknown' });
    mirror.take(whole(0));
    expect(mirror.check([], 'strict')).toEqual({ state: 'good', statusAge: null });
  });

  test('without a broker nobody is missed', () => {
    const { clock, mirror } = make();
    statusWithoutBroker.mirror((news) => mirror.take(news));
    clock.advance(3_600_000);
    expect(mirror.check(['urn:credential:1'], 'strict')).toEqual({ state: 'good', statusAge: null });
  });
});
