import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Clock } from '../../kernel/clock.ts';
import { type Compiled, compilePolicy } from '../../policies/compile.ts';
import { decide } from '../../policies/evaluate.ts';
import type { Offer, Visibility } from './ports.ts';

/** Who sees an offer: its policy at the moment of the catalog, and whether the caller can keep its assurance (wire §3). */

export interface VisibilityOptions {
  readonly clock: Pick<Clock, 'now'>;
  /** Whether a caller knows our extensions; a `cosigned` offer is not in the catalog of one that does not. */
  readonly hasExtensions: (participant: ParticipantId, caller: Did) => Promise<boolean>;
}

/** Policies kept compiled; an offer never changes under its id. */
const maxCompiled = 10_000;

export const createVisibility = ({ clock, hasExtensions }: VisibilityOptions): Visibility => {
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
    sees: async (participant, caller, offer) => {
      const policy = policyOf(offer);
      if (!policy.ok || !decide(policy.policy, { now: clock.now(), recipient: caller })) return false;
      return offer.assurance === 'plain-dsp' || (await hasExtensions(participant, caller));
    },
  };
};
