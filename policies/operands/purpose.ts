import { nameOperand } from './operand.ts';

/** What the data is used for: an IRI of a published list; the request declares it, the log proves it. */
export const purpose = nameOperand(
  {
    iri: 'http://www.w3.org/ns/odrl/2/purpose',
    fact: 'purpose',
    from: 'token',
    label: { nl: 'het doel', en: 'the purpose' },
  },
  (facts) => facts.purpose,
);
