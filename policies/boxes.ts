import { canonicalize, type Json } from '../contracts/json.ts';
import type { FactName } from './facts.ts';
import type { Range } from './operands/operand.ts';
import type { ConstraintNode, RuleNode } from './parse.ts';
import { actionsAbove } from './terms.ts';

/**
 * Rules as boxes, for comparing them without facts (odrl §7): a box is a list of single constraints that all hold, a rule is
 * any of its boxes. What is said here is sound and not complete: "contained" is never wrong, "not contained" may be.
 */

export type Atomic = Extract<ConstraintNode, { readonly kind: 'atomic' }>;
export type Box = readonly Atomic[];

/** More alternatives than this in one rule need a person. */
const maxBoxes = 64;

const product = (parts: readonly (readonly Box[] | undefined)[]): readonly Box[] | undefined => {
  let boxes: readonly Box[] = [[]];
  for (const part of parts) {
    if (part === undefined || boxes.length * part.length > maxBoxes) return undefined;
    boxes = boxes.flatMap((box) => part.map((more) => [...box, ...more]));
  }
  return boxes;
};

const boxesIn = (node: ConstraintNode): readonly Box[] | undefined => {
  if (node.kind === 'atomic') return [[node]];
  const parts = node.parts.map(boxesIn);
  if (node.kind === 'and' || node.kind === 'andSequence') return product(parts);
  if (node.kind === 'xone' && parts.length > 1) return undefined; // "and none of the others" is no box
  if (parts.some((part) => part === undefined)) return undefined;
  const boxes = parts.flatMap((part) => part ?? []);
  return boxes.length > maxBoxes ? undefined : boxes;
};

/** The boxes of a rule; undefined for one that cannot be said in that many. */
export const boxesOf = ({ constraints }: RuleNode): readonly Box[] | undefined => product(constraints.map(boxesIn));

type Names = Extract<Range, { readonly kind: 'names' }>;
type Line = Extract<Range, { readonly kind: 'line' }>;

const all = (a: Names, test: (name: string) => boolean): boolean => [...a.names].every(test);

/** Facts with several values of which one must fit: there "one of A" says nothing against "none of B" outside A. */
const severalValues: ReadonlySet<FactName> = new Set(['membership', 'role', 'accreditedFor']);

const namesInside = (a: Names, b: Names, several: boolean): boolean => {
  if (a.except) return b.except && all(b, (name) => a.names.has(name));
  if (!b.except) return all(a, (name) => b.names.has(name));
  return !several && all(a, (name) => !b.names.has(name));
};

const namesApart = (a: Names, b: Names, several: boolean): boolean => {
  if (a.except && b.except) return false;
  if (a.except) return namesApart(b, a, several);
  if (b.except) return all(a, (name) => b.names.has(name));
  return !several && all(a, (name) => !b.names.has(name));
};

const lineInside = (a: Line, b: Line): boolean => {
  const from = a.from.value > b.from.value || (a.from.value === b.from.value && (a.from.open || !b.from.open));
  const to = a.to.value < b.to.value || (a.to.value === b.to.value && (a.to.open || !b.to.open));
  return from && to;
};

const endsBefore = (a: Line, b: Line): boolean =>
  a.to.value < b.from.value || (a.to.value === b.from.value && (a.to.open || b.from.open));

const holds = ({ from, to }: Line, value: number): boolean =>
  (value > from.value || (value === from.value && !from.open)) &&
  (value < to.value || (value === to.value && !to.open));

const isPoint = ({ from, to }: Line): boolean => from.value === to.value;

/** Whether every fact that satisfies `a` satisfies `b`; both are about the same operand. */
const rangeInside = (a: Range, b: Range, several: boolean): boolean => {
  if (a.kind === 'open' || b.kind === 'open') return false;
  if (a.kind === 'names') return b.kind === 'names' && namesInside(a, b, several);
  if (b.kind === 'names') return false;
  if (b.kind === 'but') return a.kind === 'but' ? a.value === b.value : !holds(a, b.value);
  return a.kind === 'line' && lineInside(a, b);
};

/** Whether no fact satisfies both. */
const rangesApart = (a: Range, b: Range, several: boolean): boolean => {
  if (a.kind === 'open' || b.kind === 'open') return false;
  if (a.kind === 'names') return b.kind === 'names' && namesApart(a, b, several);
  if (b.kind === 'names') return false;
  if (a.kind === 'but') return b.kind === 'line' && isPoint(b) && b.from.value === a.value;
  if (b.kind === 'but') return isPoint(a) && a.from.value === b.value;
  return endsBefore(a, b) || endsBefore(b, a);
};

const isSame = (a: Atomic, b: Atomic): boolean => a.operand.iri === b.operand.iri;
const hasSeveral = ({ operand }: Atomic): boolean => severalValues.has(operand.fact);

/** Whether a constraint holds wherever the box does. */
export const isImplied = (box: Box, constraint: Atomic): boolean =>
  box.some((one) => isSame(one, constraint) && rangeInside(one.range, constraint.range, hasSeveral(one)));

/** The constraint of a box that no fact can satisfy together with this one. */
export const contradictionOf = (box: Box, constraint: Atomic): Atomic | undefined =>
  box.find((one) => isSame(one, constraint) && rangesApart(one.range, constraint.range, hasSeveral(one)));

/** Whether one box lies inside another. */
export const isBoxInside = (inner: Box, outer: Box): boolean => outer.every((one) => isImplied(inner, one));

/** Whether no facts satisfy both boxes. */
export const areApart = (a: Box, b: Box): boolean => b.some((one) => contradictionOf(a, one) !== undefined);

/** Whether a rule for the outer action speaks about the inner one, too. */
export const coversAction = (outer: RuleNode, inner: RuleNode): boolean =>
  actionsAbove(inner.action).includes(outer.action);

/** A rule by what it says: its action and constraints, as they were written. */
export const ruleKey = ({ action, source }: RuleNode): string =>
  canonicalize([action, (source.constraint ?? []) as unknown as Json]);

/** Whether wherever the inner rule speaks, one of the outer ones does. */
export const isRuleInside = (inner: RuleNode, outer: readonly RuleNode[]): boolean => {
  if (outer.some((rule) => ruleKey(rule) === ruleKey(inner))) return true;
  const boxes = boxesOf(inner);
  const around = outer.filter((rule) => coversAction(rule, inner)).flatMap((rule) => boxesOf(rule) ?? []);
  return boxes?.every((box) => around.some((one) => isBoxInside(box, one))) ?? false;
};
