import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Authenticator, UsedTokenStore, VerifiedCaller } from '../../kernel/auth.ts';
import type { PresentationVerifier } from '../../kernel/vc/presentations.ts';
import type { Authenticate } from '../exchange/http.ts';
import type { PeerFactsStore } from './ports.ts';

/** Who calls on DSP and extension paths: an SI token, and a membership by presentation (dcp §2, §7). */

export interface PartyAuthenticationOptions {
  readonly authenticator: (participant: ParticipantId) => Authenticator;
  readonly used: UsedTokenStore;
}

export interface CallerAuthenticationOptions extends PartyAuthenticationOptions {
  readonly presentations: (participant: ParticipantId) => Pick<PresentationVerifier, 'factsOf'>;
  readonly peers: Pick<PeerFactsStore, 'remember'>;
  /** The configured broker: its crawler is known without credentials. Without a broker nobody has a membership to show. */
  readonly broker: Did | undefined;
}

/** A token that counts once, and then `prove`. */
const authenticate =
  (
    its: PartyAuthenticationOptions,
    prove: (participant: ParticipantId, caller: VerifiedCaller) => Promise<void>,
  ): Authenticate =>
  async (participant, headers, purpose) => {
    const caller = await its.authenticator(participant).verify(headers);
    const claim = () => its.used.claim(caller.used);
    if (purpose === 'read' && !(await claim()))
      throw new AppError('unauthenticated', { cause: new Error('jti used before') });
    await prove(participant, caller);
    return purpose === 'read' ? { did: caller.did } : { did: caller.did, token: caller.used, claim };
  };

/**
 * Parties of an agreement, on extension paths (wire §1): the token alone. Whoever lost its membership still settles what it
 * used: statements, ends and receipts concern what is past.
 */
export const createPartyAuthentication = (its: PartyAuthenticationOptions): Authenticate =>
  authenticate(its, async () => undefined);

/** Everybody on DSP paths: in a data space with a broker, members only; what they proved is kept for later decisions. */
export const createCallerAuthentication = (its: CallerAuthenticationOptions): Authenticate =>
  authenticate(its, async (participant, caller) => {
    if (its.broker === undefined || caller.did === its.broker) return;
    const facts = await its.presentations(participant).factsOf(caller, ['MembershipCredential']);
    await its.peers.remember(participant, caller.did, facts);
  });
