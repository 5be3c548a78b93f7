import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type CompiledPolicy, compilePolicy, policyFaults } from './compile.ts';
import { decide } from './evaluate.ts';
import { explain } from './explain.ts';
import type { Facts, Moment } from './facts.ts';

const crisis = 'urn:stekker:1:purpose:crisis';
const now = Date.UTC(2026, 10, 23, 11);
const constraint = (leftOperand: string, operator: string, rightOperand: unknown) => ({
  leftOperand,
  operator,
  rightOperand,
});
const forCrisis = constraint('odrl:purpose', 'isAnyOf', [{ '@id': crisis }]);
const permit = (...constraints: object[]) => ({
  permission: [{ action: 'use', ...(constraints.length === 0 ? {} : { constraint: constraints }) }],
});

const compiled = (policy: unknown, moment: Moment = 'access', action = 'read'): CompiledPolicy => {
  const result = compilePolicy(policy, moment, action);
  if (!result.ok) throw new Error(JSON.stringify(result.faults));
  return result.policy;
};
const decision = (policy: unknown, facts: Facts = {}, moment: Moment = 'access', action = 'read') =>
  decide(compiled(policy, moment, action), facts);

describe('decisions', () => {
  test('what no permission covers is denied', () => {
    expect(decision(permit())).toBe(true);
    expect(decision(permit(), {}, 'access', 'transfer')).toBe(false);
    expect(decision({ permission: [{ action: 'odrl:display' }] })).toBe(false);
    expect(decision({ prohibition: [{ action: 'odrl:distribute' }] })).toBe(false);
  });

  test('actions match along what they are included in, under old and new names', () => {
    expect(decision({ permission: [{ action: 'odrl:read' }] })).toBe(true);
    expect(
      decision({ permission: [{ action: 'http://www.w3.org/ns/odrl/2/reproduce' }] }, {}, 'access', 'odrl:extract'),
    ).toBe(true);
    expect(decision({ permission: [{ action: 'odrl:copy' }] }, {}, 'access', 'odrl:reproduce')).toBe(true);
    expect(decision({ permission: [{ action: 'odrl:read' }] }, {}, 'access', 'use')).toBe(false);
  });

  test('deny overrides, and a prohibition of something else does not', () => {
    expect(decision({ ...permit(), prohibition: [{ action: 'odrl:distribute' }] })).toBe(true);
    expect(decision({ ...permit(), prohibition: [{ action: 'use' }] })).toBe(false);
    const notBefore = {
      ...permit(),
      prohibition: [{ action: 'use', constraint: [constraint('dateTime', 'lt', '2026-11-23T12:00:00Z')] }],
    };
    expect(decision(notBefore, { now })).toBe(false);
    expect(decision(notBefore, { now: now + 3_600_000 })).toBe(true);
  });

  test('permissions are alternatives', () => {
    const either = {
      permission: [
        ...permit(forCrisis).permission,
        ...permit(constraint('urn:stekker:1:role', 'isAnyOf', ['research'])).permission,
      ],
    };
    expect(decision(either, { purpose: crisis })).toBe(true);
    expect(decision(either, { role: ['research'] })).toBe(true);
    expect(decision(either, { role: ['other'], purpose: 'urn:x' })).toBe(false);
  });

  test('an absent fact never lets anybody through, not for neq and isNoneOf either', () => {
    expect(decision(permit(forCrisis))).toBe(false);
    expect(decision(permit(constraint('purpose', 'neq', 'urn:x')))).toBe(false);
    expect(decision(permit(constraint('purpose', 'isNoneOf', ['urn:x'])))).toBe(false);
    expect(decision(permit(constraint('purpose', 'isNoneOf', ['urn:x'])), { purpose: crisis })).toBe(true);
    expect(decision({ ...permit(), prohibition: [{ action: 'use', constraint: [forCrisis] }] })).toBe(false);
  });

  test.each<[string, Facts, boolean]>([
    ['lt', { now: now - 1 }, true],
    ['lt', { now }, false],
    ['lteq', { now }, true],
    ['lteq', { now: now + 1 }, false],
    ['gt', { now }, false],
    ['gt', { now: now + 1 }, true],
    ['gteq', { now }, true],
    ['gteq', { now: now - 1 }, false],
    ['eq', { now }, true],
    ['neq', { now }, false],
    ['neq', { now: now + 1 }, true],
  ])('dateTime %s at %j is %s', (operator, facts, expected) => {
    expect(
      decision(
        permit(constraint('odrl:dateTime', operator, { '@value': '2026-11-23T11:00:00Z', '@type': 'xsd:dateTime' })),
        facts,
      ),
    ).toBe(expected);
  });

  test('a date is midnight UTC at its start', () => {
    expect(decision(permit(constraint('dateTime', 'lt', '2026-11-24')), { now: Date.UTC(2026, 10, 23, 23, 59) })).toBe(
      true,
    );
    expect(
      decision(permit(constraint('dateTime', 'lteq', '2026-11-24')), { now: Date.UTC(2026, 10, 24, 0, 0, 1) }),
    ).toBe(false);
  });

  test('count allows exactly as many as it says', () => {
    const three = permit(constraint('odrl:count', 'lteq', { '@value': '3', '@type': 'xsd:integer' }));
    expect([0, 1, 2, 3].map((count) => decision(three, { count }))).toEqual([true, true, true, false]);
  });

  test.each<[string, unknown, Facts]>([
    ['urn:stekker:1:membership', 'did:web:broker.example', { membership: ['did:web:broker.example'] }],
    ['urn:stekker:1:role', 'runtime', { role: ['holder', 'runtime'] }],
    ['urn:stekker:1:accreditedFor', { '@id': crisis }, { accreditedFor: [crisis] }],
    [
      'urn:stekker:1:applicationVersion',
      'urn:stekker:1:app:evacuatie@1.0.0',
      { applicationVersion: 'urn:stekker:1:app:evacuatie@1.0.0' },
    ],
    ['urn:stekker:1:pricePlan', 'digest', { pricePlan: 'digest' }],
    ['odrl:recipient', 'did:web:c.example', { recipient: 'did:web:c.example' }],
  ])('%s is evaluated', (operand, value, facts) => {
    const policy = permit(constraint(operand, 'eq', value));
    expect(decision(policy, facts)).toBe(true);
    expect(decision(policy, Object.fromEntries(Object.keys(facts).map((name) => [name, ['other']])))).toBe(false);
  });

  test('logic: and, or, xone, andSequence with unknown parts', () => {
    const role = constraint('urn:stekker:1:role', 'eq', 'a');
    const both = (key: string) => permit({ [key]: [forCrisis, role] });
    expect(
      ['and', 'or', 'xone', 'andSequence'].map((key) => decision(both(key), { purpose: crisis, role: ['a'] })),
    ).toEqual([true, true, false, true]);
    expect(
      ['and', 'or', 'xone', 'andSequence'].map((key) => decision(both(key), { purpose: crisis, role: ['b'] })),
    ).toEqual([false, true, true, false]);
    expect(['and', 'or', 'xone', 'andSequence'].map((key) => decision(both(key), { purpose: crisis }))).toEqual([
      false,
      true,
      false,
      false,
    ]);
    expect(['and', 'or', 'xone', 'andSequence'].map((key) => decision(both(key), {}))).toEqual([
      false,
      false,
      false,
      false,
    ]);
  });
});

describe('moments', () => {
  test('a fact that comes later is left open, and asked for at its moment', () => {
    const policy = permit(forCrisis, constraint('urn:stekker:1:membership', 'eq', 'did:web:b.example'));
    expect(decision(policy, {}, 'catalog')).toBe(true);
    expect(decision(policy, {}, 'negotiation')).toBe(false);
    expect(decision(policy, { membership: ['did:web:b.example'] }, 'negotiation')).toBe(true);
    expect(decision(policy, { membership: ['did:web:b.example'] }, 'token')).toBe(false);
  });

  test('a prohibition on a later fact does not hide the offer, and applies at its moment', () => {
    const policy = {
      ...permit(),
      prohibition: [{ action: 'use', constraint: [constraint('purpose', 'eq', 'urn:x')] }],
    };
    expect(decision(policy, {}, 'catalog')).toBe(true);
    expect(decision(policy, { purpose: 'urn:x' }, 'token')).toBe(false);
    expect(decision(policy, {}, 'token')).toBe(false);
    const odd = {
      ...permit(),
      prohibition: [
        {
          action: 'use',
          constraint: [{ xone: [constraint('purpose', 'eq', 'urn:x'), constraint('dateTime', 'gt', '2000-01-01')] }],
        },
      ],
    };
    expect(decision(odd, { now }, 'catalog')).toBe(true);
    expect(decision(odd, { now, purpose: 'urn:y' }, 'token')).toBe(false);
  });

  test('an open part keeps an xone open unless two others hold already', () => {
    const time = (operator: string) => constraint('dateTime', operator, '2000-01-01');
    expect(decision(permit({ xone: [forCrisis, time('gt')] }), { now }, 'catalog')).toBe(true);
    expect(decision(permit({ xone: [forCrisis, time('gt'), time('gteq')] }), { now }, 'catalog')).toBe(false);
  });

  test('a price must be the agreed one', () => {
    const priced = {
      ...permit(),
      obligation: [{ action: 'odrl:compensate', constraint: [constraint('urn:stekker:1:pricePlan', 'eq', 'd')] }],
    };
    expect(decision(priced, {}, 'catalog')).toBe(true);
    expect(decision(priced, { pricePlan: 'd' })).toBe(true);
    expect(decision(priced, { pricePlan: 'other' })).toBe(false);
    expect(decision(priced, {})).toBe(false);
    expect(decision({ ...permit(), obligation: [{ action: 'odrl:attribute' }] })).toBe(true);
  });
});

describe('unknown terms', () => {
  test.each<[string, unknown, string]>([
    ['an operand', permit(constraint('urn:unknown:thing', 'eq', 'x')), 'urn:unknown:thing is not known here'],
    [
      'an operand of ODRL that we do not evaluate',
      permit(constraint('odrl:spatial', 'eq', 'x')),
      'odrl:spatial is not known here',
    ],
    ['an operator for an operand', permit(constraint('purpose', 'lt', 'x')), 'lt is not evaluated for odrl:purpose'],
    ['a value', permit(constraint('dateTime', 'lt', 'tomorrow')), 'odrl:dateTime has a value that cannot be read'],
    [
      'a list of values for a number',
      permit(constraint('count', 'lteq', ['1'])),
      'odrl:count has a value that cannot be read',
    ],
    ['a fraction', permit(constraint('count', 'lteq', '1.5')), 'odrl:count has a value that cannot be read'],
    ['two values for eq', permit(constraint('purpose', 'eq', ['a', 'b'])), 'eq takes one value'],
    ['a value without text', permit(constraint('purpose', 'eq', { '@value': 5 })), 'needs names as values'],
    ['an action', { permission: [{ action: 'urn:my:action' }] }, 'urn:my:action is no action that is known here'],
    ['a refinement', { permission: [{ action: 'use', refinement: [] }] }, 'refinement is not evaluated here'],
    [
      'a duty in a permission',
      { permission: [{ action: 'use', duty: [{ action: 'compensate' }] }] },
      'duty is not evaluated here',
    ],
    ['a conflict strategy', { ...permit(), conflict: 'perm' }, 'conflict is not evaluated here'],
    ['a unit', permit({ ...constraint('count', 'lteq', '5'), unit: 'x' }), 'unit is not evaluated here'],
    [
      'a duty that nobody can check',
      { ...permit(), obligation: [{ action: 'odrl:obtainConsent' }] },
      'whether odrl:obtainConsent was done cannot be checked here',
    ],
    [
      'a compensation without a plan',
      { ...permit(), obligation: [{ action: 'odrl:compensate' }] },
      'cannot be checked here',
    ],
    ['a form that is none', { permission: [] }, 'permission'],
    ['no policy', 'x', ''],
  ])('%s is refused and named', (_what, policy, message) => {
    const faults = policyFaults(policy);
    expect(faults.length).toBeGreaterThan(0);
    expect(JSON.stringify(faults)).toContain(message);
  });

  test('all of them at once', () => {
    const bad = permit(constraint('urn:a', 'eq', 'x'), { or: [constraint('urn:b', 'eq', 'x'), forCrisis] });
    expect(policyFaults(bad).map((fault) => fault.path)).toEqual([
      '/permission/0/constraint/0/leftOperand',
      '/permission/0/constraint/1/or/0/leftOperand',
    ]);
  });

  test('an empty policy and one of obligations only are refused', () => {
    expect(policyFaults({})).not.toEqual([]);
    expect(policyFaults({ obligation: [{ action: 'odrl:attribute' }] })).not.toEqual([]);
  });
});

describe('explanations', () => {
  test('name the rule that refused, in two languages', () => {
    const { permitted, reasons, missing } = explain(compiled(permit(forCrisis)), {
      purpose: 'urn:stekker:1:purpose:marketing',
    });
    expect(permitted).toBe(false);
    expect(reasons).toEqual([
      {
        nl: 'Voor het doel geldt: een van purpose:crisis; het is nu purpose:marketing.',
        en: 'For the purpose the rule is: one of purpose:crisis; it is now purpose:marketing.',
      },
    ]);
    expect(missing).toEqual([]);
  });

  test('name what is missing', () => {
    const { reasons, missing } = explain(compiled(permit(forCrisis, constraint('urn:stekker:1:role', 'eq', 'a'))), {
      role: ['b', 'c'],
    });
    expect(missing).toEqual(['purpose']);
    expect(reasons.map((reason) => reason.en)).toEqual([
      'Not known is the purpose; asked for is: one of purpose:crisis.',
      'For the role the rule is: equal to a; it is now b, c.',
    ]);
  });

  test('tell of prohibitions, of nothing that permits, of duties and of times', () => {
    expect(explain(compiled({ ...permit(), prohibition: [{ action: 'use' }] }), {}).reasons[0]?.en).toContain(
      'forbids odrl:use',
    );
    expect(explain(compiled({ permission: [{ action: 'odrl:display' }] }), {}).reasons[0]?.nl).toBe(
      'Geen regel van het beleid staat odrl:read toe.',
    );
    const priced = {
      ...permit(),
      obligation: [{ action: 'odrl:compensate', constraint: [constraint('urn:stekker:1:pricePlan', 'eq', 'd')] }],
    };
    expect(explain(compiled(priced), {}).reasons[0]?.en).toContain('the price plan');
    expect(
      explain(compiled(permit(constraint('dateTime', 'lt', '2026-01-01T00:00:00Z'))), { now }).reasons[0]?.en,
    ).toBe('For the time the rule is: before or below 2026-01-01T00:00:00Z; it is now 2026-11-23T11:00:00.000Z.');
  });

  test('a permitted access has each premise with its value, and no reason', () => {
    const { permitted, reasons, rules } = explain(
      compiled(permit(forCrisis, constraint('count', 'lteq', '5')), 'token'),
      { purpose: crisis },
    );
    expect([permitted, reasons]).toEqual([true, []]);
    expect(rules[0]?.premises.map((premise) => premise.state)).toEqual(['satisfied', 'later']);
  });
});

describe('properties', () => {
  const purposes = ['urn:a', 'urn:b', 'urn:c'];
  const atomic = fc.oneof(
    fc.record({
      leftOperand: fc.constant('purpose'),
      operator: fc.constantFrom('eq', 'neq'),
      rightOperand: fc.constantFrom(...purposes),
    }),
    fc.record({
      leftOperand: fc.constant('purpose'),
      operator: fc.constantFrom('isAnyOf', 'isNoneOf'),
      rightOperand: fc.subarray(purposes, { minLength: 1 }),
    }),
    fc.record({
      leftOperand: fc.constant('urn:stekker:1:role'),
      operator: fc.constantFrom('eq', 'isAnyOf'),
      rightOperand: fc.constantFrom(...purposes),
    }),
    fc.record({
      leftOperand: fc.constant('count'),
      operator: fc.constantFrom('lt', 'lteq', 'gt', 'gteq', 'eq', 'neq'),
      rightOperand: fc.nat(4).map(String),
    }),
  );
  const nested = fc.oneof(
    atomic,
    fc
      .record({
        key: fc.constantFrom('and', 'or', 'xone', 'andSequence'),
        parts: fc.array(atomic, { minLength: 1, maxLength: 3 }),
      })
      .map(({ key, parts }) => ({ [key]: parts })),
  );
  const rule = fc.record({
    action: fc.constantFrom('use', 'odrl:read', 'odrl:distribute'),
    constraint: fc.array(nested, { minLength: 1, maxLength: 3 }),
  });
  const policy = fc.record({
    permission: fc.array(rule, { minLength: 1, maxLength: 3 }),
    prohibition: fc.array(rule, { minLength: 1, maxLength: 2 }),
  });
  const facts: fc.Arbitrary<Facts> = fc.record(
    { purpose: fc.constantFrom(...purposes), role: fc.subarray(purposes, { minLength: 1 }), count: fc.nat(4) },
    { requiredKeys: [] },
  );

  test('an extra constraint on a permission, or an extra prohibition, never turns deny into allow', () => {
    fc.assert(
      fc.property(policy, rule, nested, facts, (its, extra, more, known) => {
        if (decision(its, known)) return;
        expect(decision({ ...its, prohibition: [...its.prohibition, extra] }, known)).toBe(false);
        expect(
          decision(
            { ...its, permission: its.permission.map((one) => ({ ...one, constraint: [...one.constraint, more] })) },
            known,
          ),
        ).toBe(false);
      }),
      { numRuns: 2_000 },
    );
  });

  test('taking a fact away never turns deny into allow', () => {
    fc.assert(
      fc.property(policy, facts, fc.constantFrom('purpose', 'role', 'count'), (its, known, name) => {
        if (decision(its, known)) return;
        expect(decision(its, Object.fromEntries(Object.entries(known).filter(([key]) => key !== name)))).toBe(false);
      }),
      { numRuns: 2_000 },
    );
  });

  test('decision and explanation agree, and a refusal has a reason', () => {
    fc.assert(
      fc.property(policy, facts, (its, known) => {
        const { permitted, reasons } = explain(compiled(its), known);
        expect(permitted).toBe(decision(its, known));
        expect(reasons.length === 0).toBe(permitted);
      }),
      { numRuns: 2_000 },
    );
  });
});
