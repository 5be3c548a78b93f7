import { nameOperand } from './operand.ts';

/** Which application and version asks. */
export const applicationVersion = nameOperand(
  {
    iri: 'urn:stekker:1:applicationVersion',
    fact: 'applicationVersion',
    from: 'token',
    label: { nl: 'de versie van de toepassing', en: 'the version of the application' },
  },
  (facts) => facts.applicationVersion,
);
