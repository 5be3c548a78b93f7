import type { Did } from '../../contracts/ids.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import { credentialFacts } from '../../policies/credential-facts.ts';
import type { Facts } from '../../policies/facts.ts';

/**
 * What our own credentials prove, as facts for a forecast. We know all that we hold, so what they do not prove is known to
 * be missing, and no open question as it is for the provider. Without an application nothing is known of its accreditation.
 */
export const heldFacts = (self: Did, held: CredentialFacts, application: string | undefined): Facts => ({
  recipient: self,
  membership: [],
  role: [],
  ...(application === undefined ? {} : { accreditedFor: [] }),
  ...credentialFacts(held, application),
});
