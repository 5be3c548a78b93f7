import { compilePolicy } from './compile.ts';
import type { Facts } from './facts.ts';
import { parseLimit } from './operands/in-force-date.ts';
import { literalOf } from './operands/operand.ts';
import type { ConstraintNode } from './parse.ts';

/** When the rules of an agreement stop permitting anything, by time alone: whatever else is not known may still be so. */

/** Whether nothing is permitted at this time, whoever asks and for whatever. False for rules that cannot be evaluated. */
export const isOver = (rules: unknown, facts: Required<Pick<Facts, 'now' | 'agreedAt'>>): boolean => {
  const compiled = compilePolicy(rules, 'access');
  if (!compiled.ok) return false;
  const { permissions, prohibitions } = compiled.policy;
  return (
    permissions.every(({ test }) => test(facts) === 'unsatisfied') ||
    prohibitions.some(({ test }) => test(facts) === 'satisfied')
  );
};

const limitsIn = (node: ConstraintNode, agreedAt: number): readonly number[] => {
  if (node.kind !== 'atomic') return node.parts.flatMap((part) => limitsIn(part, agreedAt));
  if (node.operand.fact !== 'now' && node.operand.fact !== 'agreedAt') return [];
  const limit = parseLimit(literalOf(node.source.rightOperand)?.text ?? '');
  if (limit === undefined) return [];
  return ['at' in limit ? limit.at : agreedAt + limit.after];
};

/** The last instant (ms) at which something may still be permitted; undefined when time alone never ends it. */
export const overAfter = (rules: unknown, agreedAt: number): number | undefined => {
  const compiled = compilePolicy(rules, 'access');
  if (!compiled.ok) return undefined;
  const { permissions, prohibitions } = compiled.policy;
  const nodes = [...permissions, ...prohibitions].flatMap(({ node }) => node.constraints);
  const limits = nodes.flatMap((node) => limitsIn(node, agreedAt)).toSorted((a, b) => b - a);
  let last: number | undefined;
  for (const limit of limits) {
    if (!isOver(rules, { now: limit + 1, agreedAt })) return last;
    last = limit;
  }
  return last;
};
