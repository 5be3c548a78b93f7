import type { Did } from '../../contracts/ids.ts';

/** Who takes part (wire §1, ledger §4): invited by the operator, joined by a key event in the log. */

export type ParticipantState = 'invited' | 'joined' | 'left';

export interface Participant {
  /** The DID of the broker whose register this is. */
  readonly registry: Did;
  readonly did: Did;
  readonly name: string;
  readonly roles: readonly string[];
  readonly state: ParticipantState;
  /** The operator's last invitation, ms: whatever was revoked before it may be issued again. */
  readonly admittedAt: number;
  readonly joinedAt: number | null;
  readonly leftAt: number | null;
  readonly version: number;
}

/** Rows of one register, by DID. Durable when a call returns; `save` counts only against the version that was read. */
export interface ParticipantStore {
  readonly find: (registry: Did, did: Did) => Promise<Participant | undefined>;
  /** @param expected the version that was read, or null for a participant that is new. */
  readonly save: (participant: Participant, expected: number | null) => Promise<'saved' | 'conflict'>;
  /** In order of DID, behind `after`; of one state when it is given. */
  readonly page: (
    registry: Did,
    page: { readonly after: string; readonly limit: number; readonly state?: ParticipantState },
  ) => Promise<readonly Participant[]>;
}

/** The log: who has introduced keys, and codes with which one DID may do so once. */
export interface JoinLog {
  readonly hasJoined: (did: Did) => Promise<boolean>;
  readonly issueJoinCode: (did: Did, validMs: number) => Promise<string>;
}
