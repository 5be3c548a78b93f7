import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { audienceOf } from '../../policies/audience.ts';
import { type Compiled, compilePolicy } from '../../policies/compile.ts';
import { decide } from '../../policies/evaluate.ts';
import type { Offer, Visibility } from './ports.ts';

/** Who sees an offer: its policy at the moment of the catalog, and whether the caller can keep its assurance (wire §3). */

export interface VisibilityOptions {
  /**
   * Whether a caller knows the extensions that a `cosigned` agreement needs, and we serve them; such an offer is not in the
   * catalog of one that does not.
   */
  readonly canCosign: (participant: ParticipantId, caller: Did) => Promise<boolean>;
}

/** Policies kept compiled; an offer never changes under its id. */
const maxCompiled = 10_000;

export const createVisibility = ({ canCosign }: VisibilityOptions): Visibility => {
  const compiled = new Map<string, Compiled>();
  const policyOf = (offer: Offer): Compiled => {
    const id = `${offer.participant} ${offer.id}`;
    const known = compiled.get(id);
    if (known !== undefined) return known;
    const made = compilePolicy(offer.rules, 'catalog');
    if (compiled.size >= maxCompiled) compiled.clear();
    compiled.set(id, made);
    return made;
  };
  return {
    viewer: async (participant, did) => ({ did, canCosign: await canCosign(participant, did) }),
    sees: (viewer, offer, at) => {
      if (offer.assurance === 'cosigned' && !viewer.canCosign) return false;
      const policy = policyOf(offer);
      return policy.ok && decide(policy.policy, { now: at, recipient: viewer.did });
    },
    showing: (rules, at) => {
      const policy = compilePolicy(rules, 'catalog');
      if (!policy.ok) return { readers: [], turnsAt: null };
      const { isOpen, named, turnsAt } = audienceOf(policy.policy, at);
      return { readers: isOpen ? [''] : named, turnsAt };
    },
  };
};
