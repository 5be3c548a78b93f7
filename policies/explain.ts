import { formatTime } from '../contracts/time.ts';
import type { CompiledPolicy, CompiledRule } from './compile.ts';
import { applies, decide, isActive } from './evaluate.ts';
import type { FactName, Facts, Truth } from './facts.ts';
import { moments } from './facts.ts';
import { textsOf } from './operands/operand.ts';
import type { ConstraintNode, RuleNode } from './parse.ts';
import { shortName } from './terms.ts';

/** Why a decision fell as it did, over the same compiled tree, in two languages (odrl §5). */

export interface Sentence {
  readonly nl: string;
  readonly en: string;
}

export interface Premise {
  readonly path: string;
  readonly operand: string;
  readonly operator: string;
  readonly values: readonly string[];
  readonly state: Truth | 'later';
  /** The fact as it was, or undefined when it is missing. */
  readonly fact: unknown;
}

export interface RuleReport {
  readonly kind: RuleNode['kind'];
  readonly action: string;
  readonly path: string;
  readonly state: Truth;
  readonly premises: readonly Premise[];
}

export interface Explanation {
  readonly permitted: boolean;
  /** One sentence for each cause of a refusal; empty when it is permitted. */
  readonly reasons: readonly Sentence[];
  /** Facts that were asked for and missing. */
  readonly missing: readonly FactName[];
  readonly rules: readonly RuleReport[];
}

type Atomic = Extract<ConstraintNode, { kind: 'atomic' }>;

const leavesOf = (node: ConstraintNode): readonly Atomic[] =>
  node.kind === 'atomic' ? [node] : node.parts.flatMap(leavesOf);

const valuesOf = (right: unknown): readonly string[] => textsOf(right as Parameters<typeof textsOf>[0]) ?? [];

const premise = (leaf: Atomic, policy: CompiledPolicy, facts: Facts): Premise => ({
  path: leaf.path,
  operand: leaf.operand.iri,
  operator: leaf.operator,
  values: valuesOf(leaf.right),
  state: moments.indexOf(leaf.operand.from) > moments.indexOf(policy.moment) ? 'later' : leaf.test(facts),
  fact: facts[leaf.operand.fact],
});

const report = ({ node, test }: CompiledRule, policy: CompiledPolicy, facts: Facts): RuleReport => ({
  kind: node.kind,
  action: node.action,
  path: node.path,
  state: test(facts),
  premises: node.constraints.flatMap(leavesOf).map((leaf) => premise(leaf, policy, facts)),
});

const words: Readonly<Record<string, Sentence>> = {
  eq: { nl: 'gelijk aan', en: 'equal to' },
  neq: { nl: 'ongelijk aan', en: 'different from' },
  isA: { nl: 'een', en: 'a' },
  isAnyOf: { nl: 'een van', en: 'one of' },
  isNoneOf: { nl: 'geen van', en: 'none of' },
  lt: { nl: 'vóór of kleiner dan', en: 'before or below' },
  lteq: { nl: 'ten hoogste', en: 'at most' },
  'term-lteq': { nl: 'ten hoogste', en: 'at most' },
  gt: { nl: 'na of groter dan', en: 'after or above' },
  gteq: { nl: 'ten minste', en: 'at least' },
};

/** An operator in words. */
export const wordOf = (operator: string): Sentence => words[operator] ?? { nl: operator, en: operator };

const factText = (fact: unknown, name: FactName): string => {
  if ((name === 'now' || name === 'agreedAt') && typeof fact === 'number') return formatTime(fact);
  return Array.isArray(fact) ? fact.map((one) => shortName(String(one))).join(', ') : shortName(String(fact));
};

const sentenceOf = (leaf: Atomic, its: Premise): Sentence => {
  const { label, fact } = leaf.operand;
  const wanted = its.values.map(shortName).join(', ');
  const word = wordOf(leaf.operator);
  if (its.state === 'unknown') {
    return {
      nl: `Niet bekend is ${label.nl}; gevraagd is: ${word.nl} ${wanted}.`,
      en: `Not known is ${label.en}; asked for is: ${word.en} ${wanted}.`,
    };
  }
  const have = factText(its.fact, fact);
  return {
    nl: `Voor ${label.nl} geldt: ${word.nl} ${wanted}; het is nu ${have}.`,
    en: `For ${label.en} the rule is: ${word.en} ${wanted}; it is now ${have}.`,
  };
};

const notExactlyOne = ({ path }: RuleNode): Sentence => ({
  nl: `Van de alternatieven in regel ${path} moet er precies één gelden.`,
  en: `Of the alternatives in rule ${path} exactly one must hold.`,
});

/** Premises of a rule that keep a permission from being active. */
const unmet = (rule: CompiledRule, policy: CompiledPolicy, facts: Facts): Sentence[] => {
  const sentences = rule.node.constraints.flatMap(leavesOf).flatMap((leaf) => {
    const its = premise(leaf, policy, facts);
    return its.state === 'unsatisfied' || its.state === 'unknown' ? [sentenceOf(leaf, its)] : [];
  });
  return sentences.length === 0 ? [notExactlyOne(rule.node)] : sentences;
};

const forbidden = ({ node }: CompiledRule): Sentence => ({
  nl: `Het beleid verbiedt ${shortName(node.action)} onder deze omstandigheden (regel ${node.path}).`,
  en: `The policy forbids ${shortName(node.action)} in these circumstances (rule ${node.path}).`,
});

const nothingPermits = (action: string): Sentence => ({
  nl: `Geen regel van het beleid staat ${shortName(action)} toe.`,
  en: `No rule of the policy permits ${shortName(action)}.`,
});

const reasonsFor = (policy: CompiledPolicy, facts: Facts): Sentence[] => [
  ...policy.prohibitions.filter((rule) => applies(rule, facts)).map(forbidden),
  ...policy.duties.filter((rule) => !isActive(rule, facts)).flatMap((rule) => unmet(rule, policy, facts)),
  ...(policy.permissions.some((rule) => isActive(rule, facts))
    ? []
    : policy.permissions.length === 0
      ? [nothingPermits(policy.action)]
      : policy.permissions.flatMap((rule) => unmet(rule, policy, facts))),
];

/** The whole explanation of a decision: for the log of every access, and for the person who was refused. */
export const explain = (policy: CompiledPolicy, facts: Facts): Explanation => {
  const rules = [...policy.permissions, ...policy.prohibitions, ...policy.duties];
  const permitted = decide(policy, facts);
  const leaves = rules.flatMap((rule) => rule.node.constraints.flatMap(leavesOf));
  const missing = leaves
    .filter((leaf) => premise(leaf, policy, facts).state === 'unknown')
    .map((leaf) => leaf.operand.fact);
  return {
    permitted,
    reasons: permitted ? [] : reasonsFor(policy, facts),
    missing: [...new Set(missing)],
    rules: rules.map((rule) => report(rule, policy, facts)),
  };
};
