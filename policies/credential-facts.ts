import type { CredentialFacts } from '../contracts/vc/credential.ts';
import type { Facts } from './facts.ts';

/**
 * What verified credentials say, as facts for a decision: at a negotiation, for a token, at an access, and in a forecast of
 * all three. What they do not prove stays unknown, because who asks chooses what to show. An accreditation counts only for
 * the application that is named, in exactly that version, and only then is that version a fact (wire §4).
 *
 * @example credentialFacts(proven, 'urn:stekker:1:app:evacuatie@1.0.0') // { membership: ['did:web:…'], role: […], accreditedFor: […], … }
 */
export const credentialFacts = (
  proven: CredentialFacts | undefined,
  application = '',
): Pick<Facts, 'membership' | 'role' | 'accreditedFor' | 'applicationVersion'> => {
  const { memberships = [], accreditations = [] } = proven ?? {};
  const accredited = accreditations.filter(({ application: its }) => `${its.id}@${its.version}` === application);
  return {
    ...(memberships.length === 0
      ? {}
      : {
          membership: memberships.map(({ memberOf }) => memberOf),
          role: [...new Set(memberships.flatMap(({ roles }) => roles))],
        }),
    ...(accredited.length === 0
      ? {}
      : { accreditedFor: accredited.flatMap(({ purposes }) => purposes), applicationVersion: application }),
  };
};
