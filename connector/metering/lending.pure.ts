import type { Assurance } from '../../contracts/ledger/agreement.ts';
import type { Load } from './ports.ts';
import {
  counterpartyFactor,
  isTooOld,
  type Limits,
  least,
  leastBytes,
  minus,
  plus,
  type Rates,
  reservation,
  roomFor,
  shareOf,
  times,
} from './window.pure.ts';

/** How much of a window a journal is lent, and for how long: the same rules wherever what is lent is kept (ledger §8). */

const leaseMs = 10_000;
/** A journal that gives nothing back for so long is gone or stuck: what it has stays with it. */
export const recallMs = 500;

/** What nobody has: of the agreement's window and of its counterparty's. Undefined when what waits is too old. */
export const freeOfWindow = (
  window: Limits,
  exposed: { readonly own: Load; readonly peer: Load },
  { oldestAt, now }: { readonly oldestAt: number | null; readonly now: number },
): Load | undefined =>
  isTooOld(oldestAt, now, window)
    ? undefined
    : least(minus(window, exposed.own), minus(times(window, counterpartyFactor), exposed.peer));

/** What nobody has of the prepaid quota of a `plain-dsp` agreement. */
export const freeOfQuota = (quota: Pick<Load, 'requests' | 'bytes'>, used: Pick<Load, 'requests' | 'bytes'>): Load => ({
  requests: quota.requests - used.requests,
  bytes: quota.bytes - used.bytes,
  cost: Number.MAX_SAFE_INTEGER,
});

/** Nothing that is opened out of what is lent may be unstated for longer than the window allows. */
export const untilOf = (
  assurance: Assurance,
  { window, oldestAt, now }: { readonly window: Limits; readonly oldestAt: number | null; readonly now: number },
): number => {
  const longest = assurance === 'cosigned' ? (oldestAt ?? now) + window.ageMs : now + leaseMs;
  return Math.min(now + leaseMs, longest);
};

/** The part of `target` that is not there yet. */
const missingOf = (target: Load, have: Load): Load => ({
  requests: Math.max(0, Math.floor(target.requests - have.requests)),
  bytes: Math.max(0, Math.ceil(target.bytes - have.bytes)),
  cost: Math.max(0, target.cost - have.cost),
});

/**
 * What a journal is lent so that it has its share of half of what is free, its own unused part included; undefined when not
 * even one access has room. `journals`: how many share the window.
 */
export const loanOf = (
  free: Load,
  { unused, rates, journals }: { readonly unused: Load; readonly rates: Rates; readonly journals: number },
): Load | undefined => {
  const need = reservation(rates, 1, leastBytes);
  const isPriced = Object.keys(rates).length > 0;
  const both = plus(free, unused);
  if (!roomFor(both, need, isPriced)) return undefined;
  return least(missingOf(shareOf(both, need, 2 * journals, isPriced), unused), free);
};
