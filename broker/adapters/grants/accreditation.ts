import type { Accreditation } from '../../accreditation/ports.ts';
import { type Accreditations, subjectOf } from '../../accreditation/service.ts';
import type { Grant, Grants } from '../../credentials/ports.ts';

const grantOf = (its: Accreditation): Grant => ({
  key: its.id,
  type: 'ApplicationAccreditationCredential',
  subject: subjectOf(its),
  since: its.decidedAt,
  validUntil: its.validUntil,
});

/** Accreditations are granted as the accreditor decided them, each by its own offer or all of them by their kind. */
export const createAccreditationGrants = (accreditations: Pick<Accreditations, 'inForce' | 'ofOffer'>): Grants => ({
  types: ['ApplicationAccreditationCredential'],
  ofType: async (holder) => (await accreditations.inForce(holder)).map(grantOf),
  ofOffer: async (holder, id) => {
    const found = await accreditations.ofOffer(holder, id);
    return found && grantOf(found);
  },
});
