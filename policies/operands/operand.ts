import type { Operator, RightOperand } from '../../contracts/odrl/policy.ts';
import type { FactName, Facts, Moment, Truth } from '../facts.ts';

/** One left operand: which values and operators it takes, where its fact comes from, and from when on it is known. */
export interface Operand {
  /** Full IRI. */
  readonly iri: string;
  readonly fact: FactName;
  readonly operators: readonly Operator[];
  /** The first moment at which the fact is known; before it the constraint is left open. */
  readonly from: Moment;
  readonly label: { readonly nl: string; readonly en: string };
  /** The test for this operator and value, with the values that pass it, or why there is none. */
  readonly compile: (
    operator: Operator,
    right: RightOperand,
  ) => { readonly test: (facts: Facts) => Truth; readonly range: Range } | { readonly fault: string };
}

/** The values that satisfy a constraint, for comparing constraints without a fact at hand (odrl §7). */
export type Range =
  /** One of these names; or, `except`, any other. */
  | { readonly kind: 'names'; readonly names: ReadonlySet<string>; readonly except: boolean }
  /** From here to there; an open end does not belong to it. */
  | { readonly kind: 'line'; readonly from: End; readonly to: End }
  /** Everything but one point of a line. */
  | { readonly kind: 'but'; readonly value: number }
  /** Nothing that could be compared: what it means depends on the agreement. */
  | { readonly kind: 'open' };

export interface End {
  readonly value: number;
  readonly open: boolean;
}

export const truthOf = (holds: boolean): Truth => (holds ? 'satisfied' : 'unsatisfied');

/** The text of a value: a plain string, an IRI `{"@id"}`, or a string literal. */
const textOf = (value: string | { readonly [key: string]: unknown }): string | undefined => {
  if (typeof value === 'string') return value;
  const text = value['@id'] ?? value['@value'];
  return typeof text === 'string' ? text : undefined;
};

/** The values of a right operand as texts; undefined when one of them has none. */
export const textsOf = (right: RightOperand): readonly string[] | undefined => {
  const texts = (Array.isArray(right) ? right : [right]).map(textOf);
  return texts.every((text) => text !== undefined) ? texts : undefined;
};

/** The one text of a right operand, with its datatype. */
export const literalOf = (
  right: RightOperand,
): { readonly text: string; readonly type: string | undefined } | undefined => {
  if (typeof right === 'string') return { text: right, type: undefined };
  if (Array.isArray(right)) return undefined;
  const text = textOf(right);
  const type = right['@type'];
  return text === undefined ? undefined : { text, type: typeof type === 'string' ? type : undefined };
};

interface Names {
  readonly iri: string;
  readonly fact: FactName;
  readonly from: Moment;
  readonly label: { readonly nl: string; readonly en: string };
}

const oneOf = (allowed: ReadonlySet<string>, value: string | readonly string[]): boolean =>
  typeof value === 'string' ? allowed.has(value) : value.some((one) => allowed.has(one));

/** An operand whose fact is a name, or a list of names of which one must fit. */
export const nameOperand = (names: Names, read: (facts: Facts) => string | readonly string[] | undefined): Operand => ({
  ...names,
  operators: ['eq', 'neq', 'isAnyOf', 'isNoneOf', 'isA'],
  compile: (operator, right) => {
    const texts = textsOf(right);
    if (texts === undefined) return { fault: 'needs names as values' };
    if (['eq', 'neq', 'isA'].includes(operator) && texts.length !== 1) return { fault: `${operator} takes one value` };
    const allowed = new Set(texts);
    const isNegative = operator === 'neq' || operator === 'isNoneOf';
    return {
      range: { kind: 'names', names: allowed, except: isNegative },
      test: (facts) => {
        const value = read(facts);
        return value === undefined ? 'unknown' : truthOf(oneOf(allowed, value) !== isNegative);
      },
    };
  },
});

/** An operand whose fact is a number on a line. */
export const numberOperand = (
  names: Names,
  read: (facts: Facts) => number | undefined,
  parse: (text: string, type: string | undefined) => number | undefined,
): Operand => ({
  ...names,
  operators: ['lt', 'lteq', 'gt', 'gteq', 'eq', 'neq'],
  compile: (operator, right) => {
    const literal = literalOf(right);
    const limit = literal === undefined ? undefined : parse(literal.text, literal.type);
    if (limit === undefined) return { fault: 'has a value that cannot be read' };
    const compare = comparisons[operator];
    if (compare === undefined) return { fault: `does not take ${operator}` };
    return {
      range: lineOf(operator, limit),
      test: (facts) => {
        const value = read(facts);
        return value === undefined ? 'unknown' : truthOf(compare(value, limit));
      },
    };
  },
});

const closed = (value: number): End => ({ value, open: false });
const endless = { from: closed(Number.NEGATIVE_INFINITY), to: closed(Number.POSITIVE_INFINITY) };

const lineOf = (operator: Operator, value: number): Range => {
  switch (operator) {
    case 'neq':
      return { kind: 'but', value };
    case 'lt':
      return { kind: 'line', from: endless.from, to: { value, open: true } };
    case 'gt':
      return { kind: 'line', from: { value, open: true }, to: endless.to };
    case 'gteq':
      return { kind: 'line', from: closed(value), to: endless.to };
    case 'eq':
      return { kind: 'line', from: closed(value), to: closed(value) };
    default:
      return { kind: 'line', from: endless.from, to: closed(value) };
  }
};

export const comparisons: Readonly<Partial<Record<Operator, (value: number, limit: number) => boolean>>> = {
  lt: (value, limit) => value < limit,
  lteq: (value, limit) => value <= limit,
  'term-lteq': (value, limit) => value <= limit,
  gt: (value, limit) => value > limit,
  gteq: (value, limit) => value >= limit,
  eq: (value, limit) => value === limit,
  neq: (value, limit) => value !== limit,
};
