import type { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';

/** What the data plane needs from the rest of the connector (wire §4, §5). Calls on the hot path are synchronous. */

/** Where the bytes of an asset come from, as the owner published it. */
export type Upstream =
  | {
      readonly kind: 'http';
      readonly url: string;
      readonly credential: { readonly name: string; readonly sealed: string } | null;
    }
  | { readonly kind: 'file' | 'folder'; readonly path: string };

/** Everything about an agreement that an access is judged by; fixed when it came into force. */
export interface AccessTerms {
  readonly agreementId: string;
  /** agreementDigest */
  readonly agreement: string;
  readonly consumer: Did;
  /** When it was agreed, in ms: terms may count from there. */
  readonly agreedAt?: number;
  readonly asset: string;
  readonly upstream: Upstream;
  /** The agreement's rules (permission, prohibition, obligation). */
  readonly rules: { readonly [key: string]: Json };
  readonly assurance: Assurance;
  /** Digest of the price plan, or empty, and the plan. */
  readonly price: string;
  readonly pricePlan: PricePlan | null;
  /** `strict`, or the grace in ms (wire §7). */
  readonly silence: 'strict' | number;
}

/** The terms of an agreement in force, or why there are none. */
export interface Terms {
  readonly find: (participant: ParticipantId, agreementId: string) => Promise<AccessTerms | 'ended' | undefined>;
}

/**
 * Writes usage down and bounds exposure (ledger §7, §8). Provider and consumer use the same promises.
 */
export interface UsageMeter {
  /**
   * Whether an access under this agreement can be judged and opened at once. If not, it is being counted, or more of the window
   * leased, and `done` is called once when that has ended, however it ended: then it is judged and opened in the same turn.
   */
  readonly prepare: (agreement: string, done: () => void, isCounted?: boolean) => boolean;
  /**
   * Reserves exposure, then makes the entry durable. `done` is called exactly once: with null when the first byte may
   * leave, else with `window-exhausted`, `quota-exhausted`, `request-repeated` or `journal-unavailable`, and nothing was recorded.
   */
  readonly open: (entry: UsageOpen, done: (refusal: AppError | null) => void) => void;
  /** Reserves more bytes for a running part; false: the stream must be cut. */
  readonly extend: (agreement: string, request: string, part: number, bytes: number) => boolean;
  /**
   * Closes a part. Resolves the exposure to what was used. A journal that fails here refuses every later `open`; what
   * was served stays open in it and becomes `unknown`. `done` is called when the entry is durable, or never will be.
   */
  readonly close: (entry: UsageClose, done?: (failed: boolean) => void) => void;
  /** Accesses opened under the agreement before the one that was prepared as one that is counted; never too few. */
  readonly count: (agreement: string) => number;
  /** What is left of the window: for the `RateLimit` header. */
  readonly remaining: (agreement: string) => { readonly requests: number; readonly bytes: number };
  /** `open` entries of the last `ms`: what the replay set is rebuilt from at start. */
  readonly recent: (ms: number) => readonly Pick<UsageOpen, 'agreement' | 'request' | 'at'>[];
  /** False while the journal refuses. */
  readonly isReady: () => boolean;
}

/** What is known of credentials from the broker's events (wire §7): local and immediate. */
export interface Standing {
  /**
   * `good` with the age of the broker's last word when silence has begun (seconds, else null); `revoked` when one of the
   * credentials, the peer or the agreement lost its standing; `unknown` when the broker is silent for longer than allowed.
   */
  readonly check: (
    subjects: readonly string[],
    silence: 'strict' | number,
  ) => { readonly state: 'good'; readonly statusAge: number | null } | { readonly state: 'revoked' | 'unknown' };
  /** Calls back at once after every change, and about every 250 ms during silence: running streams are judged again. */
  readonly onChange: (listener: () => void) => void;
}

/** What a consumer fetches under: the newest started transfer of an agreement. */
export interface ConsumedTransfer {
  readonly participant: ParticipantId;
  readonly agreementId: string;
  readonly agreement: string;
  readonly provider: Did;
  /** The transfer's providerPid. */
  readonly transfer: string;
  readonly asset: string;
  readonly assurance: Assurance;
  readonly price: string;
  readonly pricePlan: PricePlan | null;
  readonly endpoint: string;
  /** The last instant (ms) at which its rules may still permit anything; undefined when time alone never ends them. */
  readonly overAfter?: number | undefined;
  /** Properties of the data address: `tokenEndpoint` and `grant`, or `authorization` (wire §4). */
  readonly properties: Readonly<Record<string, string>>;
}

export interface ConsumedTransfers {
  /** `ended` when the agreement is no longer in force, undefined when nothing is started. */
  readonly find: (participant: ParticipantId, agreementId: string) => Promise<ConsumedTransfer | 'ended' | undefined>;
}

/** A transfer that is open at its provider (wire §4). What opens the data plane is kept as a hash alone. */
export interface Grant {
  readonly participant: ParticipantId;
  /** The transfer's providerPid: unique in a deployment. */
  readonly transfer: string;
  readonly agreementId: string;
  readonly consumer: Did;
  /** `b64u H` of the grant, or of the bearer token of `plain-dsp`. */
  readonly secretHash: string;
  /** ms; when a bearer token ends. Null for a grant, which stands until it is closed. */
  readonly expiresAt: number | null;
  readonly openedAt: number;
}

/** An access token as its provider keeps it: the evidence behind it, and the facts it was given for (wire §4). */
export interface IssuedToken {
  readonly participant: ParticipantId;
  readonly jti: string;
  readonly transfer: string;
  /** `secretHash` of the grant it was given for: a new grant voids it. */
  readonly grant: string;
  /** agreementDigest */
  readonly agreement: string;
  readonly application: string;
  readonly purpose: string;
  readonly run: string;
  readonly jkt: string;
  readonly facts: CredentialFacts;
  /** The consumer's signed word that this key speaks for it; kept as long as the records. */
  readonly siToken: string;
  readonly proof: string;
  readonly issuedAt: number;
  readonly expiresAt: number;
}

/** Open transfers and the tokens given for them. Durable when a call returns. */
export interface GrantStore {
  /** In place of the grant that the transfer had before. */
  readonly put: (grant: Grant) => Promise<void>;
  /** Nothing when there is none. */
  readonly remove: (participant: ParticipantId, transfer: string) => Promise<void>;
  readonly find: (participant: ParticipantId, transfer: string) => Promise<Grant | undefined>;
  /** Every open grant under an agreement. */
  readonly ofAgreement: (participant: ParticipantId, agreementId: string) => Promise<readonly Grant[]>;
  /** Every open grant of the deployment: read at start, and when word of other processes was lost. */
  readonly all: () => Promise<readonly Grant[]>;
  readonly putToken: (token: IssuedToken) => Promise<void>;
  readonly findToken: (participant: ParticipantId, jti: string) => Promise<IssuedToken | undefined>;
}

/** What is known of a peer by the credentials it showed before; undefined when nothing is, or no longer. */
export interface PeerFacts {
  readonly of: (participant: ParticipantId, peer: Did) => Promise<CredentialFacts | undefined>;
}

/** An application of our own, known to its connector by a key (wire §4). */
export interface Application {
  readonly participant: ParticipantId;
  /** `<id>@<version>` */
  readonly id: string;
  /** `b64u H` of its key. */
  readonly keyHash: string;
  readonly createdAt: number;
}

/** Durable when a call returns. */
export interface ApplicationStore {
  /** `conflict` when the participant has this application, or anybody this key. */
  readonly add: (application: Application) => Promise<'saved' | 'conflict'>;
  /** Whether it was there. */
  readonly remove: (participant: ParticipantId, id: string) => Promise<boolean>;
  /** All of the deployment, in order of participant and id. */
  readonly all: () => Promise<readonly Application[]>;
}

/** Names and values, one after the other; a name may stand twice. */
export type HeaderList = readonly string[];

/** Takes an answer as it comes in. `head` is first; `end` or `fail` is last, and comes once. */
export interface AnswerSink {
  readonly head: (status: number, headers: HeaderList) => void;
  readonly data: (chunk: Uint8Array) => void;
  readonly end: () => void;
  readonly fail: (error: unknown) => void;
}

/** A running answer. After `pause` no more data comes until `resume`; after `abort` nothing comes at all. */
export interface Flow {
  readonly pause: () => void;
  readonly resume: () => void;
  readonly abort: () => void;
}

export interface SourceRequest {
  readonly method: 'GET' | 'HEAD';
  /** What stands behind the transfer in the path, beginning with a slash, or empty. */
  readonly rest: string;
  /** With its question mark, or empty. */
  readonly query: string;
  readonly headers: HeaderList;
}

/** Where the bytes of one asset come from, ready to be asked. Nothing is called before `ask` has returned. */
export interface Source {
  readonly ask: (request: SourceRequest, sink: AnswerSink) => Flow;
}

export interface Sources {
  /** @throws AppError `address-refused` for one that this deployment may not call. */
  readonly open: (upstream: Upstream) => Source;
}

/** Requests to others whose answers are streamed. */
export interface HttpFetch {
  /** @throws AppError `address-refused` */
  readonly check: (url: string) => void;
  /** The origin must have passed `check`; redirects are answers, nothing is tried twice. */
  readonly ask: (
    request: {
      readonly origin: string;
      readonly path: string;
      readonly method: 'GET' | 'HEAD';
      readonly headers: HeaderList;
    },
    sink: AnswerSink,
  ) => Flow;
}

/** Requests whose body is sent as it comes. */
export interface HttpPush {
  /** @throws AppError `address-refused` */
  readonly check: (url: string) => void;
  /** The status of the answer; redirects are answers. Fails when none came, and when the body breaks off. */
  readonly send: (request: {
    readonly url: string;
    readonly method: 'POST' | 'PUT';
    readonly headers: Readonly<Record<string, string>>;
    readonly body: AsyncIterable<Uint8Array>;
  }) => Promise<number>;
}

/** A transfer that its provider pushes to us. */
export interface PushedTransfer {
  /** The transfer's providerPid. */
  readonly transfer: string;
  /** agreementDigest */
  readonly agreement: string;
  readonly asset: string;
  readonly price: string;
  /** `b64u H` of the token that opens its address. */
  readonly secretHash: string;
  readonly state: 'started' | 'not-started' | 'suspended' | 'ended';
}

/** What is known of what came. */
export interface ReceivedPush {
  readonly bytes: number;
  /** hex */
  readonly sha256: string;
  readonly mediaType: string;
}

export interface PushedTransfers {
  /** By consumerPid; undefined for a transfer that is not pushed to us. */
  readonly find: (participant: ParticipantId, pid: string) => Promise<PushedTransfer | undefined>;
  /** Durable when it returns. */
  readonly received: (participant: ParticipantId, pid: string, push: ReceivedPush) => Promise<void>;
}

/** A file that is being received: whole and durable once it is kept, gone when it is dropped. */
export interface ReceivedFile {
  readonly append: (bytes: Uint8Array) => Promise<void>;
  readonly keep: () => Promise<void>;
  readonly drop: () => Promise<void>;
}

export interface ReceivedFiles {
  /** In place of what the transfer had before, once it is kept. */
  readonly begin: (transfer: string) => Promise<ReceivedFile>;
}

/** The digest of one part of a body, made while it streams. */
export interface BodyDigest {
  /** False when it lags behind: no more until `onDrain` was called. The bytes may be read until the digest is done. */
  readonly update: (chunk: Uint8Array) => boolean;
  /** `b64u H` of everything, at once or later; called once. */
  readonly finish: (done: (digest: string) => void) => void;
}

export interface BodyDigests {
  readonly begin: (onDrain: () => void) => BodyDigest;
}
