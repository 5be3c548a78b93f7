import type { CredentialFacts } from '../contracts/vc/credential.ts';
import type { Facts } from './facts.ts';

/**
 * What verified credentials say, as facts for a decision. An accreditation counts only for the application that it names,
 * in exactly that version; without an application none counts.
 *
 * @example credentialFacts(proven, 'urn:stekker:1:app:evacuatie@1.0.0') // { membership: ['did:web:…'], role: […], accreditedFor: […] }
 */
export const credentialFacts = (
  { memberships, accreditations }: CredentialFacts,
  application = '',
): Pick<Facts, 'membership' | 'role' | 'accreditedFor'> => ({
  membership: memberships.map(({ memberOf }) => memberOf),
  role: [...new Set(memberships.flatMap(({ roles }) => roles))],
  accreditedFor: accreditations
    .filter(({ application: its }) => `${its.id}@${its.version}` === application)
    .flatMap(({ purposes }) => purposes),
});
