import { AppError, type ErrorCode } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { isJsonObject, type Json } from '../../contracts/json.ts';
import type { Clock } from '../../kernel/clock.ts';
import { firstKeyEvent } from '../../kernel/key-event.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import type { Logger } from '../../kernel/log.ts';
import type { PeerAnswer, PeerTransport } from '../exchange/ports.ts';
import type { CredentialRequest, JoinRecord, JoinStore } from './ports.ts';
import type { CredentialRequests } from './requesting.ts';

/**
 * Joining a broker: our keys stand in its log from then on (ledger §4), and it issues our membership. The key event is
 * made once and stored before it is sent, so that a repeat after a lost answer is the same bytes.
 */

export interface JoiningOptions {
  readonly joins: JoinStore;
  readonly keys: (participant: ParticipantId) => ParticipantKeys;
  /** The DID document, exactly as it is served. */
  readonly document: (participant: ParticipantId) => string;
  readonly transport: Pick<PeerTransport, 'post'>;
  readonly requests: Pick<CredentialRequests, 'request'>;
  readonly clock: Clock;
  readonly newId: () => string;
  readonly log: Logger;
}

/** The broker as its operator named it; the DID follows from the origin. */
export interface BrokerAddress {
  readonly did: Did;
  /** Its public root, without trailing slash. */
  readonly root: string;
}

export interface Joining {
  /**
   * Registers our keys with a one-time code of the broker's operator, and asks for the membership. May be repeated.
   *
   * @throws AppError `forbidden`, `entry-refused` with the broker's words; `not-yet`, `fetch-failed`: ask again.
   */
  readonly join: (participant: ParticipantId, broker: BrokerAddress, code: string) => Promise<CredentialRequest>;
}

/** The record to register: the one there is, unless our document has changed since. */
const prepare = async (
  { joins, keys, document, clock }: JoiningOptions,
  participant: ParticipantId,
  broker: Did,
): Promise<JoinRecord> => {
  const before = await joins.find(participant, broker);
  const text = document(participant);
  if (before !== undefined && (before.registeredAt !== null || before.document === text)) return before;
  const artifact = firstKeyEvent(keys(participant), text, clock.now());
  const isReplaced = before !== undefined;
  const record = { participant, broker, document: text, artifact, isReplaced, registeredAt: null };
  await joins.put(record);
  return record;
};

const wordsOf = (body: Json | undefined): string => {
  if (!isJsonObject(body)) return 'it gives no reason';
  const words = [body.title, body.detail].filter((text) => typeof text === 'string');
  return words.join(' ').slice(0, 1_000);
};

/** What a refusal means; undefined when it is none. */
const refusalOf = ({ status, body }: PeerAnswer, { isReplaced }: JoinRecord): AppError | undefined => {
  if (status === 200 || status === 201) return undefined;
  // An earlier artifact of ours arrived although its answer was lost: our keys are in the log.
  if (status === 409 && isReplaced) return undefined;
  const code: ErrorCode = status >= 500 || status === 429 ? 'not-yet' : status === 403 ? 'forbidden' : 'entry-refused';
  return new AppError(code, { detail: `the broker answered ${status}: ${wordsOf(body)}` });
};

export const createJoining = (its: JoiningOptions): Joining => ({
  join: async (participant, broker, code) => {
    const record = await prepare(its, participant, broker.did);
    if (record.registeredAt === null) {
      const answer = await its.transport.post({
        participant,
        peer: broker.did,
        url: `${broker.root}/log/entries`,
        id: its.newId(),
        body: { kind: 'key-event', artifact: record.artifact, joinCode: code },
      });
      const refusal = refusalOf(answer, record);
      if (refusal !== undefined) throw refusal;
      await its.joins.put({ ...record, registeredAt: its.clock.now() });
      its.log.info({ participant, broker: broker.did }, 'our keys are in the log');
    }
    return its.requests.request(participant, { issuer: broker.did, type: 'MembershipCredential' });
  },
});
