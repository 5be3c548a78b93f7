import { nameOperand } from './operand.ts';

/** Of which broker the caller is a proven member. */
export const membership = nameOperand(
  {
    iri: 'urn:stekker:1:membership',
    fact: 'membership',
    from: 'negotiation',
    label: { nl: 'het lidmaatschap', en: 'the membership' },
  },
  (facts) => facts.membership,
);
