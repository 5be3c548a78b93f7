import type { Fault } from '../contracts/errors.ts';
import {
  type AtomicConstraint,
  type Constraint,
  type LogicalKey,
  logicalKeys,
  policyRules,
  type Rule,
} from '../contracts/odrl/policy.ts';
import type { Facts, Truth } from './facts.ts';
import { accreditedFor } from './operands/accredited-for.ts';
import { applicationVersion } from './operands/application-version.ts';
import { count } from './operands/count.ts';
import { dateTime } from './operands/date-time.ts';
import { inForceDate } from './operands/in-force-date.ts';
import { membership } from './operands/membership.ts';
import type { Operand, Range } from './operands/operand.ts';
import { pricePlan } from './operands/price-plan.ts';
import { purpose } from './operands/purpose.ts';
import { recipient } from './operands/recipient.ts';
import { role } from './operands/role.ts';
import { currentAction, fullIri, isKnownAction, shortName } from './terms.ts';

/** From the JSON of a policy to rules in one form, with every term known; all faults at once (odrl §2, §3). */

export type ConstraintNode =
  | {
      readonly kind: 'atomic';
      readonly operand: Operand;
      readonly operator: string;
      readonly right: unknown;
      readonly test: (facts: Facts) => Truth;
      readonly range: Range;
      /** As it was written. */
      readonly source: AtomicConstraint;
      readonly path: string;
    }
  | { readonly kind: LogicalKey; readonly parts: readonly ConstraintNode[]; readonly path: string };

export interface RuleNode {
  readonly kind: 'permission' | 'prohibition' | 'obligation';
  /** Full IRI, today's name. */
  readonly action: string;
  /** All of them must hold. */
  readonly constraints: readonly ConstraintNode[];
  /** As it was written. */
  readonly source: Rule;
  readonly path: string;
}

export interface PolicyNode {
  readonly permissions: readonly RuleNode[];
  readonly prohibitions: readonly RuleNode[];
  readonly obligations: readonly RuleNode[];
}

export type Parsed =
  | { readonly ok: true; readonly policy: PolicyNode }
  | { readonly ok: false; readonly faults: readonly Fault[] };

const operands: ReadonlyMap<string, Operand> = new Map(
  [
    purpose,
    dateTime,
    inForceDate,
    count,
    recipient,
    membership,
    role,
    accreditedFor,
    applicationVersion,
    pricePlan,
  ].map((operand) => [operand.iri, operand]),
);

/** Members of a policy that would change what it means, and that we do not evaluate (odrl §2): refused, never ignored. */
const ruleMembers = new Set(['action', 'constraint', 'uid', '@id', '@type', 'target', 'assigner', 'assignee']);
const constraintMembers = new Set(['leftOperand', 'operator', 'rightOperand', 'uid', '@id', '@type', ...logicalKeys]);
const policyMembers = new Set([
  '@context',
  '@id',
  '@type',
  'uid',
  'target',
  'assigner',
  'assignee',
  'timestamp',
  'profile',
  'permission',
  'prohibition',
  'obligation',
  'urn:stekker:1:assurance',
]);

class Faults {
  readonly list: Fault[] = [];
  add(path: string, message: string): undefined {
    this.list.push({ path, message });
    return undefined;
  }
  unknownMembers(value: object, known: ReadonlySet<string>, path: string): void {
    for (const name of Object.keys(value))
      if (!known.has(name)) this.add(`${path}/${name}`, `${name} is not evaluated here`);
  }
}

const isAtomic = (constraint: Constraint): constraint is AtomicConstraint => 'leftOperand' in constraint;

const parseAtomic = (constraint: AtomicConstraint, path: string, faults: Faults): ConstraintNode | undefined => {
  const iri = fullIri(constraint.leftOperand);
  const operand = operands.get(iri);
  if (operand === undefined) return faults.add(`${path}/leftOperand`, `${shortName(iri)} is not known here`);
  const { operator, rightOperand: right } = constraint;
  if (!operand.operators.includes(operator))
    return faults.add(`${path}/operator`, `${operator} is not evaluated for ${shortName(iri)}`);
  const compiled = operand.compile(operator, right);
  if ('fault' in compiled) return faults.add(`${path}/rightOperand`, `${shortName(iri)} ${compiled.fault}`);
  const { test, range } = compiled;
  return { kind: 'atomic', operand, operator, right, test, range, source: constraint, path };
};

const parseConstraint = (constraint: Constraint, path: string, faults: Faults): ConstraintNode | undefined => {
  faults.unknownMembers(constraint, constraintMembers, path);
  if (isAtomic(constraint)) return parseAtomic(constraint, path, faults);
  const kind = logicalKeys.find((key) => constraint[key] !== undefined) ?? 'and';
  const parts = (constraint[kind] ?? []).map((part, index) =>
    parseConstraint(part, `${path}/${kind}/${index}`, faults),
  );
  return { kind, parts: parts.filter((part) => part !== undefined), path };
};

const parseRule = (rule: Rule, kind: RuleNode['kind'], path: string, faults: Faults): RuleNode => {
  faults.unknownMembers(rule, ruleMembers, path);
  const action = currentAction(rule.action);
  if (kind === 'permission' && !isKnownAction(action))
    faults.add(`${path}/action`, `${shortName(action)} is no action that is known here`);
  const constraints = (rule.constraint ?? []).map((one, index) =>
    parseConstraint(one, `${path}/constraint/${index}`, faults),
  );
  return { kind, action, constraints: constraints.filter((one) => one !== undefined), source: rule, path };
};

/**
 * Reads the rules of an offer or agreement. Unknown terms, operators, datatypes and members are faults: a policy with one
 * of them is never evaluated as if it were not there.
 */
export const parsePolicy = (value: unknown): Parsed => {
  const form = policyRules.safeParse(value);
  if (!form.success) {
    return {
      ok: false,
      faults: form.error.issues.map((issue) => ({
        path: issue.path.map((part) => `/${String(part)}`).join(''),
        message: issue.message,
      })),
    };
  }
  const faults = new Faults();
  faults.unknownMembers(form.data, policyMembers, '');
  const read = (list: 'permission' | 'prohibition' | 'obligation') =>
    (form.data[list] ?? []).map((rule, index) => parseRule(rule, list, `/${list}/${index}`, faults));
  const policy = {
    permissions: read('permission'),
    prohibitions: read('prohibition'),
    obligations: read('obligation'),
  };
  return faults.list.length === 0 ? { ok: true, policy } : { ok: false, faults: faults.list };
};
