import type { CompiledPolicy, CompiledRule } from './compile.ts';
import type { Facts } from './facts.ts';

/** A permission needs to be satisfied; unknown is not enough. */
export const isActive = ({ test }: CompiledRule, facts: Facts): boolean => test(facts) === 'satisfied';

/** A prohibition applies unless it is known not to. */
export const applies = ({ test }: CompiledRule, facts: Facts): boolean => test(facts) !== 'unsatisfied';

/**
 * The decision, fail closed: some permission is active, no prohibition applies, every duty is known to be met.
 *
 * @example decide(compiled, { now: 1795431600000, purpose: 'urn:stekker:1:purpose:crisis' }) // true or false
 */
export const decide = (policy: CompiledPolicy, facts: Facts): boolean => {
  for (const prohibition of policy.prohibitions) if (applies(prohibition, facts)) return false;
  for (const duty of policy.duties) if (!isActive(duty, facts)) return false;
  for (const permission of policy.permissions) if (isActive(permission, facts)) return true;
  return false;
};
