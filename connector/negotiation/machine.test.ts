import { describe, expect, test } from 'vitest';
import { negotiationStates } from '../../contracts/dsp/negotiation.ts';
import type { Role } from '../../contracts/dsp/process.ts';
import {
  isFinal,
  maySend,
  type NegotiationKind,
  type NegotiationProcess,
  negotiationProtocol,
  transition,
} from './machine.ts';

const kinds: readonly NegotiationKind[] = [
  'request',
  'offer',
  'accepted',
  'agreement',
  'verification',
  'finalized',
  'termination',
];
const at = (
  role: Role,
  state: NegotiationProcess['state'],
  pending: NegotiationProcess['pending'] = null,
): NegotiationProcess => ({ role, state, pending });
const sending = (kind: NegotiationKind, leadsTo: (typeof negotiationStates)[number]) => ({
  kind,
  leadsTo,
  message: 'm1',
});
const states = ['INITIAL', ...negotiationStates] as const;

describe('negotiation machine', () => {
  test('what is not in the tables is refused, in every state and role', () => {
    let lawful = 0;
    for (const role of ['provider', 'consumer'] as const) {
      for (const state of states) {
        for (const kind of kinds) {
          const target = negotiationProtocol.receives[role][state]?.[kind];
          const outcome = transition(at(role, state), { type: 'received', kind });
          expect(outcome.ok ? outcome.next.state : undefined, `${role} ${state} ${kind}`).toBe(target);
          if (target !== undefined) lawful += 1;
          expect(maySend(at(role, state), kind)).toBe(negotiationProtocol.sends[role][state]?.[kind] !== undefined);
        }
      }
    }
    expect(lawful).toBe(19);
  });

  test('final states take nothing and send nothing', () => {
    for (const state of ['FINALIZED', 'TERMINATED'] as const) {
      expect(isFinal(state)).toBe(true);
      for (const kind of kinds) {
        expect(transition(at('provider', state), { type: 'received', kind }).ok).toBe(false);
        expect(transition(at('consumer', state), { type: 'decided', kind, message: 'm' }).ok).toBe(false);
      }
    }
  });

  test('a state changes when the message was acknowledged, not before', () => {
    const decided = transition(at('consumer', 'AGREED'), { type: 'decided', kind: 'verification', message: 'm1' });
    expect(decided).toMatchObject({
      ok: true,
      next: { state: 'AGREED', pending: sending('verification', 'VERIFIED') },
      effects: ['send'],
    });
    if (!decided.ok) throw new Error('refused');
    expect(transition(decided.next, { type: 'acknowledged', message: 'm1' })).toMatchObject({
      ok: true,
      next: { state: 'VERIFIED', pending: null },
    });
    expect(transition(decided.next, { type: 'acknowledged', message: 'other' })).toMatchObject({
      ok: true,
      next: decided.next,
    });
  });

  test('FINALIZED while our verification is under way proves that it arrived', () => {
    const process = at('consumer', 'AGREED', sending('verification', 'VERIFIED'));
    expect(transition(process, { type: 'received', kind: 'finalized' })).toMatchObject({
      ok: true,
      next: { state: 'FINALIZED', pending: null },
    });
    expect(transition(at('consumer', 'AGREED'), { type: 'received', kind: 'finalized' }).ok).toBe(false);
  });

  test('having decided to terminate, everything else is refused', () => {
    const process = at('consumer', 'VERIFIED', sending('termination', 'TERMINATED'));
    expect(transition(process, { type: 'received', kind: 'finalized' }).ok).toBe(false);
    expect(transition(process, { type: 'received', kind: 'termination' })).toMatchObject({
      ok: true,
      next: { state: 'TERMINATED', pending: null },
    });
  });

  test('a termination replaces a message under way, unless that may have ended the process already', () => {
    expect(maySend(at('consumer', 'AGREED', sending('verification', 'VERIFIED')), 'termination')).toBe(true);
    expect(maySend(at('provider', 'VERIFIED', sending('finalized', 'FINALIZED')), 'termination')).toBe(false);
    expect(maySend(at('provider', 'VERIFIED', sending('termination', 'TERMINATED')), 'termination')).toBe(false);
    expect(maySend(at('consumer', 'OFFERED', sending('accepted', 'ACCEPTED')), 'request')).toBe(false);
  });

  test('a refused first request ends the process; a refused later message asks the peer', () => {
    const first = at('consumer', 'INITIAL', sending('request', 'REQUESTED'));
    expect(transition(first, { type: 'refused', message: 'm1' })).toMatchObject({
      ok: true,
      next: { state: 'TERMINATED' },
    });
    const later = at('provider', 'REQUESTED', sending('agreement', 'AGREED'));
    expect(transition(later, { type: 'refused', message: 'm1' })).toMatchObject({
      ok: true,
      next: later,
      effects: ['ask'],
    });
    const ending = at('provider', 'REQUESTED', sending('termination', 'TERMINATED'));
    expect(transition(ending, { type: 'refused', message: 'm1' })).toMatchObject({
      ok: true,
      next: { state: 'TERMINATED' },
    });
  });

  test('what the peer tells decides after a refusal', () => {
    const process = at('provider', 'REQUESTED', sending('agreement', 'AGREED'));
    const told = (state: (typeof negotiationStates)[number] | undefined) =>
      transition(process, { type: 'peer-state', message: 'm1', state, termination: 't1' });
    expect(told('AGREED')).toMatchObject({ ok: true, next: { state: 'AGREED', pending: null } });
    expect(told('TERMINATED')).toMatchObject({ ok: true, next: { state: 'TERMINATED' } });
    expect(told(undefined)).toMatchObject({ ok: true, next: { state: 'TERMINATED' } });
    expect(told('REQUESTED')).toMatchObject({
      ok: true,
      next: { pending: { kind: 'termination', message: 't1' } },
      effects: ['send'],
    });
  });

  test('giving up terminates, except where only the peer can know', () => {
    const gaveUp = (process: NegotiationProcess) =>
      transition(process, { type: 'gave-up', message: 'm1', termination: 't1' });
    expect(gaveUp(at('consumer', 'AGREED', sending('verification', 'VERIFIED')))).toMatchObject({
      ok: true,
      next: { pending: { kind: 'termination' } },
    });
    expect(gaveUp(at('consumer', 'INITIAL', sending('request', 'REQUESTED')))).toMatchObject({
      ok: true,
      next: { state: 'TERMINATED' },
    });
    expect(gaveUp(at('provider', 'VERIFIED', sending('finalized', 'FINALIZED')))).toMatchObject({
      ok: true,
      next: { pending: { kind: 'finalized' } },
      effects: ['send'],
    });
    expect(gaveUp(at('provider', 'VERIFIED', sending('termination', 'TERMINATED')))).toMatchObject({
      ok: true,
      next: { state: 'TERMINATED' },
    });
  });
});
