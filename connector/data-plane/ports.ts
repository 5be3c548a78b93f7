import type { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';

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
  /** Accesses opened under the agreement so far. */
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
  /** Properties of the data address: `tokenEndpoint` and `grant`, or `authorization` (wire §4). */
  readonly properties: Readonly<Record<string, string>>;
}

export interface ConsumedTransfers {
  /** `ended` when the agreement is no longer in force, undefined when nothing is started. */
  readonly find: (participant: ParticipantId, agreementId: string) => Promise<ConsumedTransfer | 'ended' | undefined>;
}
