import type { BrokerEvent } from '../../contracts/events.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { DatedChange } from '../../contracts/standing.ts';

/** What following the broker needs from outside (wire §7). Times in milliseconds. */

/**
 * What an issuer said of one of its credentials, or the broker of an agreement. `held`: the issuer's key could not be had, so
 * nobody knows yet whether it said so.
 */
export interface Notice extends DatedChange {
  readonly issuer: Did;
  readonly subject: string;
  readonly effectiveAt: number;
  /** Null where the broker speaks for itself. */
  readonly evidence: GeneralJws | null;
  readonly isHeld: boolean;
}

/** How far a participant followed its broker. */
export interface Followed {
  /** The number of the last event that was taken; null before the first snapshot. */
  readonly n: number | null;
  /** The time that the broker's last word bore. */
  readonly wordAt: number;
  /** When that word was heard, by our clock. */
  readonly heardAt: number;
}

/** Whose stream, and of which broker: another broker counts from the beginning. */
export interface StreamName {
  readonly participant: ParticipantId;
  readonly broker: Did;
}

export interface StatusChange {
  readonly followed: Followed;
  readonly put: readonly Notice[];
  readonly remove: readonly Notice[];
}

/**
 * What is known of standing. `save` is atomic and durable when it resolves; a notice is one row for each issuer, subject and
 * whether it is held.
 */
export interface StatusStore {
  readonly load: (
    name: StreamName,
  ) => Promise<{ readonly followed: Followed; readonly notices: readonly Notice[] } | undefined>;
  readonly save: (name: StreamName, change: StatusChange) => Promise<void>;
}

/** One connection to the broker's stream. */
export interface EventConnection {
  /** The data of one message after the other, until the connection ends. @throws AppError `fetch-failed`, `forbidden`, `busy`. */
  readonly messages: AsyncIterable<string>;
  readonly close: () => void;
}

/** Connects, to go on behind an event or, with null, from a snapshot. */
export type OpenEventStream = (lastEventId: number | null) => EventConnection;

/** One thing that has changed, for those who cache what rests on it. */
export interface StandingChanged {
  readonly type: BrokerEvent['type'];
  /** A credential's id, a DID, an agreementDigest, a policy. */
  readonly subject: string;
}
