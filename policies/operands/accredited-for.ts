import { nameOperand } from './operand.ts';

/** Purposes that the application is accredited for, from a verified credential. */
export const accreditedFor = nameOperand(
  {
    iri: 'urn:stekker:1:accreditedFor',
    fact: 'accreditedFor',
    from: 'token',
    label: { nl: 'de accreditatie', en: 'the accreditation' },
  },
  (facts) => facts.accreditedFor,
);
