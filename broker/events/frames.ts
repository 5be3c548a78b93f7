import { type BrokerMessage, brokerMessageText } from '../../contracts/events.ts';
import { jwsText } from '../../contracts/ledger/jws.ts';
import { signedBy } from '../../kernel/assertions.ts';
import { frameEvent } from '../../kernel/http/server-sent-events.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';

/** Messages as they go out: signed, with their number, as server-sent events. */

/** What is the same for many recipients is signed once; a snapshot is too large and too rare to keep. */
const maxKept = 256;

export type Frame = (message: BrokerMessage) => Uint8Array<ArrayBuffer>;

/** Signs and frames messages; those with the same text share one signature. */
export const createFrames = (keys: ParticipantKeys): Frame => {
  const kept = new Map<string, Uint8Array<ArrayBuffer>>();
  const make = (message: BrokerMessage, text: string): Uint8Array<ArrayBuffer> => {
    const jws = signedBy(keys, text, 'stekker-event+jws');
    return frameEvent(String(message.n), jwsText(jws));
  };
  return (message) => {
    const text = brokerMessageText(message);
    if (message.type === 'snapshot') return make(message, text);
    const known = kept.get(text);
    if (known !== undefined) return known;
    const made = make(message, text);
    const [oldest] = kept.keys();
    if (kept.size >= maxKept && oldest !== undefined) kept.delete(oldest);
    kept.set(text, made);
    return made;
  };
};
