import type { DataAddress, TransferState } from '../../contracts/dsp/transfer.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { ProcessRow, ProcessStore } from '../exchange/ports.ts';
import type { TransferKind } from './machine.ts';

/** What a transfer knows beside its state. */
export interface TransferData {
  readonly agreementId: string;
  /** The word of the distribution: `StekkerHttp-PULL`, `HttpData-PULL`, … */
  readonly format: string;
  /** Where the data is to be had (pull), as the provider sent it last; or where it is to be brought (push), as the consumer said. */
  readonly dataAddress: DataAddress | null;
  readonly suspendedBy: 'us' | 'peer' | null;
  /** Provider: the consumer needs a fresh address; and which task asks for the next one. */
  readonly renew?: boolean;
  readonly renewTask?: string;
  /** Provider: which process pushes now, and until when that counts, in ms. */
  readonly pushing?: { readonly by: string; readonly until: number } | null;
  /** Consumer: hash of the token that opens its own address, and what came there. */
  readonly inbox?: { readonly secretHash: string; readonly received: ReceivedPush | null } | null;
  readonly ending: { readonly by: 'us' | 'peer'; readonly code: string; readonly reason: Json } | null;
}

export type TransferRow = ProcessRow<TransferState, TransferKind, TransferData>;
export type TransferStore = ProcessStore<TransferState, TransferKind, TransferData>;

/** An agreement as a transfer needs it. */
export interface TransferAgreement {
  readonly id: string;
  readonly digest: string;
  readonly peer: Did;
  readonly role: 'provider' | 'consumer';
  readonly dataset: string;
  readonly assurance: Assurance;
  readonly isInForce: boolean;
  /** The last instant (ms) at which its rules may still permit anything; undefined when time alone never ends them. */
  readonly overAfter: number | undefined;
  /** Provider: everything is said but our last word, and the consumer may have it before we know. */
  readonly isBeingFinalized?: boolean;
}

export interface Agreements {
  readonly find: (participant: ParticipantId, agreementId: string) => Promise<TransferAgreement | undefined>;
}

/**
 * Opens and closes the data plane for a transfer (wire §4). `open` gives a fresh data address each time and voids the
 * one before; `close` is certain when it returns: no new access, and running ones end.
 */
export interface DataPlane {
  readonly open: (row: TransferRow, agreement: TransferAgreement) => Promise<DataAddress>;
  readonly close: (row: TransferRow) => Promise<void>;
  /** How long an address is good, in ms; null for one that is good until it is closed. */
  readonly lifetimeMs: (agreement: TransferAgreement) => number | null;
  /** Whether something is served now that closing would cut. */
  readonly isBusy: (row: TransferRow) => boolean;
}

export type TransferDecision =
  | { readonly do: 'wait' }
  | { readonly do: 'start' }
  | { readonly do: 'complete' }
  | { readonly do: 'suspend' | 'terminate'; readonly code: string; readonly reason: readonly string[] };

/** Where a push goes. */
export interface PushSink {
  readonly url: string;
  readonly method: 'POST' | 'PUT';
  /** `Authorization` as it is sent, or empty. */
  readonly authorization: string;
}

/** What came by a push. */
export interface ReceivedPush {
  readonly bytes: number;
  /** hex */
  readonly sha256: string;
  readonly mediaType: string;
}

/** Brings the whole data to the consumer, once. */
export interface Pusher {
  /** @throws AppError `agreement-ended`, `address-refused`. */
  readonly push: (row: TransferRow, sink: PushSink) => Promise<PushResult>;
  /** No byte more leaves. */
  readonly stop: (row: TransferRow) => void;
}

export type PushResult =
  | { readonly state: 'delivered' | 'stopped' }
  /** `isFinal`: trying again would end the same way. */
  | { readonly state: 'failed'; readonly reason: string; readonly isFinal: boolean };

/** Makes an address of our own, which only the provider of one transfer can use. */
export interface PushInbox {
  readonly open: (
    participant: ParticipantId,
    pid: string,
  ) => { readonly address: DataAddress; readonly secretHash: string };
}

/** What the owner wants next, given a process without a message under way. */
export interface TransferDecisions {
  readonly next: (row: TransferRow) => Promise<TransferDecision>;
}
