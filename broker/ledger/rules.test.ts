import { describe, expect, test } from 'vitest';
import type { KeyEvent } from '../../contracts/ledger/public-entries.ts';
import {
  agreementBody,
  consumer,
  keyEventBody,
  logStart,
  provider,
  statementBody,
  stranger,
} from '../../test/support/log-parties.ts';
import type { Known } from './ports.ts';
import {
  appendTo,
  decide,
  decideKeyEvent,
  dueEffects,
  effectDelayMs,
  pendingAfter,
  type Subject,
  type View,
  viewOf,
  waitsForEffect,
} from './rules.ts';

const nothing: Known = { leaves: [], agreements: [], events: [], statements: [], joinCodes: [] };
const kids = [provider.kid, consumer.kid];

const agreement = agreementBody();
const agreementSubject: Subject = {
  kind: 'agreement',
  agreementDigest: agreement.digest,
  value: agreement.payload,
  kids,
};

const event = (name: 'void' | 'end', signers: readonly string[]): Subject => ({
  kind: 'agreement-event',
  agreementDigest: agreement.digest,
  value: {
    v: 1,
    type: 'agreement-event',
    agreementDigest: agreement.digest,
    event: name,
    effectiveAt: '2026-11-23T11:00:00.000Z',
    reason: '',
    leafKey: agreement.payload.leafKey,
    salt: agreement.payload.salt,
  },
  signers,
});

type StatementSubject = Extract<Subject, { kind: 'statement' }>;
const subjectOf = (made: ReturnType<typeof statementBody>): StatementSubject => ({
  kind: 'statement',
  agreementDigest: agreement.digest,
  value: made.payload,
  digest: made.digest,
  sums: made.body.sums,
  kids,
});
const first = statementBody({ agreement });
const second = statementBody({ agreement, after: first });

/** A view in which these subjects stand, from index 0. */
const viewWith = (...subjects: readonly Subject[]): View => {
  const view = viewOf(nothing);
  for (const [index, subject] of subjects.entries()) appendTo(view, subject, index);
  return view;
};

const said = (view: View, subject: Subject, now = logStart) => {
  const verdict = decide(view, subject, now);
  return verdict.kind === 'refused' ? verdict.reason : verdict;
};

describe('what the log registers', () => {
  test('an agreement once, and one agreement for each providerPid', () => {
    expect(said(viewWith(), agreementSubject)).toEqual({ kind: 'append' });
    expect(said(viewWith(agreementSubject), agreementSubject)).toEqual({ kind: 'duplicate', index: 0 });
    const samePid = { ...agreementSubject, agreementDigest: 'another' };
    expect(decide(viewWith(agreementSubject), samePid, logStart)).toMatchObject({ code: 'statement-conflict' });
  });

  test('an agreement with its signatures in their roles, and a time', () => {
    expect(said(viewWith(), { ...agreementSubject, kids: kids.toReversed() })).toContain('signature 1 is not by');
    expect(said(viewWith(), { ...agreementSubject, kids: [provider.kid] })).toContain('1 signatures where cosigned');
    const untimed = agreementBody({
      changes: { agreement: { ...agreement.payload.agreement, timestamp: 'yesterday' } },
    });
    expect(said(viewWith(), { ...agreementSubject, value: untimed.payload })).toBe('the agreement has no time');
  });

  test('no agreement that one of its parties declared void; a stranger cannot', () => {
    expect(said(viewWith(event('void', [consumer.did])), agreementSubject)).toBe('the agreement was declared void');
    expect(said(viewWith(event('void', [stranger.did])), agreementSubject)).toEqual({ kind: 'append' });
    expect(said(viewWith(event('end', [consumer.did])), agreementSubject)).toEqual({ kind: 'append' });
  });

  test('events by parties, once each', () => {
    const view = viewWith(agreementSubject, event('end', [provider.did]));
    expect(said(view, event('end', [provider.did]))).toEqual({ kind: 'duplicate', index: 1 });
    expect(said(view, event('end', [provider.did, consumer.did]))).toEqual({ kind: 'append' });
    expect(said(view, event('end', [stranger.did]))).toBe('a signer is no party of the agreement');
    expect(said(view, event('end', [provider.did, provider.did]))).toBe('one party signed twice');
    expect(said(viewWith(), event('end', [provider.did]))).toBe('the agreement is not registered');
    expect(said(viewWith(), event('void', [provider.did]))).toEqual({ kind: 'append' });
    const used = viewWith(agreementSubject, subjectOf(first));
    expect(said(used, event('void', [provider.did]))).toBe('an agreement that was used cannot be void');
    expect(said(viewWith(agreementSubject), event('void', [provider.did]))).toEqual({ kind: 'append' });
  });

  test('statements one after the other, and the same one again as a duplicate, however late', () => {
    const view = viewWith(agreementSubject, subjectOf(first));
    expect(said(viewWith(agreementSubject), subjectOf(first))).toEqual({ kind: 'append' });
    expect(said(view, subjectOf(second))).toEqual({ kind: 'append' });
    appendTo(view, subjectOf(second), 2);
    expect(said(view, subjectOf(first))).toEqual({ kind: 'duplicate', index: 1 });
    expect(said(view, { ...subjectOf(first), digest: 'other' })).toEqual({ kind: 'equivocation', index: 1 });
  });

  test('rows that come in any order show the newest statement', () => {
    const view = viewWith(agreementSubject, subjectOf(second), subjectOf(first));
    expect(view.newest.get(agreement.digest)?.seq).toBe('2');
  });

  const wrong = (changes: Partial<typeof second.payload>, name: string): [string, StatementSubject] => [
    name,
    subjectOf(statementBody({ agreement, after: first, changes })),
  ];
  test.each([
    wrong({ provider: consumer.did as never, consumer: provider.did as never }, 'the parties are others'),
    wrong({ agreement: 'urn:agreement:other' }, 'the agreement has another id'),
    wrong({ price: first.payload.root }, 'the price plan is not the one of the agreement'),
    wrong({ seq: '3' }, 'the next statement has seq 2'),
    wrong({ first: '3', last: '3' }, 'the next statement begins at record 2'),
    wrong({ from: '2026-11-23T09:00:00.000Z' }, 'the next statement begins at 2026-11-23T10:00:01.000Z'),
    wrong({ prev: first.payload.root }, 'prev is not the hash of the last statement'),
    wrong({ to: '2026-11-23T11:01:00.001Z' }, 'it ends in the future'),
  ])('a statement is refused: %s', (reason, subject) => {
    expect(said(viewWith(agreementSubject, subjectOf(first)), subject)).toBe(reason);
  });

  test('a statement may end up to 60 seconds ahead of our clock', () => {
    const ahead = statementBody({ agreement, after: first, changes: { to: '2026-11-23T11:01:00.000Z' } });
    expect(said(viewWith(agreementSubject, subjectOf(first)), subjectOf(ahead))).toEqual({ kind: 'append' });
  });

  test('the first statement begins with the agreement', () => {
    const late = statementBody({ agreement, changes: { from: '2026-11-23T10:00:00.500Z' } });
    expect(said(viewWith(agreementSubject), subjectOf(late))).toBe(
      'the next statement begins at 2026-11-23T10:00:00.000Z',
    );
  });

  test('no statement without its agreement, after a final one, or of a void agreement', () => {
    expect(said(viewWith(), subjectOf(first))).toBe('the agreement is not registered');
    const final = { ...subjectOf(first), value: { ...first.payload, final: true } };
    expect(said(viewWith(agreementSubject, final), subjectOf(second))).toBe('the last statement was final');
    const voided = viewWith(agreementSubject, event('void', [provider.did]));
    expect(said(voided, subjectOf(first))).toBe('the agreement was declared void');
    const ended = viewWith(agreementSubject, event('end', [provider.did]));
    expect(said(ended, subjectOf(first))).toEqual({ kind: 'append' });
  });

  test('totals and amount never fall; the signatures are those the agreement asks for', () => {
    const view = viewWith(agreementSubject, subjectOf(first));
    const less = statementBody({ agreement, after: first, sums: { totals: {} } });
    expect(said(view, subjectOf(less))).toBe('the total of requests falls');
    expect(said(view, { ...subjectOf(second), kids: [provider.kid] })).toContain('1 signatures where cosigned has 2');
    const plain = agreementBody({ changes: { assurance: 'plain-dsp' } });
    const plainSubject: Subject = { ...agreementSubject, value: plain.payload, kids: [provider.kid] };
    expect(said(viewWith(), plainSubject)).toEqual({ kind: 'append' });
    expect(said(viewWith(plainSubject), { ...subjectOf(first), kids: [provider.kid] })).toEqual({ kind: 'append' });
    expect(said(viewWith(plainSubject), subjectOf(first))).toContain('2 signatures where plain-dsp has 1');
  });

  test('a view is made from rows as well', () => {
    const built = viewWith(agreementSubject, subjectOf(first), event('end', [provider.did]));
    const view = viewOf({
      leaves: [{ leaf: 'leaf', index: 7 }],
      agreements: [...built.agreements.values()],
      events: [...built.events.values()].flat(),
      statements: [...built.statements.values()],
      joinCodes: [{ hash: 'code', expires: 5 }],
    });
    expect(view).toEqual({ ...built, leaves: new Map([['leaf', 7]]), joinCodes: new Map([['code', 5]]) });
  });
});

describe('key events', () => {
  const made = keyEventBody({ of: provider });
  const later = (changes: Partial<KeyEvent>): KeyEvent => ({ ...made.payload, seq: '2', prev: 'hash1', ...changes });
  const joined = { events: [{ hash: 'hash1', index: 4 }] };
  const now = 1_000;
  const usable = { expires: now, now };
  const said = (
    history: typeof joined | { events: [] },
    value: KeyEvent,
    hash: string,
    join: typeof usable | { expires: undefined; now: number } = usable,
  ) => {
    const verdict = decideKeyEvent(history, { value, hash }, join);
    return verdict.kind === 'refused' ? `${verdict.code}: ${verdict.reason}` : verdict;
  };

  test('the first one needs a join code that may be used', () => {
    expect(said({ events: [] }, made.payload, 'hash1')).toEqual({ kind: 'append' });
    expect(said({ events: [] }, made.payload, 'hash1', { expires: undefined, now })).toContain('forbidden');
    expect(said({ events: [] }, made.payload, 'hash1', { expires: now - 1, now })).toContain('expired');
  });

  test('one event for each seq, each on top of the last', () => {
    expect(said(joined, later({}), 'hash2')).toEqual({ kind: 'append' });
    expect(said(joined, made.payload, 'hash1')).toEqual({ kind: 'duplicate', index: 4 });
    expect(said(joined, made.payload, 'other')).toBe('statement-conflict: another key event has seq 1');
    expect(said(joined, later({ seq: '3' }), 'hash2')).toBe('entry-refused: the next seq is 2');
    expect(said(joined, later({ prev: 'other' }), 'hash2')).toBe(
      'entry-refused: prev is not the hash of the last key event',
    );
    expect(said({ events: [] }, later({ seq: '1' }), 'hash2')).toContain('prev is not');
  });

  test('a DID has so many events and no more; the last ones are for the operator', () => {
    const events = (count: number) => ({
      events: Array.from({ length: count }, (_, place) => ({ hash: `hash${place + 1}`, index: place })),
    });
    const next = (count: number, event: KeyEvent['event']) =>
      said(events(count), later({ event, seq: String(count + 1), prev: `hash${count}` }), 'new');
    expect(next(59, 'introduce')).toEqual({ kind: 'append' });
    expect(next(60, 'introduce')).toContain('at most 60 key events');
    expect(next(60, 'recover')).toEqual({ kind: 'append' });
    expect(next(64, 'recover')).toContain('at most 64 key events');
  });

  test('a later introduction and an orderly end wait 24 hours; a compromise stops what waits for that DID', () => {
    const effect = { did: provider.did, hash: 'hash2', index: 5, at: now };
    const other = { did: consumer.did, hash: 'hash9', index: 6, at: now };
    expect(
      ['introduce', 'end', 'compromise', 'recover'].map((name) => waitsForEffect(later({ event: name as 'end' }))),
    ).toEqual([true, true, false, false]);
    expect(waitsForEffect(made.payload)).toBe(false);
    const waiting = pendingAfter([other], { value: later({ event: 'end' }), effect });
    expect(waiting).toEqual([other, effect]);
    expect(pendingAfter(waiting, { value: later({ event: 'compromise' }), effect })).toEqual([other]);
    expect(pendingAfter(waiting, { value: later({ event: 'recover' }), effect })).toEqual([other]);
    expect(pendingAfter(waiting, { value: made.payload, effect })).toEqual(waiting);
    expect(dueEffects(waiting, now + effectDelayMs - 1)).toEqual([]);
    expect(dueEffects(waiting, now + effectDelayMs)).toEqual(waiting);
  });
});
