import type { Fault } from '../contracts/errors.ts';
import { odrlNamespace } from '../contracts/odrl/policy.ts';
import { type Facts, type Moment, moments, type Truth } from './facts.ts';
import { type ConstraintNode, type PolicyNode, parsePolicy, type RuleNode } from './parse.ts';
import { actionsAbove, currentAction, dutiesAfter, shortName } from './terms.ts';

/** From parsed rules to closures, once for each policy and moment (odrl §5). */

type Test = (facts: Facts) => Truth;

/** A rule that concerns the requested action, with its test. */
export interface CompiledRule {
  readonly node: RuleNode;
  readonly test: Test;
}

export interface CompiledPolicy {
  readonly moment: Moment;
  /** Full IRI of what is asked for. */
  readonly action: string;
  readonly permissions: readonly CompiledRule[];
  readonly prohibitions: readonly CompiledRule[];
  /** What must be met before: nothing else blocks. */
  readonly duties: readonly CompiledRule[];
}

export type Compiled =
  | { readonly ok: true; readonly policy: CompiledPolicy }
  | { readonly ok: false; readonly faults: readonly Fault[] };

/** Whether the fact of an operand is known only after this moment: then it is left open, and asked for later. */
const isLater = (node: ConstraintNode, moment: Moment): boolean =>
  node.kind === 'atomic' && moments.indexOf(node.operand.from) > moments.indexOf(moment);

const all = (values: readonly Test[]): Test => {
  const [only] = values;
  if (values.length === 1 && only !== undefined) return only;
  return (facts) => {
    let result: Truth = 'satisfied';
    for (const test of values) {
      const value = test(facts);
      if (value === 'unsatisfied') return 'unsatisfied';
      if (value === 'unknown') result = 'unknown';
    }
    return result;
  };
};

const any =
  (values: readonly Test[]): Test =>
  (facts) => {
    let result: Truth = 'unsatisfied';
    for (const test of values) {
      const value = test(facts);
      if (value === 'satisfied') return 'satisfied';
      if (value === 'unknown') result = 'unknown';
    }
    return result;
  };

/** What one more part makes of an xone: two satisfied can never become one again (odrl §3.1). */
const counted = (before: Truth | 'two', value: Truth): Truth | 'two' => {
  if (before === 'two' || (before === 'satisfied' && value === 'satisfied')) return 'two';
  if (value === 'unsatisfied') return before;
  return before === 'unsatisfied' ? value : 'unknown';
};

/** Exactly one satisfied and all others unsatisfied; with an `open` part it may still become so. */
const exactlyOne =
  (values: readonly Test[], open: boolean): Test =>
  (facts) => {
    let satisfied = 0;
    let result: Truth | 'two' = 'unsatisfied';
    for (const test of values) {
      const value = test(facts);
      satisfied += value === 'satisfied' ? 1 : 0;
      result = satisfied > 1 ? 'two' : counted(result, value);
    }
    if (result === 'two') return 'unsatisfied';
    return open ? 'satisfied' : result;
  };

/** The test of a constraint; `open` is what a fact that comes later counts as: it must not decide by its absence. */
const testOf = (node: ConstraintNode, moment: Moment, open: Truth): Test => {
  if (node.kind === 'atomic') return isLater(node, moment) ? () => open : node.test;
  if (node.kind === 'xone') {
    const known = node.parts.filter((part) => !isLater(part, moment));
    const left = known.length < node.parts.length;
    const test = exactlyOne(
      known.map((part) => testOf(part, moment, open)),
      left,
    );
    return left && open === 'unsatisfied' ? (facts) => (test(facts) === 'satisfied' ? open : test(facts)) : test;
  }
  const parts = node.parts.map((part) => testOf(part, moment, open));
  return node.kind === 'or' ? any(parts) : all(parts);
};

const compileRule = (node: RuleNode, moment: Moment, open: Truth): CompiledRule => ({
  node,
  test: all(node.constraints.map((constraint) => testOf(constraint, moment, open))),
});

const compensate = `${odrlNamespace}compensate`;

/** A duty that must be met before, and that nothing here could ever show to be met, denies for ever: refused at once. */
const dutyFaults = ({ obligations }: PolicyNode): Fault[] =>
  obligations
    .filter(({ action, constraints }) => !dutiesAfter.has(action) && !(action === compensate && constraints.length > 0))
    .map(({ action, path }) => ({
      path: `${path}/action`,
      message: `whether ${shortName(action)} was done cannot be checked here`,
    }));

/**
 * Compiles a policy for one moment and action. Deny overrides; permissions are alternatives; what no permission covers is
 * denied; what comes later is left open until its moment (odrl §3).
 */
export const compilePolicy = (value: unknown, moment: Moment, action = 'read'): Compiled => {
  const parsed = parsePolicy(value);
  if (!parsed.ok) return parsed;
  const faults = dutyFaults(parsed.policy);
  if (faults.length > 0) return { ok: false, faults };
  const requested = currentAction(action);
  const above = new Set(actionsAbove(requested));
  const concerns = ({ action: its }: RuleNode) => above.has(its);
  const { permissions, prohibitions, obligations } = parsed.policy;
  return {
    ok: true,
    policy: {
      moment,
      action: requested,
      permissions: permissions.filter(concerns).map((node) => compileRule(node, moment, 'satisfied')),
      prohibitions: prohibitions.filter(concerns).map((node) => compileRule(node, moment, 'unsatisfied')),
      duties: obligations
        .filter(({ action: its }) => !dutiesAfter.has(its))
        .map((node) => compileRule(node, moment, 'satisfied')),
    },
  };
};

/** Everything of a policy that could not be evaluated, at any moment. Empty for one that can be published. */
export const policyFaults = (value: unknown): readonly Fault[] => {
  const compiled = compilePolicy(value, 'access');
  return compiled.ok ? [] : compiled.faults;
};
