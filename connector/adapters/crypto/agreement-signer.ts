import type { ParticipantId } from '../../../contracts/ids.ts';
import { isAssertionOf, leafKeyIdOf, makeLeafKey, signAssertion } from '../../../kernel/assertions.ts';
import type { DidResolver } from '../../../kernel/did.ts';
import type { ParticipantKeys } from '../../../kernel/keys.ts';
import type { Random } from '../../../kernel/random.ts';
import type { AgreementSigner } from '../../negotiation/ports.ts';

/** Signs agreements and their ends with the participant's assertion key; checks the peer's by its DID document. */
export const createAgreementSigner = (options: {
  readonly keys: (participant: ParticipantId) => ParticipantKeys;
  readonly resolver: DidResolver;
  readonly random: Random;
}): AgreementSigner => ({
  sign: async (participant, { typ, payload }) => signAssertion(options.keys(participant).assertion, payload, typ),
  makeLeafKey,
  leafKeyId: leafKeyIdOf,
  randomBytes: (length) => options.random.bytes(length),
  verify: (artifact, signature) => isAssertionOf(options.resolver, artifact, signature),
});
