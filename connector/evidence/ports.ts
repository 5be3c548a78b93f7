import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Followed } from '../../contracts/ledger/follow.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { UsageContext, UsageRecord } from '../../contracts/ledger/record.ts';
import type { StatementSums } from '../../contracts/ledger/statement.ts';

/** What bringing artifacts to the log, following it, and putting receipts together needs from outside. */

/** The `type` of what is registered (wire §6). */
export type RegistrationKind = 'agreement' | 'agreement-event' | 'usage-statement';

/** The private half of a one-time key, as a JWK. */
export type PrivateJwk = { readonly [member: string]: string };

/** A signed artifact for the log. */
export interface Submission {
  readonly participant: ParticipantId;
  readonly kind: RegistrationKind;
  readonly artifact: GeneralJws;
  readonly leafKey: PrivateJwk;
  /** The opening of a statement's sums. */
  readonly sums?: StatementSums;
  /** ms: the provider registers at once, the consumer when the provider has not within a minute. */
  readonly notBefore: number;
}

/** An artifact on its way into the log, or in it. */
export interface Registration {
  readonly participant: ParticipantId;
  /** hex `H(A)` */
  readonly digest: string;
  readonly kind: RegistrationKind;
  readonly agreementDigest: string;
  /** What it is about beside the agreement: the seq of a statement, event and signers of an event, empty for the agreement. */
  readonly subject: string;
  readonly artifact: GeneralJws;
  readonly sums: StatementSums | null;
  /** Gone as soon as it is registered; kept with a refusal, so that it can be tried again. */
  readonly leafKey: PrivateJwk | null;
  readonly createdAt: number;
  readonly outcome: RegistrationOutcome;
}

export type RegistrationOutcome =
  | { readonly state: 'waiting' }
  | ({ readonly state: 'registered'; readonly at: number } & InLog)
  | { readonly state: 'refused'; readonly at: number; readonly reason: string };

/** Where an artifact stands, as the log promised. */
export interface InLog {
  readonly origin: string;
  readonly index: number;
  readonly promise: GeneralJws;
  /** b64u, from the promise. */
  readonly leafHash: string;
  /** What is registered: the other party may have brought it first. Null when the log has erased it. */
  readonly artifact: GeneralJws | null;
}

/** The queue of registrations. Durable when a call returns; its tasks are saved in the same transaction. */
export interface RegistrationStore {
  /** Adds what waits, with its first task; false when this artifact of this participant is there already. */
  readonly add: (registration: Registration, dueAt: number) => Promise<boolean>;
  readonly find: (participant: ParticipantId, digest: string) => Promise<Registration | undefined>;
  /** The registration of a subject: the one that is registered, else one that waits, else the last refused. */
  readonly bySubject: (
    participant: ParticipantId,
    subject: Pick<Registration, 'kind' | 'agreementDigest' | 'subject'>,
  ) => Promise<Registration | undefined>;
  /** Ends the waiting, and with it, if it is registered, the leaf key; wakes the registrations that waited for it. */
  readonly settle: (
    settled: Registration,
    wake: readonly { readonly digest: string; readonly dueAt: number }[],
  ) => Promise<void>;
  /** A further try at this time; what was refused waits again. */
  readonly again: (participant: ParticipantId, digest: string, dueAt: number) => Promise<void>;
}

/** What became of promises. A promise whose entry is not in the tree is evidence against the log (ledger §9). */
export interface PromiseStore {
  /** Registered, not proven nor broken, lowest index first, with an index below `below`. */
  readonly open: (
    origin: string,
    page: { readonly below: number; readonly limit: number },
  ) => Promise<readonly Registration[]>;
  /** Promised before `before` with an index of at least `from`. */
  readonly uncovered: (
    origin: string,
    page: { readonly from: number; readonly before: number; readonly limit: number },
  ) => Promise<readonly Registration[]>;
  readonly mark: (participant: ParticipantId, digest: string, state: 'proven' | 'broken') => Promise<void>;
}

/** A log as its broker named it at first contact; what it says later is compared with this. */
export interface PinnedLog {
  readonly broker: Did;
  readonly origin: string;
  readonly url: string;
  readonly vkey: string;
  /** b64 SPKI */
  readonly registryKey: string;
  readonly policy: string;
}

/** Durable when `pin` returns. */
export interface LogPinStore {
  readonly pinned: (brokerUrl: string) => Promise<PinnedLog | undefined>;
  /** The first one stays. @returns the one that is kept. */
  readonly pin: (brokerUrl: string, log: PinnedLog) => Promise<PinnedLog>;
}

/** How far a log was followed. By log and not by participant: it holds nothing of anybody. Durable when `save` returns. */
export interface FollowedStore {
  /** @throws AppError `data-damaged`. */
  readonly load: (origin: string) => Promise<Followed | undefined>;
  /** Goes on from the tree of `from` entries, 0 for none; false when another process was faster. */
  readonly save: (origin: string, from: number, next: Followed) => Promise<boolean>;
}

export type AlarmCode =
  | 'registration-refused'
  | 'registration-late'
  | 'promise-not-believed'
  | 'promise-broken'
  | 'promise-uncovered'
  | 'log-not-believed'
  | 'log-renamed'
  | 'foreign-key-event'
  | 'anchor-not-believed';

/** Something that an operator must know. */
export interface Alarm {
  readonly code: AlarmCode;
  /** Null when it concerns everybody here. */
  readonly participant: ParticipantId | null;
  readonly detail: string;
  /** What shows it: signed by those it is about, where it can be. */
  readonly evidence: Json;
}

export interface KeptAlarm extends Alarm {
  readonly id: string;
  readonly at: number;
}

/** Alarms with what shows them, for as long as somebody may have to prove it. Durable when `keep` returns. */
export interface AlarmStore {
  /** False when the same was kept before. */
  readonly keep: (alarm: KeptAlarm) => Promise<boolean>;
  /** Newest first. */
  readonly list: (limit: number) => Promise<readonly KeptAlarm[]>;
}

/** What a broker serves to everybody. Throws AppError when no answer came; undefined when there is nothing at the place. */
export interface LogReader {
  /** What the broker says of itself (`/.well-known/stekker-broker`). */
  readonly info: () => Promise<Json | undefined>;
  readonly file: (logUrl: string, path: string) => Promise<Uint8Array | undefined>;
  /** The oldest final anchor that covers an entry, with its checkpoint. */
  readonly anchor: (logUrl: string, covers: number) => Promise<Json | undefined>;
}

/** The key events that our participants made, kept before they were sent (ledger §4). */
export interface OwnKeyEvents {
  /** The participant with this DID; undefined for a DID that is not ours. */
  readonly participantOf: (did: string) => ParticipantId | undefined;
  /** Whether the participant made the event with this `b64u H(A)`. */
  readonly made: (participant: ParticipantId, hash: string) => Promise<boolean>;
}

/** A statement that both signed, with everything that its receipts open. */
export interface StatedInterval {
  readonly agreementDigest: string;
  readonly seq: string;
  readonly artifact: GeneralJws;
  readonly sums: StatementSums;
  /** All records of the interval in order of `n`, each with its context. */
  readonly accesses: readonly { readonly record: UsageRecord; readonly context: UsageContext }[];
}

/** Usage as it was stated; the metering part keeps it. */
export interface StatedUsage {
  /**
   * The statements in which the parts of a request stand, in order; `isOpen` while some of it stands in none that is
   * signed. Undefined when this participant knows no such request.
   */
  readonly ofRequest: (
    participant: ParticipantId,
    request: string,
    agreementDigest?: string,
  ) => Promise<{ readonly intervals: readonly StatedInterval[]; readonly isOpen: boolean } | undefined>;
  /** The next signed statement of an agreement behind this seq (0 for the first). */
  readonly next: (
    participant: ParticipantId,
    agreementDigest: string,
    afterSeq: string,
  ) => Promise<StatedInterval | undefined>;
}
