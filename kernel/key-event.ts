import { encodeSpki } from '../contracts/ledger/forms.ts';
import type { GeneralJws } from '../contracts/ledger/jws.ts';
import { type KeyEvent, publicText } from '../contracts/ledger/public-entries.ts';
import { formatTime } from '../contracts/time.ts';
import { signedBy } from './assertions.ts';
import type { ParticipantKeys, SigningKey } from './keys.ts';

/**
 * The key event with which a participant joins a log (ledger §4): seq 1, introducing its keys, signed by one of them.
 *
 * @param document the DID document, exactly the text that is served: the log compares it with what it fetches.
 */
export const firstKeyEvent = (keys: ParticipantKeys, document: string, at: number): GeneralJws => {
  const introduced = ({ kid, spki }: Pick<SigningKey, 'kid' | 'spki'>, use: KeyEvent['keys'][number]['use']) => ({
    kid,
    use,
    spki: encodeSpki(spki),
  });
  const event: KeyEvent = {
    v: 1,
    type: 'key-event',
    did: keys.did,
    event: 'introduce',
    seq: '1',
    prev: null,
    document,
    keys: [
      introduced(keys.authentication, ['authentication', 'capabilityInvocation']),
      introduced(keys.keyAgreement, ['keyAgreement']),
      introduced(keys.assertion, ['assertionMethod']),
      introduced({ kid: keys.multikeyId, spki: keys.assertion.spki }, ['assertionMethod']), // Data Integrity's name for it
    ],
    at: formatTime(at),
  };
  return signedBy(keys, publicText(event), 'stekker-key-event+jws');
};
