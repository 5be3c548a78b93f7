import { canonicalize, type Json, type JsonObject } from '../contracts/json.ts';
import type { AtomicConstraint, Rule } from '../contracts/odrl/policy.ts';
import {
  type Atomic,
  areApart,
  type Box,
  boxesOf,
  contradictionOf,
  coversAction,
  isImplied,
  isRuleInside,
  ruleKey,
} from './boxes.ts';
import { type Sentence, wordOf } from './explain.ts';
import { textsOf } from './operands/operand.ts';
import { type PolicyNode, parsePolicy, type RuleNode } from './parse.ts';
import { shortName } from './terms.ts';

/**
 * Offers and counter-offers (odrl §7). A provider's limit is what it published; a consumer's is the mandate that its owner gave.
 * Pure and deterministic: the same facts and the same request get the same answer. Duties and prohibitions of a limit are never
 * dropped, and no counter-offer permits more than the limit it was made from.
 */

/** What a consumer's owner allows its connector to agree to. */
export interface Mandate {
  /** Permissions that the offer must give at least; prohibitions and obligations that it may have. */
  readonly least: JsonObject;
  /** Digests of the price plans that may be agreed to; an offer without a price always may. */
  readonly prices: readonly string[];
}

export interface Counter {
  /** What was asked for, within the limit. */
  readonly rules: JsonObject;
  /** What became of each term. */
  readonly terms: readonly Sentence[];
  /** How many terms are not as they were asked for. */
  readonly distance: number;
}

export type CounterResult =
  | { readonly ok: true; readonly counter: Counter }
  /** Why nothing of what was asked for lies within the limit. */
  | { readonly ok: false; readonly reasons: readonly Sentence[] };

const keysOf = (rules: readonly RuleNode[]): ReadonlySet<string> => new Set(rules.map(ruleKey));

const sameDuties = (a: readonly RuleNode[], b: readonly RuleNode[]): boolean => {
  const [mine, theirs] = [keysOf(a), keysOf(b)];
  return mine.size === theirs.size && [...mine].every((key) => theirs.has(key));
};

/** Whether a policy gives no more than the limit, and forbids and obliges to no less. */
export const refines = (asked: unknown, limit: unknown): boolean => {
  const [inner, outer] = [parsePolicy(asked), parsePolicy(limit)];
  if (!inner.ok || !outer.ok) return false;
  return (
    sameDuties(inner.policy.obligations, outer.policy.obligations) &&
    outer.policy.prohibitions.every((rule) => isRuleInside(rule, inner.policy.prohibitions)) &&
    inner.policy.permissions.every((rule) => isRuleInside(rule, outer.policy.permissions))
  );
};

const valuesOf = ({ right }: Atomic): string => (textsOf(right as never) ?? []).map(shortName).join(', ');

const said = (its: Atomic): Sentence => {
  const word = wordOf(its.operator);
  return { nl: `${word.nl} ${valuesOf(its)}`, en: `${word.en} ${valuesOf(its)}` };
};

const added = (limit: Atomic): Sentence => {
  const { label } = limit.operand;
  const it = said(limit);
  return {
    nl: `Toegevoegd: u noemde geen eis voor ${label.nl}; wij vragen: ${it.nl}.`,
    en: `Added: you set no term for ${label.en}; we require: ${it.en}.`,
  };
};

const narrowed = (asked: Atomic, limit: Atomic): Sentence => {
  const { label } = limit.operand;
  const [a, b] = [said(asked), said(limit)];
  return {
    nl: `Beperkt: u vroeg voor ${label.nl} ${a.nl}; wij bieden ${b.nl}.`,
    en: `Narrowed: for ${label.en} you asked ${a.en}; we offer ${b.en}.`,
  };
};

const refused = (asked: Atomic, limit: Atomic): Sentence => {
  const { label } = limit.operand;
  const [a, b] = [said(asked), said(limit)];
  return {
    nl: `Niet mogelijk: u vroeg voor ${label.nl} ${a.nl}; wij staan alleen ${b.nl} toe.`,
    en: `Refused: for ${label.en} you asked ${a.en}; we only allow ${b.en}.`,
  };
};

const forbidden = ({ action }: RuleNode): Sentence => ({
  nl: `Toegevoegd: ${shortName(action)} blijft verboden zoals in ons aanbod.`,
  en: `Added: ${shortName(action)} stays forbidden as in our offer.`,
});

const obliged = ({ action }: RuleNode): Sentence => ({
  nl: `Toegevoegd: de plicht ${shortName(action)} hoort bij ons aanbod.`,
  en: `Added: the duty ${shortName(action)} belongs to our offer.`,
});

const dropped = ({ action }: RuleNode): Sentence => ({
  nl: `Vervallen: de plicht ${shortName(action)} hoort niet bij ons aanbod.`,
  en: `Dropped: the duty ${shortName(action)} does not belong to our offer.`,
});

const noAction = ({ action }: RuleNode): Sentence => ({
  nl: `Niet mogelijk: ${shortName(action)} bieden wij niet aan.`,
  en: `Refused: we do not offer ${shortName(action)}.`,
});

const unclear: Sentence = {
  nl: 'Niet mogelijk: deze voorwaarden kunnen hier niet worden vergeleken.',
  en: 'Refused: these terms cannot be compared here.',
};

interface Met {
  readonly rule: Rule;
  readonly terms: readonly Sentence[];
}

/** One alternative of what was asked for with one of the limit; undefined when they cannot both hold. */
const meetBoxes = (action: string, asked: Box, limit: Box): Met | undefined => {
  if (areApart(asked, limit)) return undefined;
  const more = limit.filter((one) => !isImplied(asked, one));
  const kept = asked.filter((one) => !isImplied(more, one));
  const constraint: readonly AtomicConstraint[] = [...kept, ...more].map(({ source }) => source);
  const terms = more.map((one) => {
    const same = asked.find(({ operand }) => operand.iri === one.operand.iri);
    return same === undefined ? added(one) : narrowed(same, one);
  });
  return { rule: { action, ...(constraint.length === 0 ? {} : { constraint: [...constraint] }) }, terms };
};

/** The narrower of two actions of which one is included in the other; undefined for two that have nothing in common. */
const narrowerAction = (asked: RuleNode, limit: RuleNode): string | undefined => {
  if (coversAction(limit, asked)) return asked.source.action;
  return coversAction(asked, limit) ? limit.source.action : undefined;
};

const reasonsAgainst = (asked: RuleNode, limits: readonly RuleNode[]): readonly Sentence[] => {
  const near = limits.filter((limit) => narrowerAction(asked, limit) !== undefined);
  const boxes = boxesOf(asked);
  if (near.length === 0) return [noAction(asked)];
  const pairs = near.flatMap((limit) =>
    (boxesOf(limit) ?? []).flatMap((one) => (boxes ?? []).map((box) => [box, one] as const)),
  );
  const found = pairs.flatMap(([box, limit]) =>
    limit.flatMap((one) => {
      const against = contradictionOf(box, one);
      return against === undefined ? [] : [refused(against, one)];
    }),
  );
  return found.length === 0 ? [unclear] : found;
};

const meetRules = (asked: RuleNode, limits: readonly RuleNode[]): readonly Met[] =>
  limits.flatMap((limit) => {
    const action = narrowerAction(asked, limit);
    const [boxes, around] = [boxesOf(asked), boxesOf(limit)];
    if (action === undefined || boxes === undefined || around === undefined) return [];
    return boxes.flatMap((box) => around.flatMap((one) => meetBoxes(action, box, one) ?? []));
  });

const distinct = <Value>(values: readonly Value[]): readonly Value[] => [
  ...new Map(values.map((value) => [canonicalize(value as unknown as Json), value])).values(),
];

/** A counter-offer of more rules than this is for people. */
const maxRules = 20;
const maxTerms = 20;

const listed = (rules: readonly unknown[]): Json => distinct(rules) as unknown as Json;

const dutyTerms = (asked: PolicyNode, limit: PolicyNode): readonly Sentence[] => {
  const [mine, theirs] = [keysOf(asked.obligations), keysOf(limit.obligations)];
  return [
    ...limit.obligations.filter((rule) => !mine.has(ruleKey(rule))).map(obliged),
    ...asked.obligations.filter((rule) => !theirs.has(ruleKey(rule))).map(dropped),
  ];
};

/** What was asked for and the limit together, term by term; the limit's prohibitions and obligations as they stand. */
const meet = (asked: PolicyNode, limit: PolicyNode): CounterResult => {
  const met = asked.permissions.flatMap((rule) => meetRules(rule, limit.permissions));
  const permission = distinct(met.map(({ rule }) => rule));
  if (permission.length === 0)
    return {
      ok: false,
      reasons: distinct(asked.permissions.flatMap((rule) => reasonsAgainst(rule, limit.permissions))).slice(
        0,
        maxTerms,
      ),
    };
  if (permission.length > maxRules) return { ok: false, reasons: [unclear] };
  const more = limit.prohibitions.filter((rule) => !isRuleInside(rule, asked.prohibitions));
  const prohibition = [...asked.prohibitions, ...more].map(({ source }) => source);
  const obligation = limit.obligations.map(({ source }) => source);
  const terms = distinct([...met.flatMap((one) => one.terms), ...more.map(forbidden), ...dutyTerms(asked, limit)]);
  return {
    ok: true,
    counter: {
      rules: {
        permission: listed(permission),
        ...(prohibition.length === 0 ? {} : { prohibition: listed(prohibition) }),
        ...(obligation.length === 0 ? {} : { obligation: listed(obligation) }),
      },
      terms: terms.slice(0, maxTerms),
      distance: terms.length,
    },
  };
};

const notEvaluable = ({ path, message }: { readonly path: string; readonly message: string }): Sentence => ({
  nl: `Deze eis kan hier niet worden beoordeeld (${path}): ${message}.`,
  en: `This term cannot be judged here (${path}): ${message}.`,
});

/**
 * What a provider can offer instead of what was asked for, inside one limit of its own.
 *
 * @example counterOffer({ permission: [{ action: 'use' }] }, published) // the published permissions, with what was added
 */
export const counterOffer = (asked: unknown, limit: unknown): CounterResult => {
  const [mine, theirs] = [parsePolicy(asked), parsePolicy(limit)];
  if (!mine.ok) return { ok: false, reasons: mine.faults.slice(0, maxTerms).map(notEvaluable) };
  if (!theirs.ok) return { ok: false, reasons: [unclear] };
  return meet(mine.policy, theirs.policy);
};

const planOperand = 'urn:stekker:1:pricePlan';

/** The digests that an obligation fixes a price by; undefined for one about something else. */
const pricesOf = ({ constraints }: RuleNode): readonly string[] | undefined => {
  const [only, ...others] = constraints;
  if (only?.kind !== 'atomic' || others.length > 0 || only.operand.iri !== planOperand) return undefined;
  return only.range.kind === 'names' && !only.range.except ? [...only.range.names] : undefined;
};

const notGiven = ({ action, path }: RuleNode): Sentence => ({
  nl: `Het aanbod staat niet toe wat nodig is: ${shortName(action)} (${path} van het mandaat).`,
  en: `The offer does not permit what is needed: ${shortName(action)} (${path} of the mandate).`,
});

const notAllowed = ({ kind, action, path }: RuleNode): Sentence => ({
  nl: `Het aanbod vraagt meer dan het mandaat toelaat: ${kind} ${shortName(action)} (${path}).`,
  en: `The offer asks more than the mandate allows: ${kind} ${shortName(action)} (${path}).`,
});

const tooDear: Sentence = {
  nl: 'Het prijsplan van het aanbod valt buiten het mandaat.',
  en: 'The price plan of the offer lies outside the mandate.',
};

/** Whether a prohibition takes away something that must be permitted. */
const bites = (prohibition: RuleNode, needed: readonly RuleNode[]): boolean =>
  needed.some((rule) => {
    if (narrowerAction(prohibition, rule) === undefined) return false;
    const [boxes, around] = [boxesOf(prohibition), boxesOf(rule)];
    if (boxes === undefined || around === undefined) return true;
    return boxes.some((box) => around.some((one) => !areApart(box, one)));
  });

/** Why an offer lies outside a mandate; empty for one that may be accepted. */
export const outsideMandate = (offer: unknown, mandate: Mandate): readonly Sentence[] => {
  const [its, least] = [parsePolicy(offer), parsePolicy(mandate.least)];
  if (!its.ok) return its.faults.slice(0, maxTerms).map(notEvaluable);
  if (!least.ok) return [unclear];
  const { permissions, prohibitions, obligations } = its.policy;
  const needed = least.policy.permissions;
  const accepted = keysOf(least.policy.obligations);
  const prices = obligations.flatMap((rule) => pricesOf(rule) ?? []);
  return [
    ...needed.filter((rule) => !isRuleInside(rule, permissions)).map(notGiven),
    ...prohibitions
      .filter((rule) => bites(rule, needed) && !isRuleInside(rule, least.policy.prohibitions))
      .map(notAllowed),
    ...obligations.filter((rule) => pricesOf(rule) === undefined && !accepted.has(ruleKey(rule))).map(notAllowed),
    ...(prices.every((price) => mandate.prices.includes(price)) ? [] : [tooDear]),
  ];
};
