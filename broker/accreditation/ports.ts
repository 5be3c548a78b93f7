import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';

/** What an accreditor decides, and what it needs to let others know. */

/** Its decision that an application in a version, run by a holder, may serve purposes, by stated criteria (wire §8). */
export interface Accreditation {
  readonly accreditor: Did;
  /** `urn:uuid:…`; also the id of the object that the offer names. */
  readonly id: string;
  /** The participant that runs the application. */
  readonly holder: Did;
  readonly application: { readonly id: string; readonly version: string; readonly digest: string };
  readonly purposes: readonly string[];
  readonly criteria: { readonly id: string; readonly version: string };
  readonly level: string | null;
  readonly decidedAt: number;
  readonly validUntil: number;
}

/** Decisions, never changed: an accreditation ends by revoking its credential, or by its date. */
export interface AccreditationStore {
  /** Keeps a decision and asks for its offer in one transaction; `conflict` when the id was used for another one. */
  readonly decide: (accreditation: Accreditation) => Promise<'saved' | 'known' | 'conflict'>;
  readonly find: (accreditor: Did, id: string) => Promise<Accreditation | undefined>;
  readonly ofHolder: (accreditor: Did, holder: Did) => Promise<readonly Accreditation[]>;
  /** In order of id, behind `after`. */
  readonly page: (
    accreditor: Did,
    page: { readonly after: string; readonly limit: number },
  ) => Promise<readonly Accreditation[]>;
}

/**
 * The key event with which we join a log, kept before it is sent: a repeat after a lost answer must be the same event,
 * or the log takes it for a second one.
 */
export interface KeyEventStore {
  /** Keeps it unless one for this document is there; the one that is kept. */
  readonly keepFirst: (did: Did, document: string, event: GeneralJws) => Promise<GeneralJws>;
}

/** Sends an offer to the holder's credential service. */
export type OfferToHolder = (holder: Did, offer: Json) => Promise<'accepted' | 'refused' | 'unreachable'>;

/** Registers at the broker's log (wire §6). Any status is an answer; throws when none came. */
export type RegisterAtLog = (body: Json) => Promise<{ readonly status: number; readonly detail: string | undefined }>;
