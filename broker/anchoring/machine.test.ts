import { describe, expect, test } from 'vitest';
import { type AnchorEvent, isOver, transition } from './machine.ts';
import type { AnchorRow, AnchorState } from './ports.ts';

const hash = (byte: number) => `0x${byte.toString(16).padStart(2, '0').repeat(32)}`;
const call = { size: 5, root: hash(5), previousRoot: hash(0), nonce: 7, gas: 50_000 };
const attempt = { hash: hash(9), maxFee: '3000000000', tip: '1000000000', at: 1 };
const place = { transaction: hash(9), blockNumber: 12, blockHash: hash(8) };
const evidence = {
  anchor: {
    kind: 'evm' as const,
    chainId: '1',
    contract: `0x${'ab'.repeat(20)}`,
    header: '',
    key: '',
    nodes: ['AA=='],
    logIndex: '0',
    later: null,
  },
  blockTime: 1,
};

const inBlock = (state: AnchorState) => state === 'mined' || state === 'safe' || state === 'final';

const rowIn = (state: AnchorState, changes: Partial<AnchorRow> = {}): AnchorRow => ({
  origin: 'broker.example/log/2026',
  chainId: '1',
  contract: `0x${'ab'.repeat(20)}`,
  size: 5,
  root: hash(5),
  note: 'a note',
  state,
  sender: `0x${'01'.repeat(20)}`,
  call: state === 'queued' ? null : call,
  attempts: state === 'queued' ? [] : [attempt],
  place: inBlock(state) ? place : null,
  evidence: state === 'final' ? evidence : null,
  reason: '',
  createdAt: 1,
  updatedAt: 1,
  version: 1,
  ...changes,
});

const events: Readonly<Record<AnchorEvent['type'], AnchorEvent>> = {
  assigned: { type: 'assigned', call, attempt },
  repriced: { type: 'repriced', attempt: { ...attempt, hash: hash(10) } },
  found: { type: 'found', place, depth: 'mined' },
  proven: { type: 'proven', place, evidence },
  absent: { type: 'absent' },
  displaced: { type: 'displaced' },
  superseded: { type: 'superseded', reason: 'size 9 is anchored' },
  forbidden: { type: 'forbidden', reason: 'closed' },
};

const states: readonly AnchorState[] = ['queued', 'submitted', 'mined', 'safe', 'final', 'replaced', 'refused'];

/** What each event leads to from each state; what is not here means nothing. */
const table: Readonly<Record<AnchorEvent['type'], Partial<Record<AnchorState, string>>>> = {
  assigned: { queued: 'submitted send' },
  repriced: { submitted: 'submitted send' },
  found: { queued: 'mined', submitted: 'mined', mined: 'mined', safe: 'mined' },
  proven: { queued: 'final', submitted: 'final', mined: 'final', safe: 'final' },
  absent: { submitted: 'submitted send', mined: 'submitted send', safe: 'submitted send' },
  displaced: { submitted: 'queued', mined: 'queued', safe: 'queued' },
  superseded: { queued: 'replaced' },
  forbidden: { queued: 'refused stop' },
};

describe('anchor machine', () => {
  test('every event in every state leads where the table says, and nowhere else', () => {
    let moves = 0;
    for (const event of Object.values(events)) {
      for (const state of states) {
        const step = transition(rowIn(state), event);
        const said = step && [step.row.state, ...step.effects].join(' ');
        expect(said, `${event.type} in ${state}`).toBe(table[event.type][state]);
        if (step !== undefined) moves += 1;
      }
    }
    expect(moves).toBe(18);
  });

  test('an end is never left, whatever happens', () => {
    for (const state of ['final', 'replaced', 'refused'] as const) {
      expect(isOver({ state })).toBe(true);
      for (const event of Object.values(events)) expect(transition(rowIn(state), event)).toBeUndefined();
    }
  });

  test('only a proof makes it final, and the proof is kept', () => {
    expect(transition(rowIn('safe'), events.proven)?.row).toMatchObject({ state: 'final', evidence, place });
    for (const event of Object.values(events))
      for (const state of states)
        if (event.type !== 'proven' && state !== 'final')
          expect(transition(rowIn(state), event)?.row.state, `${event.type} in ${state}`).not.toBe('final');
  });

  test('a nonce is never changed while its transaction may still come', () => {
    for (const state of ['submitted', 'mined', 'safe'] as const)
      for (const event of [events.absent, events.repriced, events.found, events.assigned])
        expect(transition(rowIn(state), event)?.row.call ?? call).toEqual(call);
    expect(transition(rowIn('submitted'), events.repriced)?.row.attempts).toHaveLength(2);
  });

  test('a nonce that went to something else is forgotten with its transactions', () => {
    const gone = { call: null, attempts: [], place: null };
    expect(transition(rowIn('mined'), events.displaced)?.row).toMatchObject(gone);
  });

  test('what somebody else anchored and a re-org took away is queued: there is nothing of ours to send', () => {
    const others = rowIn('mined', { call: null, attempts: [] });
    const step = transition(others, events.absent);
    expect(step).toMatchObject({ row: { state: 'queued', place: null }, effects: [] });
  });
});
