import type { CredentialFacts, CredentialType } from '../../contracts/vc/credential.ts';
import type { VerifiedCaller } from '../auth.ts';

/** Asks callers for their credentials and judges them (dcp §7). */
export interface PresentationVerifier {
  /**
   * What the caller proves by credentials of these types, each of which must be there. One query to the caller's credential
   * service, or none while a checked result for the same access token is fresh and nothing it rests on was revoked.
   *
   * @throws AppError `unauthenticated`; the reason is its cause, for the log alone.
   */
  readonly factsOf: (caller: VerifiedCaller, types: readonly CredentialType[]) => Promise<CredentialFacts>;
  /** Drops every cached result that rests on this credential: called for each revocation and suspension. */
  readonly forget: (credentialId: string) => void;
}
