import type { ParticipantId } from '../../../contracts/ids.ts';
import { isAssertionOf, makeLeafKey, signAssertion } from '../../../kernel/assertions.ts';
import type { DidResolver } from '../../../kernel/did.ts';
import type { ParticipantKeys } from '../../../kernel/keys.ts';
import type { Random } from '../../../kernel/random.ts';
import type { AgreementSigner } from '../../negotiation/ports.ts';

/** Signs agreements with the participant's assertion key; checks the peer's by its DID document. */
export const createAgreementSigner = (options: {
  readonly keys: (participant: ParticipantId) => ParticipantKeys;
  readonly resolver: DidResolver;
  readonly random: Random;
}): AgreementSigner => ({
  sign: async (participant, payload) =>
    signAssertion(options.keys(participant).assertion, payload, 'stekker-agreement+jws'),
  makeLeafKey,
  randomBytes: (length) => options.random.bytes(length),
  verify: (artifact, index, did) =>
    isAssertionOf(options.resolver, artifact, { index, did, typ: 'stekker-agreement+jws' }),
});
