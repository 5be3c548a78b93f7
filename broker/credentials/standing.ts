import { AppError } from '../../contracts/errors.ts';
import { type StandingChange, type StandingNotice, standingNoticeText } from '../../contracts/events.ts';
import { formatTime } from '../../contracts/time.ts';
import { signedBy } from '../../kernel/assertions.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import type { Logger } from '../../kernel/log.ts';
import type { TaskHandler } from '../../kernel/sql/outbox.ts';
import { createTurnsByKey } from '../../kernel/turns.ts';
import type { CredentialStore, IssuedCredential, Notice, NoticeStore, StandingPublisher } from './ports.ts';
import { standingAfter } from './rules.ts';

/** Revoking, suspending and reinstating: the row, its lists and the signed notice in one transaction, then the push. */

export interface StandingTools {
  readonly keys: ParticipantKeys;
  readonly credentials: CredentialStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly wake: () => void;
}

export interface ChangeRequest {
  readonly change: StandingChange;
  readonly reason: string;
  /** Suspension only: until this moment, ms, running transfers go on (wire §7). */
  readonly effectiveAt?: number;
}

const maxTries = 5;

const noticeOf = (
  keys: ParticipantKeys,
  next: IssuedCredential,
  { change, reason, effectiveAt }: ChangeRequest,
): Notice => {
  const notice: StandingNotice = {
    v: 1,
    type: change,
    issuer: keys.did,
    subject: next.id,
    at: formatTime(next.standingAt),
    effectiveAt: formatTime(Math.max(effectiveAt ?? 0, next.standingAt)),
    reason,
  };
  const jws = signedBy(keys, standingNoticeText(notice), 'stekker-event+jws');
  return { issuer: keys.did, subject: next.id, version: next.version, jws };
};

/** Changes one credential against the version that was read; undefined when there is none. */
const changeOne = async (
  { keys, credentials, clock, log }: StandingTools,
  id: string,
  request: ChangeRequest,
): Promise<IssuedCredential | undefined> => {
  for (let tries = 0; tries < maxTries; tries += 1) {
    const known = await credentials.find(keys.did, id);
    if (known === undefined) return undefined;
    const standing = standingAfter(known.standing, request.change);
    if (standing === 'same') return known;
    if (standing === 'final')
      throw new AppError('standing-final', { detail: `${id} was revoked; a new credential is needed` });
    // Times only grow, whatever the clock does: receivers go by the newest.
    const standingAt = Math.max(clock.now(), known.standingAt + 1);
    const next = { ...known, standing, standingAt, version: known.version + 1 };
    if ((await credentials.change(next, noticeOf(keys, next, request))) === 'saved') {
      log.info({ credential: id, standing, reason: request.reason }, 'a credential has another standing');
      return next;
    }
  }
  throw new AppError('version-conflict', { detail: `${id} is changed by others all the time` });
};

/**
 * Changes a credential, and with it every other one of the same grant that could still be shown: a renewal must not
 * outlive what was revoked.
 *
 * @throws AppError `not-found`, `standing-final`.
 */
export const changeStanding = async (
  tools: StandingTools,
  id: string,
  request: ChangeRequest,
): Promise<IssuedCredential> => {
  const { keys, credentials, clock } = tools;
  const changed = await changeOne(tools, id, request);
  if (changed === undefined) throw new AppError('not-found', { detail: `${id} was not issued here` });
  const others = await credentials.ofGrant(keys.did, changed.holder, changed.grant);
  for (const other of others)
    if (other.id !== id && other.standing !== 'revoked' && other.validUntil > clock.now())
      await changeOne(tools, other.id, request);
  tools.wake();
  return changed;
};

/** Revokes everything of a grant that could still be shown: the membership has ended, or says other things now. */
export const revokeGrant = async (
  tools: StandingTools,
  {
    holder,
    grant,
    reason,
  }: { readonly holder: IssuedCredential['holder']; readonly grant: string; readonly reason: string },
): Promise<void> => {
  const issued = await tools.credentials.ofGrant(tools.keys.did, holder, grant);
  for (const { id, standing } of issued)
    if (standing !== 'revoked') await changeOne(tools, id, { change: 'revoked', reason });
  tools.wake();
};

/** Passes notices on, those of one credential in the order in which they were made. */
export const createStandingHandler = (
  { keys, notices }: { readonly keys: Pick<ParticipantKeys, 'did'>; readonly notices: NoticeStore },
  publisher: StandingPublisher,
): TaskHandler => {
  const inTurn = createTurnsByKey();
  return async ({ subject }) => {
    await inTurn(subject, async () => {
      for (const notice of await notices.waiting(keys.did, subject)) {
        await publisher.publish(notice.jws);
        await notices.published(notice);
      }
    });
    return 'done';
  };
};
