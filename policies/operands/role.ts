import { nameOperand } from './operand.ts';

/** Roles of the proven membership. */
export const role = nameOperand(
  { iri: 'urn:stekker:1:role', fact: 'role', from: 'negotiation', label: { nl: 'de rol', en: 'the role' } },
  (facts) => facts.role,
);
