import type { StandingNotice } from '../../contracts/events.ts';
import { type Ownership, ownershipOf, supersedes } from '../../contracts/standing.ts';
import { parseTime } from '../../contracts/time.ts';
import type { KnownNotice } from './ports.ts';

/** The rules of the stream: which notices are passed on, when the heart beats (wire §7). */

/** Clocks of issuers may be ahead of ours by this much (wire §9). */
const clockToleranceMs = 60_000;

/** Milliseconds of a time whose form was checked. */
export const msOf = (time: string): number => parseTime(time) ?? 0;

/**
 * The time of the next heartbeat: it grows, also when the clock is set back a little. After a jump that nobody would have
 * believed, the clock is followed again.
 */
export const nextBeat = (last: number, now: number): number =>
  now > last || last - now > clockToleranceMs ? now : last + 1;

/** What an SSE client says it has seen; undefined for anything but a plain number. */
export const readLastEventId = (text: string | null | undefined): number | undefined =>
  /^(0|[1-9]\d{0,15})$/.test(text ?? '') ? Number(text) : undefined;

export type Verdict =
  | { readonly do: 'publish'; readonly expected: number | null }
  /** It changes nothing: said before, or overtaken. */
  | { readonly do: 'nothing' }
  | { readonly do: 'refuse'; readonly why: string };

const refuse = (why: string): Verdict => ({ do: 'refuse', why });

/** Whether the issuer of a notice may speak about its subject. */
const faultOfIssuer = (
  notice: StandingNotice,
  its: { readonly owner: string | undefined; readonly registrar: string; readonly known: readonly KnownNotice[] },
): string | undefined => {
  const ownership: Ownership = ownershipOf(notice.issuer, notice.subject, its.registrar);
  if (ownership === 'foreign') return 'the subject is not one of this issuer';
  if (its.owner !== undefined && its.owner !== notice.issuer) return 'the credential was issued by somebody else';
  // A bare id says nothing of its issuer: whoever spoke first about it goes on speaking.
  const isTaken =
    ownership === 'unknown' && its.owner === undefined && its.known.some((one) => one.issuer !== notice.issuer);
  return isTaken ? 'somebody else spoke about this subject before' : undefined;
};

/** Judges a notice whose signature is good. `owner` is who issued the subject, where that is known. */
export const judgeNotice = (
  notice: StandingNotice,
  its: {
    readonly owner: string | undefined;
    readonly registrar: string;
    readonly known: readonly KnownNotice[];
    readonly now: number;
  },
): Verdict => {
  const at = msOf(notice.at);
  if (at > its.now + clockToleranceMs) return refuse('the notice is of the future');
  const fault = faultOfIssuer(notice, its);
  if (fault !== undefined) return refuse(fault);
  const known = its.known.find((one) => one.issuer === notice.issuer);
  if (supersedes(known, { type: notice.type, at })) return { do: 'publish', expected: known?.at ?? null };
  const isUndoing = known?.type === 'revoked' && notice.type !== 'revoked' && at > known.at;
  return isUndoing ? refuse('a revocation is final') : { do: 'nothing' };
};
