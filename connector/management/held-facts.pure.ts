import type { Did } from '../../contracts/ids.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import type { Facts } from '../../policies/facts.ts';

/**
 * What our own credentials prove, as facts for a forecast. An accreditation is of exactly one version of an application
 * (wire §4): without an application nothing is known of it, and with another one it proves nothing.
 */
export const heldFacts = (self: Did, held: CredentialFacts, application: string | undefined): Facts => {
  const accredited = held.accreditations.filter(
    (one) => `${one.application.id}@${one.application.version}` === application,
  );
  return {
    recipient: self,
    membership: held.memberships.map(({ memberOf }) => memberOf),
    role: held.memberships.flatMap(({ roles }) => roles),
    ...(application === undefined
      ? {}
      : { applicationVersion: application, accreditedFor: accredited.flatMap(({ purposes }) => purposes) }),
  };
};
