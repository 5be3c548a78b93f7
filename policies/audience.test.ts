import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { audienceOf } from './audience.ts';
import { compilePolicy } from './compile.ts';
import { decide } from './evaluate.ts';

const compile = (rules: unknown) => {
  const compiled = compilePolicy(rules, 'catalog');
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.faults));
  return compiled.policy;
};
const at = Date.parse('2026-11-26T12:00:00Z');
const only = (names: readonly string[]) => ({
  permission: [
    { action: 'use', constraint: [{ leftOperand: 'recipient', operator: 'isAnyOf', rightOperand: [...names] }] },
  ],
});

describe('audience of a policy', () => {
  test('of one that asks nothing yet is everybody, for ever', () => {
    expect(audienceOf(compile({ permission: [{ action: 'use' }] }), at)).toEqual({
      isOpen: true,
      named: [],
      turnsAt: null,
    });
    const later = { leftOperand: 'urn:stekker:1:membership', operator: 'eq', rightOperand: 'did:web:b.example' };
    expect(audienceOf(compile({ permission: [{ action: 'use', constraint: [later] }] }), at).isOpen).toBe(true);
  });

  test('of one that names its recipients is those', () => {
    expect(audienceOf(compile(only(['did:web:a.example', 'did:web:b.example'])), at)).toEqual({
      isOpen: false,
      named: ['did:web:a.example', 'did:web:b.example'],
      turnsAt: null,
    });
  });

  test('of one that shuts somebody out is everybody but the named', () => {
    const rules = {
      permission: [{ action: 'use' }],
      prohibition: [
        {
          action: 'use',
          constraint: [{ leftOperand: 'recipient', operator: 'eq', rightOperand: 'did:web:a.example' }],
        },
      ],
    };
    expect(audienceOf(compile(rules), at)).toEqual({ isOpen: true, named: [], turnsAt: null });
  });

  test('turns at the instants that the policy names', () => {
    const until = { leftOperand: 'dateTime', operator: 'lteq', rightOperand: '2026-11-26T12:00:00Z' };
    const policy = compile({ permission: [{ action: 'use', constraint: [until] }] });
    expect(audienceOf(policy, at - 1)).toMatchObject({ isOpen: true, turnsAt: at });
    expect(audienceOf(policy, at)).toMatchObject({ isOpen: true, turnsAt: at + 1 });
    expect(audienceOf(policy, at + 1)).toMatchObject({ isOpen: false, turnsAt: null });
  });

  const people = ['did:web:a.example', 'did:web:b.example', 'did:web:c.example', 'did:web:d.example'];
  const name = fc.constantFrom('did:web:a.example', 'did:web:b.example', 'somebody else');
  const instant = fc.integer({ min: -3, max: 3 }).map((offset) => new Date(at + offset).toISOString());
  const { constraint } = fc.letrec<{ constraint: unknown; atom: unknown }>((tie) => ({
    atom: fc.oneof(
      fc.record({
        leftOperand: fc.constant('recipient'),
        operator: fc.constantFrom('eq', 'neq', 'isA'),
        rightOperand: name,
      }),
      fc.record({
        leftOperand: fc.constant('recipient'),
        operator: fc.constantFrom('isAnyOf', 'isNoneOf'),
        rightOperand: fc.array(name, { minLength: 1, maxLength: 3 }),
      }),
      fc.record({
        leftOperand: fc.constant('dateTime'),
        operator: fc.constantFrom('lt', 'lteq', 'gt', 'gteq', 'eq', 'neq'),
        rightOperand: instant,
      }),
      fc.constant({ leftOperand: 'urn:stekker:1:role', operator: 'eq', rightOperand: 'holder' }),
    ),
    constraint: fc.oneof(
      { depthSize: 'small' },
      tie('atom'),
      fc
        .tuple(fc.constantFrom('and', 'or', 'xone'), fc.array(tie('constraint'), { minLength: 1, maxLength: 3 }))
        .map(([kind, parts]) => ({ [kind]: parts })),
    ),
  }));
  const rule = fc.record({
    action: fc.constant('use'),
    constraint: fc.array(constraint, { minLength: 1, maxLength: 2 }),
  });
  const rules = fc.record(
    {
      permission: fc.array(rule, { minLength: 1, maxLength: 2 }),
      prohibition: fc.array(rule, { minLength: 1, maxLength: 2 }),
    },
    { requiredKeys: ['permission'] },
  );

  test('is exactly who is let through, until it turns', () => {
    fc.assert(
      fc.property(rules, fc.integer({ min: -4, max: 4 }), (its, offset) => {
        const policy = compile(its);
        const now = at + offset;
        const { isOpen, named, turnsAt } = audienceOf(policy, now);
        for (const recipient of people) {
          const isNamed = JSON.stringify(its).includes(recipient);
          const expected = isNamed ? named.includes(recipient) : isOpen;
          for (let time = now; time < (turnsAt ?? now + 9); time += 1)
            expect(decide(policy, { now: time, recipient })).toBe(expected);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
