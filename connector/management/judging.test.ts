import { describe, expect, test } from 'vitest';
import { judgeOffer } from './judging.pure.ts';

const rule = (leftOperand: string, rightOperand: string) => ({
  action: 'use',
  constraint: [{ leftOperand, operator: 'eq', rightOperand }],
});
const crisis = 'urn:stekker:1:purpose:crisis';
const forCrisis = { permission: [rule('odrl:purpose', crisis)] };

describe('judging an offer', () => {
  test('it fits when the engine permits it', () => {
    expect(judgeOffer({ permission: [{ action: 'use' }] }, {})).toEqual({ verdict: 'fits', reasons: [], missing: [] });
    expect(judgeOffer(forCrisis, { purpose: crisis }).verdict).toBe('fits');
  });

  test('it depends while something is not known that could still fit, and says what', () => {
    const { verdict, reasons, missing } = judgeOffer(forCrisis, {});
    expect(verdict).toBe('depends');
    expect(missing).toEqual(['purpose']);
    expect(reasons[0]?.nl).toContain('Niet bekend is het doel');
    expect(reasons[0]?.en).toContain('Not known is the purpose');
  });

  test('it is refused when something is known and does not fit, whatever else is unknown', () => {
    const both = {
      permission: [
        {
          ...forCrisis.permission[0],
          constraint: [
            ...(forCrisis.permission[0]?.constraint ?? []),
            { leftOperand: 'urn:stekker:1:accreditedFor', operator: 'eq', rightOperand: crisis },
          ],
        },
      ],
    };
    const { verdict, reasons } = judgeOffer(both as never, { purpose: 'urn:stekker:1:purpose:marketing' });
    expect(verdict).toBe('refused');
    expect(reasons.map(({ en }) => en).join(' ')).toContain('purpose:marketing');
  });

  test('one alternative that is open keeps it open', () => {
    const either = {
      permission: [rule('odrl:purpose', crisis), rule('urn:stekker:1:membership', 'did:web:b.example')],
    };
    expect(judgeOffer(either, { purpose: 'urn:other' }).verdict).toBe('depends');
    expect(judgeOffer(either, { purpose: 'urn:other', membership: [] }).verdict).toBe('refused');
  });

  test('a prohibition that applies refuses it', () => {
    const closed = { permission: [{ action: 'use' }], prohibition: [{ action: 'use' }] };
    expect(judgeOffer(closed, {}).verdict).toBe('refused');
  });

  test('a term that cannot be judged refuses it and is named, in two languages', () => {
    const { verdict, reasons } = judgeOffer({ permission: [rule('urn:unheard', 'x')] }, {});
    expect(verdict).toBe('refused');
    expect(reasons[0]?.nl).toContain('kan hier niet worden beoordeeld');
    expect(reasons[0]?.en).toContain('urn:unheard is not known here');
  });
});
