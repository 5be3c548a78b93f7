import { AppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { JoinLog, Participant, ParticipantState, ParticipantStore } from './ports.ts';
import { type Invitation, invite, join, leave } from './rules.ts';

/** The register of one broker: membership is an invitation here and a key event in the log, never one without the other. */

export interface RegistryOptions {
  readonly registry: Did;
  readonly store: ParticipantStore;
  readonly log: JoinLog;
  readonly clock: Clock;
}

export interface Invited {
  readonly participant: Participant;
  /** Shown once; null for somebody whose keys are in the log already. */
  readonly joinCode: string | null;
  readonly expiresAt: number | null;
}

export interface Registry {
  /**
   * Admits a DID, with a code for it alone when it has not joined the log yet.
   *
   * @param notBefore the last change to credentials of this membership, ms.
   */
  readonly invite: (invitation: Invitation, notBefore?: number) => Promise<Invited>;
  /** The participant, when it is a member now. */
  readonly member: (did: Did) => Promise<Participant | undefined>;
  readonly page: (page: {
    readonly after: string;
    readonly limit: number;
    readonly state?: ParticipantState;
  }) => Promise<readonly Participant[]>;
  /** Notes that a DID's keys are in the log; whoever was not invited stays a stranger. */
  readonly joined: (did: Did) => Promise<void>;
  /** Ends a membership. Harmless when it has ended before. @throws AppError `not-found`. */
  readonly leave: (did: Did) => Promise<Participant>;
  /** Notes everybody who joined the log while nobody listened: at start. */
  readonly catchUp: () => Promise<void>;
}

const codeLifetimeMs = 7 * 86_400_000;
const pageSize = 200;
const maxTries = 5;

export const createRegistry = ({ registry, store, log, clock }: RegistryOptions): Registry => {
  /** Changes a participant against the version that was read; `undefined` leaves it as it is. */
  const change = async (
    did: Did,
    next: (known: Participant | undefined) => Participant | undefined,
  ): Promise<Participant | undefined> => {
    for (let tries = 0; tries < maxTries; tries += 1) {
      const known = await store.find(registry, did);
      const changed = next(known);
      if (changed === undefined) return known;
      if ((await store.save(changed, known?.version ?? null)) === 'saved') return changed;
    }
    throw new AppError('version-conflict', { detail: `${did} is changed by others all the time` });
  };

  const joined = async (did: Did): Promise<void> => {
    if (await log.hasJoined(did)) await change(did, (known) => known && join(known, clock.now()));
  };

  return {
    joined,
    invite: async (invitation, notBefore = 0) => {
      const { did } = invitation;
      const its = { hasJoined: await log.hasJoined(did), now: clock.now(), notBefore };
      const participant = await change(did, (known) => invite(registry, known, invitation, its));
      if (participant === undefined) throw new AppError('invariant-broken', { detail: 'an invitation left no trace' });
      if (its.hasJoined) return { participant, joinCode: null, expiresAt: null };
      const joinCode = await log.issueJoinCode(did, codeLifetimeMs);
      return { participant, joinCode, expiresAt: its.now + codeLifetimeMs };
    },
    member: async (did) => {
      if (!(await log.hasJoined(did))) return undefined;
      await joined(did); // the log may have been faster than the note of it
      const known = await store.find(registry, did);
      return known?.state === 'joined' ? known : undefined;
    },
    page: (page) => store.page(registry, page),
    leave: async (did) => {
      const participant = await change(did, (known) => known && leave(known, clock.now()));
      if (participant === undefined) throw new AppError('not-found', { detail: `${did} was never invited` });
      return participant;
    },
    catchUp: async () => {
      for (let after = ''; ; ) {
        const invited = await store.page(registry, { after, limit: pageSize, state: 'invited' });
        for (const { did } of invited) await joined(did);
        const last = invited.at(-1);
        if (last === undefined || invited.length < pageSize) return;
        after = last.did;
      }
    },
  };
};
