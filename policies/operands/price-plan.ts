import { nameOperand } from './operand.ts';

/** The price plan that was agreed, by digest; window and budget enforce it on access. */
export const pricePlan = nameOperand(
  {
    iri: 'urn:stekker:1:pricePlan',
    fact: 'pricePlan',
    from: 'negotiation',
    label: { nl: 'het prijsplan', en: 'the price plan' },
  },
  (facts) => facts.pricePlan,
);
