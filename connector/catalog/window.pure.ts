import type { Json } from '../../contracts/json.ts';
import { isJsonObject } from '../../contracts/json.ts';

/** A part of a catalog by place, as EDC's own API asks for it: in the filter, as a query that filters nothing. */
export interface Window {
  readonly offset: number;
  readonly limit: number;
}

const maxOffset = 10_000;
const maxLimit = 500;

const wholeOf = (value: Json | undefined, most: number): number | undefined =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 ? Math.min(value, most) : undefined;

/**
 * Reads a `QuerySpec` without expressions; undefined for every filter that would have to be evaluated, and for a place
 * further in than 10,000: there the links lead.
 */
export const windowOf = (filter: readonly Json[]): Window | undefined => {
  const [query, ...others] = filter;
  if (others.length > 0 || query === undefined || !isJsonObject(query) || query['@type'] !== 'QuerySpec')
    return undefined;
  const expressions = query.filterExpression ?? [];
  const offset = wholeOf(query.offset ?? 0, maxOffset + 1);
  const limit = wholeOf(query.limit ?? maxLimit, maxLimit);
  if (!Array.isArray(expressions) || expressions.length > 0) return undefined;
  return offset === undefined || offset > maxOffset || limit === undefined ? undefined : { offset, limit };
};
