import { describe, expect, test } from 'vitest';
import type { Role } from '../../contracts/dsp/process.ts';
import { transferStates } from '../../contracts/dsp/transfer.ts';
import { isFinal, maySend, type TransferKind, type TransferProcess, transferProtocol, transition } from './machine.ts';

const kinds: readonly TransferKind[] = ['request', 'start', 'suspension', 'completion', 'termination'];
const at = (
  role: Role,
  state: TransferProcess['state'],
  pending: TransferProcess['pending'] = null,
): TransferProcess => ({ role, state, pending });
const sending = (kind: TransferKind, leadsTo: (typeof transferStates)[number]) => ({ kind, leadsTo, message: 'm1' });

describe('transfer machine', () => {
  test('what is not in the tables is refused, in every state and role', () => {
    let lawful = 0;
    for (const role of ['provider', 'consumer'] as const) {
      for (const state of ['INITIAL', ...transferStates] as const) {
        for (const kind of kinds) {
          const target = transferProtocol.receives[role][state]?.[kind];
          const outcome = transition(at(role, state), { type: 'received', kind });
          expect(outcome.ok ? outcome.next.state : undefined, `${role} ${state} ${kind}`).toBe(target);
          if (target !== undefined) lawful += 1;
        }
      }
    }
    expect(lawful).toBe(14);
  });

  test('COMPLETED is reached only from STARTED, and is final', () => {
    expect(maySend(at('provider', 'STARTED'), 'completion')).toBe(true);
    for (const state of ['REQUESTED', 'SUSPENDED', 'COMPLETED', 'TERMINATED'] as const) {
      expect(maySend(at('provider', state), 'completion'), state).toBe(false);
    }
    expect(isFinal('COMPLETED')).toBe(true);
  });

  test('start in STARTED is refused: it never renews a token', () => {
    expect(transition(at('consumer', 'STARTED'), { type: 'received', kind: 'start' }).ok).toBe(false);
  });

  test('when messages cross, both sides let the stronger one win', () => {
    const completing = at('provider', 'STARTED', sending('completion', 'COMPLETED'));
    expect(transition(completing, { type: 'received', kind: 'suspension' }).ok).toBe(false);
    const suspending = at('consumer', 'STARTED', sending('suspension', 'SUSPENDED'));
    expect(transition(suspending, { type: 'received', kind: 'completion' })).toMatchObject({
      ok: true,
      next: { state: 'COMPLETED' },
    });
    expect(transition(completing, { type: 'received', kind: 'completion' })).toMatchObject({
      ok: true,
      next: { state: 'COMPLETED' },
    });
    const ending = at('consumer', 'STARTED', sending('termination', 'TERMINATED'));
    expect(transition(ending, { type: 'received', kind: 'completion' }).ok).toBe(false);
    expect(transition(completing, { type: 'received', kind: 'termination' })).toMatchObject({
      ok: true,
      next: { state: 'TERMINATED' },
    });
  });

  test('of two starts that cross, the one with the data address wins', () => {
    const provider = at('provider', 'SUSPENDED', sending('start', 'STARTED'));
    const consumer = at('consumer', 'SUSPENDED', sending('start', 'STARTED'));
    expect(transition(provider, { type: 'received', kind: 'start' }).ok).toBe(false);
    expect(transition(consumer, { type: 'received', kind: 'start' })).toMatchObject({
      ok: true,
      next: { state: 'STARTED', pending: null },
    });
  });

  test('a suspension while our start is under way proves that it arrived', () => {
    const starting = at('provider', 'SUSPENDED', sending('start', 'STARTED'));
    expect(transition(starting, { type: 'received', kind: 'suspension' })).toMatchObject({
      ok: true,
      next: { state: 'SUSPENDED', pending: null },
    });
  });
});
