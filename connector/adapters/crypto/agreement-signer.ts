import type { ParticipantId } from '../../../contracts/ids.ts';
import { isAssertionOf, leafKeyIdOf, makeLeafKey, signAssertion } from '../../../kernel/assertions.ts';
import type { DidResolver } from '../../../kernel/did.ts';
import type { ParticipantKeys } from '../../../kernel/keys.ts';
import type { Random } from '../../../kernel/random.ts';
import type { AgreementSigner } from '../../negotiation/ports.ts';

/** Signs agreements and their ends with the participants' assertion keys, and verifies them by DID document. */

export interface AgreementSignerOptions {
  readonly keys: (participant: ParticipantId) => ParticipantKeys;
  readonly resolver: DidResolver;
  readonly random: Random;
}

export const createAgreementSigner = ({ keys, resolver, random }: AgreementSignerOptions): AgreementSigner => ({
  sign: async (participant, { typ, payload }) => signAssertion(keys(participant).assertion, payload, typ),
  makeLeafKey,
  leafKeyId: leafKeyIdOf,
  randomBytes: (length) => random.bytes(length),
  verify: (artifact, signature) => isAssertionOf(resolver, artifact, signature),
});
