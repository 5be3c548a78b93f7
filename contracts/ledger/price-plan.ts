import { z } from 'zod';
import { toBase64Url, utf8 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { canonicalize, isJsonObject } from '../json.ts';
import {
  bad,
  type Checked,
  decimal,
  good,
  positiveDecimal,
  readCanonical,
  type Units,
  unitName,
  version,
} from './forms.ts';

/** Price plans (wire §2): what one unit costs, in integers. */

const pricePlanForm = z.strictObject({
  v: version,
  type: z.literal('price-plan'),
  currency: z.string().regex(/^[A-Z]{3}$/, 'is no ISO 4217 code'),
  scale: z.string().regex(/^([0-9]|1[0-8])$/, 'is no scale from 0 to 18'),
  lines: z.array(z.strictObject({ unit: unitName, quantity: positiveDecimal, value: decimal })).max(16),
  notice: z.string().max(1000),
  free: z.boolean(),
});

/** A plan: `free` exactly when it has no lines, each unit once. */
export const pricePlan = pricePlanForm
  .refine((plan) => plan.free === (plan.lines.length === 0), {
    path: ['free'],
    message: 'is true exactly when there are no lines',
  })
  .refine((plan) => new Set(plan.lines.map((line) => line.unit)).size === plan.lines.length, {
    path: ['lines'],
    message: 'has a unit twice',
  });
export type PricePlan = z.infer<typeof pricePlanForm>;

export const pricePlanText = (plan: PricePlan): string => canonicalize(plan);

/** `b64u H(JCS(plan))`: how policies, records and statements name it. */
export const pricePlanDigest = (crypto: Pick<Crypto, 'sha256'>, plan: PricePlan): string =>
  toBase64Url(crypto.sha256(utf8(pricePlanText(plan))));

export const readPricePlan = (text: string): Checked<PricePlan> => readCanonical(pricePlan, text);

const planOperand = 'urn:stekker:1:pricePlan';

const textIn = (value: unknown): readonly string[] => {
  if (typeof value === 'string') return value === '' ? [] : [value];
  if (Array.isArray(value)) return value.flatMap(textIn);
  return isJsonObject(value) ? textIn(value['@value'] ?? value['@id'] ?? '') : [];
};

/** Digests of the price plans that the obligations of a policy name (wire §2); the policy may be anybody's. */
export const pricesIn = (rules: { readonly obligation?: unknown }): readonly string[] => {
  const obligations = Array.isArray(rules.obligation) ? rules.obligation.filter(isJsonObject) : [];
  const constraints = obligations.flatMap(({ constraint }) =>
    Array.isArray(constraint) ? constraint.filter(isJsonObject) : [],
  );
  const named = constraints.filter(({ leftOperand }) => leftOperand === planOperand);
  return [...new Set(named.flatMap(({ rightOperand }) => textIn(rightOperand)))];
};

const greatest = 2n ** 63n - 1n;

/**
 * What cumulative totals cost (ledger §8): the sum over the lines of `floor(total × value / quantity)`, in units of
 * 10^-scale. Never falls while totals grow.
 *
 * @example amountOf(plan, { requests: '3' }) // { ok: true, value: 75n }
 */
export const amountOf = (plan: PricePlan, totals: Units): Checked<bigint> => {
  const amount = plan.lines.reduce(
    (sum, line) => sum + (BigInt(totals[line.unit] ?? '0') * BigInt(line.value)) / BigInt(line.quantity),
    0n,
  );
  return amount > greatest ? bad('the amount is larger than 2^63-1') : good(amount);
};

/** An amount for people: `75` at scale 4 is `0.0075`. */
export const formatAmount = (value: string, scale: string): string => {
  const places = Number(scale);
  const digits = value.padStart(places + 1, '0');
  return places === 0 ? digits : `${digits.slice(0, -places)}.${digits.slice(-places)}`;
};

/** Adds units to totals; both are maps of decimal strings. */
export const addUnits = (totals: Units, more: Units): Units => {
  const sum: Record<string, string> = { ...totals };
  for (const [unit, count] of Object.entries(more)) sum[unit] = String(BigInt(sum[unit] ?? '0') + BigInt(count));
  return sum;
};
