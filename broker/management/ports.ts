import type { StandingChange } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { CredentialType } from '../../contracts/vc/credential.ts';

/** What an operator can see and do; each port is there only in the role that has it. Times are milliseconds. */

export interface Page {
  readonly after: string;
  readonly limit: number;
}

export interface ShownParticipant {
  readonly did: Did;
  readonly name: string;
  readonly roles: readonly string[];
  readonly state: 'invited' | 'joined' | 'left';
  readonly admittedAt: number;
  readonly joinedAt: number | null;
  readonly leftAt: number | null;
}

export interface RegisterControl {
  /** @returns the code is shown once, and null for somebody who has joined the log before. */
  readonly invite: (invitation: {
    readonly did: Did;
    readonly name: string;
    readonly roles: readonly string[];
  }) => Promise<{
    readonly participant: ShownParticipant;
    readonly joinCode: string | null;
    readonly expiresAt: number | null;
  }>;
  readonly page: (page: Page & { readonly state?: ShownParticipant['state'] }) => Promise<readonly ShownParticipant[]>;
  /** Ends a membership, and with it the credentials that prove it. @throws AppError `not-found`. */
  readonly leave: (did: Did) => Promise<ShownParticipant>;
}

export interface ShownCredential {
  readonly id: string;
  readonly type: CredentialType;
  readonly holder: Did;
  readonly standing: 'active' | 'suspended' | 'revoked';
  readonly standingAt: number;
  readonly issuedAt: number;
  readonly validUntil: number;
  readonly jwt: string;
  readonly dataIntegrity: Json;
}

export interface CredentialControl {
  readonly page: (page: Page & { readonly holder?: Did }) => Promise<readonly ShownCredential[]>;
  /** @throws AppError `not-found`. */
  readonly credential: (id: string) => Promise<ShownCredential>;
  /** @throws AppError `not-found`, `standing-final`. */
  readonly changeStanding: (
    id: string,
    request: { readonly change: StandingChange; readonly reason: string; readonly effectiveAt?: number },
  ) => Promise<ShownCredential>;
}

export interface ShownAccreditation {
  readonly id: string;
  readonly holder: Did;
  readonly application: { readonly id: string; readonly version: string; readonly digest: string };
  readonly purposes: readonly string[];
  readonly criteria: { readonly id: string; readonly version: string };
  readonly level: string | null;
  readonly decidedAt: number;
  readonly validUntil: number;
}

export interface AccreditationControl {
  readonly decide: (
    request: Pick<ShownAccreditation, 'holder' | 'application' | 'purposes' | 'criteria' | 'level'> & {
      readonly id?: string;
      readonly validDays: number;
    },
  ) => Promise<ShownAccreditation>;
  readonly page: (page: Page) => Promise<readonly ShownAccreditation[]>;
}

/** Joins the broker's log. A repeat is harmless. */
export type JoinBroker = (code: string) => Promise<void>;

export interface LogControl {
  readonly state: () => {
    readonly origin: string;
    readonly size: number;
    readonly isWorking: boolean;
    readonly checkpoint: string | null;
  };
  /** Compares every served file with the rows; `repair` writes again what differs. */
  readonly audit: (options: {
    readonly repair: boolean;
  }) => Promise<{ readonly checked: number; readonly damaged: readonly string[]; readonly isRepaired: boolean }>;
}

/** Reads members' catalogs again: of one member, or of all. Resolves when the work has begun. */
export type HarvestNow = (member: Did | undefined) => Promise<void>;

export interface ShownAnchor {
  readonly size: string;
  readonly state: string;
  readonly transaction: string | null;
  readonly block: string | null;
}

export interface AnchorControl {
  /** Newest first. */
  readonly list: () => Promise<readonly ShownAnchor[]>;
}

/** What became of one catalog when it was read last; `fault` is null when it was read to its end. */
export interface ShownHarvest {
  readonly provider: Did;
  readonly at: number;
  readonly datasets: number;
  readonly fault: string | null;
}

/** How anchoring goes on; times in milliseconds, but for the block's own. */
export interface ShownAnchoring {
  readonly newestFinal: {
    readonly size: number;
    readonly transaction: string;
    readonly blockNumber: number;
    readonly time: string;
  } | null;
  readonly open: readonly unknown[];
  readonly waitingSince: number | null;
  readonly reason: string | null;
  readonly isStopped: boolean;
}

/** How the broker is, part by part. */
export interface StatusControl {
  readonly log: () => {
    readonly origin: string;
    readonly size: number;
    readonly isWorking: boolean;
    readonly isWriter: boolean;
  };
  readonly events: () => Promise<{ readonly events: number; readonly listeners: number }>;
  readonly harvest: () => Promise<readonly ShownHarvest[]>;
  /** Null where nothing is anchored. */
  readonly anchoring: () => Promise<ShownAnchoring | null>;
  readonly isAnchorLate: () => boolean | undefined;
}
