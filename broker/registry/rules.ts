import type { Did } from '../../contracts/ids.ts';
import type { Participant } from './ports.ts';

/** How a participant comes and goes. Pure; the log is the witness of joining, the operator of everything else. */

export interface Invitation {
  readonly did: Did;
  readonly name: string;
  readonly roles: readonly string[];
}

/**
 * The participant after an invitation. Inviting again changes name and roles and admits anew: somebody whose keys are in
 * the log already needs no code and is in at once.
 */
export const invite = (
  registry: Did,
  known: Participant | undefined,
  { did, name, roles }: Invitation,
  its: {
    readonly hasJoined: boolean;
    readonly now: number;
    /** The last change to credentials of this membership, ms: whatever was revoked until then may be issued again. */
    readonly notBefore: number;
  },
): Participant => ({
  registry,
  did,
  name,
  roles,
  state: its.hasJoined ? 'joined' : 'invited',
  admittedAt: Math.max(its.now, its.notBefore),
  joinedAt: its.hasJoined ? (known?.joinedAt ?? its.now) : null,
  leftAt: null,
  version: (known?.version ?? 0) + 1,
});

/** The participant once its first key event stands in the log; undefined when that changes nothing. */
export const join = (known: Participant, now: number): Participant | undefined =>
  known.state === 'invited' ? { ...known, state: 'joined', joinedAt: now, version: known.version + 1 } : undefined;

/** The participant that the operator sends away; undefined when it has left before. */
export const leave = (known: Participant, now: number): Participant | undefined =>
  known.state === 'left' ? undefined : { ...known, state: 'left', leftAt: now, version: known.version + 1 };
