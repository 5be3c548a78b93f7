import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Authenticator, UsedTokenStore, VerifiedCaller } from '../../kernel/auth.ts';
import type { PresentationVerifier } from '../../kernel/vc/presentations.ts';
import type { Authenticate } from '../exchange/http.ts';
import type { PeerFactsStore } from './ports.ts';

/** Who calls on DSP and extension paths: an SI token, and a membership by presentation (dcp §2, §7). */

export interface CallerAuthenticationOptions {
  readonly authenticator: (participant: ParticipantId) => Authenticator;
  readonly presentations: (participant: ParticipantId) => Pick<PresentationVerifier, 'factsOf'>;
  readonly peers: Pick<PeerFactsStore, 'remember'>;
  readonly used: UsedTokenStore;
  /** The configured broker: its crawler is known without credentials. */
  readonly broker: Did | undefined;
}

export const createCallerAuthentication = (its: CallerAuthenticationOptions): Authenticate => {
  const prove = async (participant: ParticipantId, caller: VerifiedCaller): Promise<void> => {
    if (caller.did === its.broker) return;
    const facts = await its.presentations(participant).factsOf(caller, ['MembershipCredential']);
    await its.peers.remember(participant, caller.did, facts);
  };
  const claim = async ({ used }: VerifiedCaller): Promise<boolean> => its.used.claim(used);
  return async (participant, headers, purpose) => {
    const caller = await its.authenticator(participant).verify(headers);
    if (purpose === 'read' && !(await claim(caller)))
      throw new AppError('unauthenticated', { cause: new Error('jti used before') });
    await prove(participant, caller);
    return purpose === 'read'
      ? { did: caller.did }
      : { did: caller.did, token: caller.used, claim: () => claim(caller) };
  };
};
