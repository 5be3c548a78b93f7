import type { CompiledPolicy } from './compile.ts';
import { decide } from './evaluate.ts';
import { parseInstant } from './operands/date-time.ts';
import { literalOf, textsOf } from './operands/operand.ts';
import type { ConstraintNode } from './parse.ts';

/** Whom a policy lets through when only the time and the caller are known, as they are for a catalog (odrl §4). */
export interface Audience {
  /** Whether somebody whom the policy does not name gets through. */
  readonly isOpen: boolean;
  /** Of those whom the policy names: who gets through. */
  readonly named: readonly string[];
  /** The next time at which the answer may be another one, ms; null when it never is. */
  readonly turnsAt: number | null;
}

type Atomic = Extract<ConstraintNode, { kind: 'atomic' }>;

const atomsOf = (node: ConstraintNode): readonly Atomic[] =>
  node.kind === 'atomic' ? [node] : node.parts.flatMap(atomsOf);

/** Both sides of the instant of a constraint: at most there its answer changes. */
const turnsOf = ({ right }: Atomic): readonly number[] => {
  const literal = literalOf(right as Parameters<typeof literalOf>[0]); // parsed: it has the form that its operand takes
  const instant = literal === undefined ? undefined : parseInstant(literal.text);
  return instant === undefined ? [] : [instant, instant + 1];
};

const namesOf = ({ right }: Atomic): readonly string[] => textsOf(right as Parameters<typeof textsOf>[0]) ?? [];

/**
 * The audience at a time. Names are only ever compared for being the same, so those whom the policy does not name are all
 * alike: one of them is asked for all, and then each of the named.
 *
 * @example audienceOf(compiled, 1795431600000) // { isOpen: true, named: [], turnsAt: null } for a policy that asks nothing
 */
export const audienceOf = (policy: CompiledPolicy, now: number): Audience => {
  const rules = [...policy.permissions, ...policy.prohibitions, ...policy.duties];
  const atoms = rules.flatMap(({ node }) => node.constraints.flatMap(atomsOf));
  const names = new Set(atoms.filter(({ operand }) => operand.fact === 'recipient').flatMap(namesOf));
  const turns = atoms.filter(({ operand }) => operand.fact === 'now').flatMap(turnsOf);
  let stranger = 'somebody else';
  while (names.has(stranger)) stranger += '.';
  const gets = (recipient: string): boolean => decide(policy, { now, recipient });
  const later = turns.filter((turn) => turn > now);
  return {
    isOpen: gets(stranger),
    named: [...names].filter(gets),
    turnsAt: later.length === 0 ? null : later.reduce((a, b) => Math.min(a, b)),
  };
};
