import type { Clock } from '../../kernel/clock.ts';
import { compilePolicy } from '../../policies/compile.ts';
import { credentialFacts } from '../../policies/credential-facts.ts';
import { explain } from '../../policies/explain.ts';
import type { Facts } from '../../policies/facts.ts';
import type { Decision, Decisions, NegotiationRow, OfferBook, PeerFacts } from './ports.ts';
import { sameRules } from './rules.ts';

/** What the owner wants next, by its policy alone: accept what is published to whom it is for, refuse the rest with reasons. */

export interface PolicyDecisionOptions {
  readonly offers: OfferBook;
  readonly facts: PeerFacts;
  readonly clock: Pick<Clock, 'now'>;
}

const wait: Decision = { do: 'wait' };

const terminate = (code: string, reason: readonly string[]): Decision => ({ do: 'terminate', code, reason });

/** The provider agrees to its own published rules, for a peer whom they permit. */
const answerRequest = async (options: PolicyDecisionOptions, row: NegotiationRow): Promise<Decision> => {
  const { participant, peer, data } = row;
  const published = await options.offers.find(participant, peer, data.dataset, data.offerId);
  if (published === undefined) return terminate('offer-refused', ['The offer no longer stands.']);
  if (!sameRules(data.offer, published.rules))
    return terminate('offer-refused', ['The rules are not those that were offered.']);
  const policy = compilePolicy(published.rules, 'negotiation');
  if (!policy.ok) return terminate('policy-invalid', ['The policy cannot be evaluated.']);
  const facts: Facts = {
    now: options.clock.now(),
    recipient: peer,
    pricePlan: published.price,
    ...credentialFacts(await options.facts.of(participant, peer)),
  };
  const { permitted, reasons } = explain(policy.policy, facts);
  return permitted
    ? { do: 'agree' }
    : terminate(
        'policy-denied',
        reasons.flatMap(({ nl, en }) => [en, nl]),
      );
};

const asProvider = async (options: PolicyDecisionOptions, row: NegotiationRow): Promise<Decision> => {
  switch (row.process.state) {
    case 'REQUESTED':
    case 'ACCEPTED':
      return answerRequest(options, row);
    case 'VERIFIED':
      return { do: 'finalize' };
    default:
      return wait;
  }
};

/** The consumer asked for an offer as it was published; whatever differs from it needs a person, and there is none here. */
const asConsumer = (row: NegotiationRow): Decision => {
  switch (row.process.state) {
    case 'OFFERED':
      return row.data.offers.length > 1
        ? terminate('offer-refused', ['The counter-offer is not what was asked for.'])
        : wait;
    case 'AGREED':
      return { do: 'verify' };
    default:
      return wait;
  }
};

export const createPolicyDecisions = (options: PolicyDecisionOptions): Decisions => ({
  next: async (row) => (row.process.role === 'provider' ? asProvider(options, row) : asConsumer(row)),
});
