import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Json, JsonObject } from '../contracts/json.ts';
import { compilePolicy, policyFaults } from './compile.ts';
import { decide } from './evaluate.ts';
import type { Facts } from './facts.ts';
import { counterOffer, outsideMandate, refines } from './negotiate.ts';

const crisis = 'urn:stekker:1:purpose:crisis';
const research = 'urn:stekker:1:purpose:research';
const constraint = (leftOperand: string, operator: string, rightOperand: Json) => ({
  leftOperand,
  operator,
  rightOperand,
});
const number = (value: number) => ({ '@value': String(value), '@type': 'xsd:integer' });
const permit = (...constraints: JsonObject[]): JsonObject => ({
  permission: [{ action: 'use', ...(constraints.length === 0 ? {} : { constraint: constraints }) }],
});
const until = (day: string) => constraint('odrl:dateTime', 'lteq', `2026-12-${day}T00:00:00Z`);
const price = (digest: string): JsonObject => ({
  action: 'odrl:compensate',
  constraint: [constraint('urn:stekker:1:pricePlan', 'eq', digest)],
});

const countered = (asked: JsonObject, limit: JsonObject) => {
  const result = counterOffer(asked, limit);
  if (!result.ok) throw new Error(JSON.stringify(result.reasons));
  return result.counter;
};

describe('counter-offers', () => {
  test('what lies within the limit needs none: nothing is added to it', () => {
    const asked = permit(constraint('odrl:purpose', 'eq', crisis), until('10'));
    const limit = permit(constraint('odrl:purpose', 'isAnyOf', [crisis, research]), until('31'));
    expect(refines(asked, limit)).toBe(true);
    expect(countered(asked, limit)).toMatchObject({ rules: asked, terms: [], distance: 0 });
  });

  test('a term that goes too far is narrowed, a missing one added, each said in two languages', () => {
    const asked = permit(until('31'));
    const limit = permit(until('10'), constraint('odrl:purpose', 'eq', crisis));
    const { rules, terms } = countered(asked, limit);
    expect(rules).toEqual(permit(until('10'), constraint('odrl:purpose', 'eq', crisis)));
    expect(terms.map(({ en }) => en)).toEqual([
      'Narrowed: for the time you asked at most 2026-12-31T00:00:00Z; we offer at most 2026-12-10T00:00:00Z.',
      'Added: you set no term for the purpose; we require: equal to purpose:crisis.',
    ]);
    expect(terms[0]?.nl).toContain('Beperkt: u vroeg voor het tijdstip ten hoogste');
  });

  test('what cannot hold together with the limit is refused and named', () => {
    const result = counterOffer(
      permit(constraint('odrl:purpose', 'eq', research)),
      permit(constraint('odrl:purpose', 'eq', crisis)),
    );
    expect(result).toEqual({
      ok: false,
      reasons: [
        {
          en: 'Refused: for the purpose you asked equal to purpose:research; we only allow equal to purpose:crisis.',
          nl: 'Niet mogelijk: u vroeg voor het doel gelijk aan purpose:research; wij staan alleen gelijk aan purpose:crisis toe.',
        },
      ],
    });
    expect(counterOffer({ permission: [{ action: 'odrl:transfer' }] }, permit())).toMatchObject({ ok: false });
  });

  test('prohibitions and duties of the limit are never dropped, and no other duty is taken over', () => {
    const limit = {
      ...permit(until('31')),
      prohibition: [{ action: 'odrl:distribute' }],
      obligation: [price('digest-of-the-plan')],
    };
    const asked = { ...permit(until('10')), obligation: [{ action: 'odrl:attribute' }] };
    const { rules, terms } = countered(asked, limit);
    expect(rules).toEqual({ ...permit(until('10')), prohibition: limit.prohibition, obligation: limit.obligation });
    expect(terms).toHaveLength(3);
    expect(refines(asked, limit)).toBe(false);
    expect(refines(rules, limit)).toBe(true);
  });

  test('an unknown term is answered with its name, and never with an offer that leaves it out', () => {
    const asked = permit(constraint('odrl:spatial', 'eq', 'urn:nl'));
    expect(counterOffer(asked, permit())).toMatchObject({
      ok: false,
      reasons: [{ en: expect.stringContaining('spatial') }],
    });
    expect(refines(asked, permit())).toBe(false);
  });

  test('"none of" says nothing about facts with several values', () => {
    const asked = permit(constraint('urn:stekker:1:role', 'eq', 'research'));
    const limit = permit(constraint('urn:stekker:1:role', 'isNoneOf', ['advertiser']));
    expect(refines(asked, limit)).toBe(false); // somebody may be both
    const single = constraint('odrl:purpose', 'isNoneOf', [research]);
    expect(refines(permit(constraint('odrl:purpose', 'eq', crisis)), permit(single))).toBe(true);
  });
});

describe('mandates', () => {
  const mandate = {
    least: {
      ...permit(constraint('odrl:purpose', 'eq', crisis), until('10')),
      prohibition: [{ action: 'odrl:read', constraint: [until('01')] }],
      obligation: [{ action: 'odrl:attribute' }],
    },
    prices: ['cheap'],
  };

  test('an offer that gives what is needed and asks no more than is allowed lies inside', () => {
    expect(outsideMandate(permit(), mandate)).toEqual([]);
    const offer = {
      ...permit(constraint('odrl:purpose', 'isAnyOf', [crisis, research])),
      prohibition: [{ action: 'odrl:sell' }, { action: 'odrl:read', constraint: [until('01')] }],
      obligation: [{ action: 'odrl:attribute' }, price('cheap')],
    };
    expect(outsideMandate(offer, mandate)).toEqual([]);
  });

  test.each([
    ['less is permitted', permit(until('09')), 'does not permit what is needed'],
    [
      'something needed is forbidden',
      { ...permit(), prohibition: [{ action: 'use', constraint: [until('05')] }] },
      'prohibition',
    ],
    ['another duty', { ...permit(), obligation: [{ action: 'odrl:inform' }] }, 'obligation odrl:inform'],
    ['another price', { ...permit(), obligation: [price('dear')] }, 'price plan'],
    ['two prices, of which one is allowed', { ...permit(), obligation: [price('cheap'), price('dear')] }, 'price plan'],
    ['a term that nobody here can judge', permit(constraint('odrl:spatial', 'eq', 'urn:nl')), 'cannot be judged'],
  ])('%s: outside, and why', (_what, offer, why) => {
    expect(
      outsideMandate(offer, mandate)
        .map(({ en }) => en)
        .join(' '),
    ).toContain(why);
  });
});

const names = ['a', 'b', 'c'];
const term = fc.oneof(
  fc
    .tuple(
      fc.constantFrom('odrl:purpose', 'urn:stekker:1:role'),
      fc.constantFrom('isAnyOf', 'isNoneOf'),
      fc.subarray(names, { minLength: 1 }),
    )
    .map(([left, operator, values]) => constraint(left, operator, values)),
  fc
    .tuple(fc.constantFrom('lt', 'lteq', 'gt', 'gteq', 'eq', 'neq'), fc.integer({ min: 1, max: 4 }))
    .map(([operator, value]) => constraint('odrl:count', operator, number(value))),
);
const terms = fc.oneof(
  { weight: 3, arbitrary: term },
  { weight: 1, arbitrary: fc.array(term, { minLength: 1, maxLength: 3 }).map((list) => ({ or: list })) },
  { weight: 1, arbitrary: fc.array(term, { minLength: 1, maxLength: 2 }).map((list) => ({ and: list })) },
  { weight: 1, arbitrary: fc.array(term, { minLength: 2, maxLength: 2 }).map((list) => ({ xone: list })) },
);
const rule = fc
  .tuple(fc.constantFrom('use', 'odrl:read', 'odrl:distribute', 'odrl:extract'), fc.array(terms, { maxLength: 3 }))
  .map(([action, list]) => ({ action, ...(list.length === 0 ? {} : { constraint: list }) }));
const policy = fc
  .tuple(fc.array(rule, { minLength: 1, maxLength: 3 }), fc.array(rule, { maxLength: 2 }))
  .map(
    ([permission, prohibition]) => ({ permission, ...(prohibition.length === 0 ? {} : { prohibition }) }) as JsonObject,
  );

const everyone: readonly Facts[] = [undefined, ...names].flatMap((purpose) =>
  [undefined, [], ['a'], ['b', 'c'], ['a', 'b', 'c']].flatMap((role) =>
    [undefined, 0, 1, 2, 3, 4].map((count) => ({
      ...(purpose === undefined ? {} : { purpose }),
      ...(role === undefined ? {} : { role }),
      ...(count === undefined ? {} : { count }),
    })),
  ),
);
const actions = ['use', 'odrl:read', 'odrl:distribute', 'odrl:extract'];
/** Every request that a policy lets through, of all there are. */
const allowed = (rules: JsonObject, action: string): readonly boolean[] => {
  const compiled = compilePolicy(rules, 'access', action);
  if (!compiled.ok) throw new Error(JSON.stringify(compiled.faults));
  return everyone.map((facts) => decide(compiled.policy, facts));
};
const gives = (inner: JsonObject, outer: JsonObject): boolean =>
  actions.every((action) => {
    const limit = allowed(outer, action);
    return allowed(inner, action).every((granted, index) => !granted || limit[index] === true);
  });
const runs = { numRuns: 3_000, seed: 20_261_126 };

describe('properties of counter-offers', () => {
  test('"refines" is sound: what the one lets through, the other does, on every request', () => {
    let seen = 0;
    fc.assert(
      fc.property(policy, policy, (a, b) => {
        if (!refines(a, b)) return true;
        seen += 1;
        return gives(a, b);
      }),
      runs,
    );
    expect(seen).toBeGreaterThan(20);
  });

  test('a counter-offer never exceeds the limit nor what was asked for, and is inside the limit by our own word', () => {
    let seen = 0;
    fc.assert(
      fc.property(policy, policy, (asked, limit) => {
        const result = counterOffer(asked, limit);
        if (!result.ok) return result.reasons.length > 0;
        seen += 1;
        const { rules } = result.counter;
        return policyFaults(rules).length === 0 && gives(rules, limit) && gives(rules, asked) && refines(rules, limit);
      }),
      runs,
    );
    expect(seen).toBeGreaterThan(500);
  });

  test('the first counter-offer lets through what both let through, where nothing was beyond comparing', () => {
    const plain = fc.array(rule, { minLength: 1, maxLength: 2 }).map((permission) => ({ permission }) as JsonObject);
    const isClear = (rules: JsonObject) => !JSON.stringify(rules).includes('xone');
    let seen = 0;
    fc.assert(
      fc.property(plain, plain, (asked, limit) => {
        const result = counterOffer(asked, limit);
        if (!result.ok || !isClear(asked) || !isClear(limit)) return true;
        seen += 1;
        return actions.every((action) => {
          const [mine, theirs] = [allowed(asked, action), allowed(limit, action)];
          return allowed(result.counter.rules, action).every(
            (granted, index) => granted === (mine[index] && theirs[index]),
          );
        });
      }),
      runs,
    );
    expect(seen).toBeGreaterThan(500);
  });

  test('what lies inside a mandate gives what the mandate needs, on every request', () => {
    let seen = 0;
    fc.assert(
      fc.property(policy, policy, (offer, needed) => {
        const { permission = [] } = needed;
        const least = { permission };
        if (outsideMandate(offer, { least, prices: [] }).length > 0) return true;
        seen += 1;
        return actions.every((action) => {
          const given = allowed(offer, action);
          return allowed(least, action).every((wanted, index) => !wanted || given[index] === true);
        });
      }),
      runs,
    );
    expect(seen).toBeGreaterThan(20);
  });
});
