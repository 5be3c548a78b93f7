import { nameOperand } from './operand.ts';

/** Who receives the data, by DID. */
export const recipient = nameOperand(
  {
    iri: 'http://www.w3.org/ns/odrl/2/recipient',
    fact: 'recipient',
    from: 'catalog',
    label: { nl: 'de ontvanger', en: 'the recipient' },
  },
  (facts) => facts.recipient,
);
