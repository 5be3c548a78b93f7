import type { JsonObject } from '../../contracts/json.ts';
import { compilePolicy } from '../../policies/compile.ts';
import { type Explanation, explain, type Sentence } from '../../policies/explain.ts';
import type { FactName, Facts } from '../../policies/facts.ts';

/**
 * Whether an offer fits us, by the engine that its owner uses too. It is a forecast from what we know of ourselves: the
 * provider decides, and asks for proof.
 */

/** `depends`: nothing speaks against it, but something is not known yet, such as the purpose. */
export type Verdict = 'fits' | 'depends' | 'refused';

export interface Judgement {
  readonly verdict: Verdict;
  /** Why not, or what is still open; empty when it fits. */
  readonly reasons: readonly Sentence[];
  /** What must be known to tell. */
  readonly missing: readonly FactName[];
}

/** Whether an unknown fact could still turn a refusal: some permission is open, and nothing is decided against us. */
const isOpen = ({ rules }: Explanation): boolean => {
  const has = (kind: string, state: string) => rules.some((rule) => rule.kind === kind && rule.state === state);
  const isPermitted = has('permission', 'satisfied') || has('permission', 'unknown');
  return isPermitted && !has('prohibition', 'satisfied') && !has('obligation', 'unsatisfied');
};

const notEvaluable = ({ path, message }: { readonly path: string; readonly message: string }): Sentence => ({
  nl: `Deze eis kan hier niet worden beoordeeld (${path}): ${message}.`,
  en: `This term cannot be judged here (${path}): ${message}.`,
});

/**
 * Judges the rules of an offer by what we know of ourselves.
 *
 * @example judgeOffer({ permission: [{ action: 'use' }] }, {}) // { verdict: 'fits', reasons: [], missing: [] }
 */
export const judgeOffer = (rules: JsonObject, facts: Facts): Judgement => {
  const compiled = compilePolicy(rules, 'access');
  if (!compiled.ok) return { verdict: 'refused', reasons: compiled.faults.map(notEvaluable), missing: [] };
  const explanation = explain(compiled.policy, facts);
  const { permitted, reasons, missing } = explanation;
  if (permitted) return { verdict: 'fits', reasons: [], missing: [] };
  return { verdict: isOpen(explanation) ? 'depends' : 'refused', reasons, missing };
};

const ranks: Readonly<Record<Verdict, number>> = { fits: 0, depends: 1, refused: 2 };

/** The offers from the one that fits best; among equals the order of their catalog stands. */
export const bestFirst = <Judged extends { readonly judgement: Judgement }>(
  offers: readonly Judged[],
): readonly Judged[] => offers.toSorted((a, b) => ranks[a.judgement.verdict] - ranks[b.judgement.verdict]);
