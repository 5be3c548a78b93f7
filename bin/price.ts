import { AppError } from '../contracts/errors.ts';
import { formatAmount } from '../contracts/ledger/price-plan.ts';

/** Prices as people write them, as the integers that a price plan holds (wire §2): never a float on the way. */

interface PriceLine {
  readonly unit: string;
  readonly quantity: string;
  readonly value: string;
}

export interface Price {
  readonly currency: string;
  readonly scale: string;
  readonly lines: readonly PriceLine[];
}

const units: Readonly<Record<string, { readonly unit: string; readonly factor: bigint }>> = {
  request: { unit: 'requests', factor: 1n },
  requests: { unit: 'requests', factor: 1n },
  item: { unit: 'items', factor: 1n },
  items: { unit: 'items', factor: 1n },
  byte: { unit: 'bytes', factor: 1n },
  bytes: { unit: 'bytes', factor: 1n },
  MB: { unit: 'bytes', factor: 1_000_000n },
  GB: { unit: 'bytes', factor: 1_000_000_000n },
};

const form = /^(\d{1,15})(?:\.(\d{1,9}))? ([A-Z]{3}) per (?:([1-9]\d{0,12}) )?([A-Za-z]+)$/;

const example = 'write it as: 0.25 EUR per request, 5 EUR per 1000 items, 0.02 EUR per GB';

const parse = (text: string) => {
  const [, whole = '', fraction = '', currency = '', quantity = '1', unit = ''] = form.exec(text.trim()) ?? [];
  const known = units[unit];
  if (known === undefined) throw new AppError('invalid-request', { detail: `"${text}" is no price; ${example}` });
  return { whole, fraction, currency, unit: known.unit, quantity: String(BigInt(quantity) * known.factor) };
};

/**
 * The lines of a price plan from texts such as `0.25 EUR per request`; the scale is that of the finest amount.
 *
 * @throws AppError `invalid-request` with an example.
 *
 * @example parsePrices(['0.25 EUR per request']) // { currency: 'EUR', scale: '2', lines: [{ unit: 'requests', quantity: '1', value: '25' }] }
 */
export const parsePrices = (texts: readonly string[]): Price | undefined => {
  const parsed = texts.map(parse);
  const [first] = parsed;
  if (first === undefined) return undefined;
  const { currency } = first;
  if (parsed.some((price) => price.currency !== currency))
    throw new AppError('invalid-request', { detail: 'all prices of one offer are in one currency' });
  const scale = Math.max(...parsed.map(({ fraction }) => fraction.length));
  const integerOf = (whole: string, fraction: string) => String(BigInt(`${whole}${fraction.padEnd(scale, '0')}`));
  return {
    currency,
    scale: String(scale),
    lines: parsed.map(({ whole, fraction, unit, quantity }) => ({ unit, quantity, value: integerOf(whole, fraction) })),
  };
};

/** A plan as people read it: the same form as they write it. */
export const priceText = ({ currency, scale, lines }: Price): string =>
  lines
    .map(({ unit, quantity, value }) => {
      const per = quantity === '1' ? unit.replace(/s$/, '') : `${quantity} ${unit}`;
      return `${formatAmount(value, scale)} ${currency} per ${per}`;
    })
    .join(' + ');
