import type { PricePlan } from '../../contracts/ledger/price-plan.ts';
import type { UsageClose } from '../../contracts/ledger/usage-entry.ts';
import type { Load, MeterRole } from './ports.ts';

/**
 * The exposure window (ledger §8): what is reserved, unacknowledged, in dispute or conceded may not exceed it. Kept in plain
 * numbers, because it is asked on every access; what is owed is computed elsewhere, in exact integers.
 */

export interface Limits extends Load {
  /** How long the oldest access may be unacknowledged. */
  readonly ageMs: number;
}

/** wire §9 */
export const defaultWindow: Limits = { requests: 100_000, bytes: 16 * 2 ** 30, cost: 50, ageMs: 900_000 };
/** Per counterparty, times the window of one agreement. */
export const counterpartyFactor = 4;
/** Prepaid: the quota of a `plain-dsp` agreement. */
export const defaultQuota: Omit<Limits, 'cost' | 'ageMs'> = { requests: 1_000, bytes: 2 ** 30 };

export const nothing: Load = { requests: 0, bytes: 0, cost: 0 };

export const plus = (a: Load, b: Load): Load => ({
  requests: a.requests + b.requests,
  bytes: a.bytes + b.bytes,
  cost: a.cost + b.cost,
});

export const minus = (a: Load, b: Load): Load => ({
  requests: a.requests - b.requests,
  bytes: a.bytes - b.bytes,
  cost: a.cost - b.cost,
});

/** What one of each unit costs, in whole units of the currency. */
export type Rates = Readonly<Record<string, number>>;

export const ratesOf = (plan: PricePlan | null): Rates =>
  Object.fromEntries(
    (plan?.lines ?? []).map(({ unit, quantity, value }) => [
      unit,
      Number(value) / Number(quantity) / 10 ** Number(plan?.scale ?? 0),
    ]),
  );

/** What charged units cost, not rounded: never less than what will be owed for them. */
export const costOf = (rates: Rates, units: Readonly<Record<string, string>>): number => {
  let cost = 0;
  for (const unit in units) cost += (rates[unit] ?? 0) * Number(units[unit]);
  return cost;
};

/** What a closed access exposes. At the consumer only what it may owe: what a provider refused is never stated. */
export const loadOf = (role: MeterRole, rates: Rates, { part, bytes, units }: UsageClose): Load =>
  role === 'consumer' && Object.keys(units).length === 0
    ? nothing
    : { requests: part === 1 ? 1 : 0, bytes, cost: costOf(rates, units) };

/** What an access is reserved for before anybody knows what it brings. */
export const reservation = (rates: Rates, part: number, bytes: number): Load => {
  const requests = part === 1 ? 1 : 0;
  return { requests, bytes, cost: requests * (rates.requests ?? 0) + bytes * (rates.bytes ?? 0) };
};

/** Whether `more` fits beside what is exposed already. What cannot be reserved (items) is bounded by what came before it. */
export const fits = (exposed: Load, more: Load, limits: Load): boolean =>
  exposed.requests + more.requests <= limits.requests &&
  exposed.bytes + more.bytes <= limits.bytes &&
  exposed.cost < limits.cost &&
  exposed.cost + more.cost <= limits.cost;

/** Whether the oldest unacknowledged access is older than the window allows. */
export const isTooOld = (oldestAt: number | null, now: number, limits: Pick<Limits, 'ageMs'>): boolean =>
  oldestAt !== null && now - oldestAt > limits.ageMs;

/** Whether it is time to ask for a statement: half of the window, in any of its measures. */
export const isHalfFull = (exposed: Load, oldestAt: number | null, now: number, limits: Limits): boolean =>
  exposed.requests >= limits.requests / 2 ||
  exposed.bytes >= limits.bytes / 2 ||
  exposed.cost > limits.cost / 2 ||
  isTooOld(oldestAt, now, { ageMs: limits.ageMs / 2 });

const forgivenShare = 0.01;

/**
 * What was conceded beyond 1 % of the co-signed totals never returns to the window: otherwise a consumer that cuts each
 * body one byte short reads for nothing for ever.
 */
export const concededBeyond = (conceded: Load, acknowledged: Load): Load => ({
  requests: Math.max(0, Math.ceil(conceded.requests - acknowledged.requests * forgivenShare)),
  bytes: Math.max(0, Math.ceil(conceded.bytes - acknowledged.bytes * forgivenShare)),
  cost: Math.max(0, conceded.cost - acknowledged.cost * forgivenShare),
});

/** The smaller of both, measure by measure. */
export const least = (a: Load, b: Load): Load => ({
  requests: Math.min(a.requests, b.requests),
  bytes: Math.min(a.bytes, b.bytes),
  cost: Math.min(a.cost, b.cost),
});

/** The bytes that an access is reserved for when it is opened, at least (wire §9). */
export const leastBytes = 1_048_576;

/** Whether `need` fits into what is free. Where there is a price, something of it must be left: items cannot be reserved. */
export const roomFor = (free: Load, need: Load, isPriced: boolean): boolean =>
  need.requests <= free.requests &&
  need.bytes <= free.bytes &&
  (!isPriced || (free.cost > 0 && need.cost <= free.cost));

/** One of `parts` equal shares of what is free, and never less than `need`. */
export const shareOf = (free: Load, need: Load, parts: number, isPriced: boolean): Load => ({
  requests: Math.max(need.requests, Math.floor(free.requests / parts)),
  bytes: Math.max(need.bytes, Math.floor(free.bytes / parts)),
  cost: isPriced ? Math.max(need.cost, free.cost / parts) : 0,
});

export const times = (limits: Load, factor: number): Load => ({
  requests: limits.requests * factor,
  bytes: limits.bytes * factor,
  cost: limits.cost * factor,
});
