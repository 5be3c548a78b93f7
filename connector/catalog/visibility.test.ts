import { describe, expect, test } from 'vitest';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Offer } from './ports.ts';
import { createVisibility } from './visibility.ts';

const us = 'us' as ParticipantId;
const known = 'did:web:known.example' as Did;
const plain = 'did:web:plain.example' as Did;
const at = Date.parse('2026-11-26T12:00:00Z');
const { viewer, sees, showing } = createVisibility({ canCosign: async (_participant, caller) => caller === known });
const offer = (id: string, rules: Offer['rules'], assurance: Offer['assurance'] = 'cosigned'): Offer => ({
  participant: us,
  id,
  asset: 'a',
  rules,
  assurance,
  price: '',
  silence: 'strict',
  createdAt: 0,
  withdrawnAt: null,
});
const recipient = (name: string) => ({ leftOperand: 'recipient', operator: 'eq', rightOperand: name });
const until = { leftOperand: 'dateTime', operator: 'lt', rightOperand: '2026-11-26T13:00:00Z' };

describe('visibility', () => {
  test('a cosigned offer is hidden from whoever knows no extensions', async () => {
    const open = { permission: [{ action: 'use' }] };
    expect(sees(await viewer(us, known), offer('1', open), at)).toBe(true);
    expect(sees(await viewer(us, plain), offer('2', open), at)).toBe(false);
    expect(sees(await viewer(us, plain), offer('3', open, 'plain-dsp'), at)).toBe(true);
  });

  test('a policy is asked with the caller and the time, and what cannot be evaluated shows nothing', async () => {
    const rules = { permission: [{ action: 'use', constraint: [recipient(known), until] }] };
    const us1 = await viewer(us, known);
    expect(sees(us1, offer('4', rules), at)).toBe(true);
    expect(sees(us1, offer('4', rules), at + 3_600_000)).toBe(false);
    expect(sees({ did: plain, canCosign: true }, offer('4', rules), at)).toBe(false);
    const unknown = { permission: [{ action: 'use', constraint: [{ ...until, leftOperand: 'urn:x' }] }] };
    expect(sees(us1, offer('5', unknown), at)).toBe(false);
    expect(showing(unknown, at)).toEqual({ readers: [], turnsAt: null });
  });

  test('tells whom an offer is shown to, and until when that holds', () => {
    const named = { permission: [{ action: 'use', constraint: [recipient(known), until] }] };
    expect(showing(named, at)).toEqual({ readers: [known], turnsAt: at + 3_600_000 });
    expect(showing(named, at + 3_600_000)).toEqual({ readers: [], turnsAt: at + 3_600_001 });
    expect(showing({ permission: [{ action: 'use' }] }, at)).toEqual({ readers: [''], turnsAt: null });
  });
});
