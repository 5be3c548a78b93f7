import type { BrokerEvent, BrokerMessage, StandingNotice } from '../../contracts/events.ts';
import { ownershipOf, saysTheSame } from '../../contracts/standing.ts';
import { parseTime } from '../../contracts/time.ts';
import type { Followed } from './ports.ts';

/** The rules of following the broker (wire §7). Times in milliseconds. */

/** Silence begins when no heartbeat came for this long. */
export const silenceAfterMs = 3_000;
/** A word that bears another time than our clock by more than this is not of this moment (wire §9). */
const clockToleranceMs = 60_000;
/** Whoever was away for longer asks for a snapshot, and trusts nothing before it comes. */
export const snapshotAfterMs = 24 * 3_600_000;

/** Milliseconds of a time whose form was checked. */
export const msOf = (time: string): number => parseTime(time) ?? 0;

/** Time that passed, as a clock shows it that may be set. */
export interface Elapsed {
  readonly seen: number;
  readonly total: number;
}

/** A clock that is set back takes nothing back; one that is set forward counts, which shortens a grace and never extends it. */
export const elapse = ({ seen, total }: Elapsed, now: number): Elapsed => ({
  seen: now,
  total: total + Math.max(0, now - seen),
});

/** What to do with a message whose signature is good. */
export type Step =
  | { readonly do: 'hear' }
  | { readonly do: 'take'; readonly events: readonly Omit<BrokerEvent, 'n'>[]; readonly n: number }
  /** A word of another time, or one that was taken before. */
  | { readonly do: 'ignore' }
  /** Something is missing: ask again from behind what is known. */
  | { readonly do: 'resume' };

/** Whether a word is of this moment: later than every one before, and not of another day. */
const isFresh = (at: number, followed: Followed, now: number): boolean =>
  at > followed.wordAt && Math.abs(at - now) <= clockToleranceMs;

/** Judges the next message of the stream. */
export const nextStep = (followed: Followed, message: BrokerMessage, now: number): Step => {
  const { n } = followed;
  const at = msOf(message.at);
  switch (message.type) {
    case 'heartbeat':
      if (!isFresh(at, followed, now)) return { do: 'ignore' };
      return n === message.n ? { do: 'hear' } : { do: 'resume' };
    case 'snapshot':
      return isFresh(at, followed, now) ? { do: 'take', events: message.events, n: message.n } : { do: 'ignore' };
    case 'revoked':
    case 'suspended':
    case 'reinstated':
    case 'keys':
    case 'agreement-ended':
    case 'policy':
      if (n !== null && message.n <= n) return { do: 'ignore' };
      return n !== null && message.n === n + 1 ? { do: 'take', events: [message], n: message.n } : { do: 'resume' };
  }
};

/** Why an event's evidence does not carry it, before its signature is looked at; undefined when it may. */
export const faultOfEvidence = (
  event: Omit<BrokerEvent, 'n'>,
  notice: StandingNotice,
  its: { readonly broker: string; readonly owner: string | undefined },
): string | undefined => {
  if (!saysTheSame(event, notice)) return 'the evidence says something else than the event';
  if (ownershipOf(notice.issuer, notice.subject, its.broker) === 'foreign')
    return 'the subject is not one of this issuer';
  return its.owner !== undefined && its.owner !== notice.issuer
    ? 'the credential was issued by somebody else'
    : undefined;
};

/** The verdict of silence: how old the last word is, as far as an access may go on. */
export const judgeSilence = (
  silentMs: number,
  silence: 'strict' | number,
): { readonly state: 'good'; readonly statusAge: number | null } | { readonly state: 'unknown' } => {
  if (silentMs <= silenceAfterMs) return { state: 'good', statusAge: null };
  if (silence === 'strict' || silentMs > silenceAfterMs + silence) return { state: 'unknown' };
  return { state: 'good', statusAge: Math.floor(silentMs / 1_000) };
};

const firstPauseMs = 100;
const longestPauseMs = 5_000;

/** The pause before the next try: it doubles, with a random half (0 ≤ `share` < 1), so that many do not come back at once. */
export const pauseBefore = (failures: number, share: number): number => {
  const whole = Math.min(firstPauseMs * 2 ** Math.min(failures, 20), longestPauseMs);
  return Math.round(whole / 2 + (whole / 2) * share);
};
