import { describe, expect, test } from 'vitest';
import { compilePolicy, policyFaults } from './compile.ts';
import { decide } from './evaluate.ts';
import { isOver, overAfter } from './over.ts';

const edc = 'https://w3id.org/edc/v0.0.1/ns/inForceDate';
const agreedAt = Date.parse('2026-11-26T10:00:00Z');

/** As EDC writes a term of thirty seconds: its own bare word, in a list of one conjunction. */
const thirtySeconds = {
  permission: [
    {
      action: 'use',
      constraint: [
        {
          and: [
            { leftOperand: 'inForceDate', operator: 'gteq', rightOperand: 'contractAgreement+0s' },
            { leftOperand: 'inForceDate', operator: 'lteq', rightOperand: 'contractAgreement+30s' },
          ],
        },
      ],
    },
  ],
};

const until = (leftOperand: string, rightOperand: string) => ({
  permission: [{ action: 'use', constraint: [{ leftOperand, operator: 'lteq', rightOperand }] }],
});

describe('the term of an agreement', () => {
  test.each([
    [-1, false],
    [0, true],
    [30_000, true],
    [30_001, false],
  ])('at %i ms behind the agreement a use is permitted: %s', (ms, permitted) => {
    const compiled = compilePolicy(thirtySeconds, 'access');
    if (!compiled.ok) throw new Error(JSON.stringify(compiled.faults));
    expect(decide(compiled.policy, { now: agreedAt + ms, agreedAt })).toBe(permitted);
    expect(decide(compiled.policy, { now: agreedAt + ms })).toBe(false);
    expect(isOver(thirtySeconds, { now: agreedAt + ms, agreedAt })).toBe(!permitted);
  });

  test('is not asked for before there is an agreement', () => {
    for (const moment of ['catalog', 'negotiation'] as const) {
      const compiled = compilePolicy(thirtySeconds, moment);
      expect(compiled.ok && decide(compiled.policy, { now: agreedAt })).toBe(true);
    }
  });

  test.each([
    ['a number of days', until(edc, 'contractAgreement+2d'), agreedAt + 172_800_000],
    ['an instant', until(edc, '2026-12-01T00:00:00Z'), Date.parse('2026-12-01T00:00:00Z')],
    ['the time of use', until('dateTime', '2026-12-01T00:00:00Z'), Date.parse('2026-12-01T00:00:00Z')],
    ['a term with a begin', thirtySeconds, agreedAt + 30_000],
    ['no time', { permission: [{ action: 'use' }] }, undefined],
    [
      'a second permission without an end',
      { permission: [...until(edc, 'contractAgreement+1h').permission, { action: 'use' }] },
      undefined,
    ],
    [
      'a second permission that begins later',
      {
        permission: [
          ...until(edc, 'contractAgreement+1h').permission,
          { action: 'use', constraint: [{ leftOperand: edc, operator: 'gt', rightOperand: 'contractAgreement+2h' }] },
        ],
      },
      undefined,
    ],
    ['what cannot be evaluated', until('urn:odd', 'x'), undefined],
  ])('%s ends when it says', (_what, rules, end) => {
    expect(overAfter(rules, agreedAt)).toBe(end);
  });

  test.each(['contractAgreement', 'contractAgreement+', 'contractAgreement+1y', 'contractAgreement-1s', 'soon'])(
    '%s is no term',
    (value) => {
      expect(policyFaults(until(edc, value))).toEqual([
        expect.objectContaining({ message: expect.stringContaining('cannot be read') }),
      ]);
    },
  );
});
