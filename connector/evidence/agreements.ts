import type { ParticipantId } from '../../contracts/ids.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { PrivateJwk } from './ports.ts';
import type { Registrar } from './registrar.ts';

/** Agreements that come into force, and their ends, go to the log: by the provider at once, by the consumer a minute later (wire §3). */

/** What one side holds of a signed artifact. Null where the peer knows no extensions, or the key is with the registrar already. */
export interface HeldArtifact {
  readonly participant: ParticipantId;
  readonly role: 'provider' | 'consumer';
  readonly artifact: GeneralJws | null;
  readonly leafKey: PrivateJwk | null;
}

export interface AgreementRegistration {
  readonly inForce: (held: HeldArtifact) => Promise<void>;
  /** An end or a void, with the signatures it will have. */
  readonly ended: (held: HeldArtifact) => Promise<void>;
}

/** So long the consumer leaves it to the provider. */
const consumerWaitsMs = 60_000;

export const createAgreementRegistration = (
  registrar: Pick<Registrar, 'submit'>,
  clock: Clock,
): AgreementRegistration => {
  const register =
    (kind: 'agreement' | 'agreement-event') =>
    async ({ participant, role, artifact, leafKey }: HeldArtifact): Promise<void> => {
      if (artifact === null || leafKey === null) return;
      const notBefore = clock.now() + (role === 'consumer' ? consumerWaitsMs : 0);
      await registrar.submit({ participant, kind, artifact, leafKey, notBefore });
    };
  return { inForce: register('agreement'), ended: register('agreement-event') };
};
