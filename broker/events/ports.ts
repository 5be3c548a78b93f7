import type { BrokerEvent } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { DatedChange } from '../../contracts/standing.ts';

/** What the stream of events needs from outside (wire §7). */

/** An entry of a log. */
export interface LogPlace {
  readonly log: string;
  readonly index: number;
}

/** What is said, before it has a number. Times in milliseconds. */
export interface NewEvent {
  /** One event for each key, however often it is handed in. */
  readonly key: string;
  readonly type: BrokerEvent['type'];
  readonly subject: string;
  readonly at: number;
  readonly effectiveAt: number;
  readonly evidence: GeneralJws | null;
  /** Whom it concerns; null: every member. */
  readonly audience: readonly Did[] | null;
  /** What stays in force behind it and belongs in a snapshot; null for what only happens. */
  readonly notice: { readonly issuer: Did; readonly at: number } | null;
  /** The entry of the log that says so, and says it once; null for what stands in no log. */
  readonly source: LogPlace | null;
}

/** An event in its place in the queue of all. */
export interface StoredEvent {
  readonly seq: number;
  readonly type: BrokerEvent['type'];
  readonly subject: string;
  readonly at: number;
  readonly effectiveAt: number;
  readonly evidence: GeneralJws | null;
  readonly audience: readonly Did[] | null;
}

/** How far a recipient is: in the queue of all, and by its own count. */
export interface Position {
  readonly seq: number;
  readonly n: number;
}

/** The last word of an issuer about a subject. */
export interface KnownNotice extends DatedChange {
  readonly issuer: Did;
}

/** What a recipient is told, and how far it is then. */
export interface Told<Event> {
  readonly position: Position;
  readonly events: readonly Event[];
}

/**
 * The queue of events. `append` is atomic and durable when it resolves, and refuses (`conflict`) unless the last word of
 * this issuer about this subject is the one of `expected` (its time, or null for none). No row is written for each recipient
 * of an event for all: a recipient's own count is the number of events for all, and of those for it alone, so far. An event
 * with a source is `known` when that entry was heard, and otherwise makes it heard in the same transaction.
 */
export interface EventStore {
  readonly append: (event: NewEvent, expected: number | null) => Promise<'appended' | 'known' | 'conflict'>;
  /** The last word of each issuer about a subject. */
  readonly notices: (subject: string) => Promise<readonly KnownNotice[]>;
  /** Notes that every entry of a log below `size` was heard; takes nothing back. */
  readonly heard: (log: string, size: number) => Promise<void>;
  /** Forgets events older than this, ms; what is in force stays. */
  readonly prune: (before: number) => Promise<void>;
  readonly read: EventReader;
}

/** The reading side of the same store; each answer is of one moment. */
export interface EventReader {
  /** The last number in the queue of all; 0 while it is empty. */
  readonly head: () => Promise<number>;
  /** Entries of this log below this number were heard; 0 for a log that nobody listened to. */
  readonly heardOf: (log: string) => Promise<number>;
  /** Events behind `seq`, in order. */
  readonly since: (seq: number, limit: number) => Promise<readonly StoredEvent[]>;
  /** What a recipient that counted to `n` has missed; undefined when it cannot be told whole, or is more than `limit`. */
  readonly missed: (recipient: Did, n: number, limit: number) => Promise<Told<StoredEvent> | undefined>;
  /** Everything in force for a recipient that was said at `from`, ms, or later. */
  readonly inForce: (recipient: Did, from: number) => Promise<Told<Omit<StoredEvent, 'seq' | 'audience'>>>;
}

/** Something in the log that members must hear of. */
export interface NewsItem {
  readonly index: number;
  readonly type: 'keys' | 'agreement-ended';
  /** A DID, or an agreementDigest. */
  readonly subject: string;
  readonly audience: readonly Did[] | null;
}

/** What the log says that members must hear of. */
export interface LogNews {
  readonly log: string;
  /** News in entries from `from` on, in order, about so many at once; entries below `until` say nothing else. */
  readonly behind: (
    from: number,
    limit: number,
  ) => Promise<{ readonly items: readonly NewsItem[]; readonly until: number }>;
}

/** Who may listen. */
export interface Members {
  readonly isMember: (did: Did) => Promise<boolean>;
}

/** Who may speak about credentials. */
export interface Issuers {
  /** The accreditors that this broker recognises. */
  readonly isRecognised: (did: Did) => Promise<boolean>;
  /** Who issued a credential, where this broker knows: it knows its own. */
  readonly issuerOf: (subject: string) => Promise<Did | undefined>;
}
