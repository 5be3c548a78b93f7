import { z } from 'zod';

/**
 * ODRL policies in the form that the Dataspace Protocol carries (dsp §5.2, §10; odrl §2). Reading is tolerant, because
 * unknown members are legal there; what a policy means, and whether every term of it is known, `policies/` decides.
 */

export const odrlNamespace = 'http://www.w3.org/ns/odrl/2/';

/** Bare words; `term-lteq` is a slip of the standard's schema that peers may repeat. */
export const operators = [
  'eq',
  'gt',
  'gteq',
  'lteq',
  'hasPart',
  'isA',
  'isAllOf',
  'isAnyOf',
  'isNoneOf',
  'isPartOf',
  'lt',
  'term-lteq',
  'neq',
] as const;
export type Operator = (typeof operators)[number];

export const logicalKeys = ['and', 'or', 'xone', 'andSequence'] as const;
export type LogicalKey = (typeof logicalKeys)[number];

/** An object value: an IRI `{"@id"}` or a typed literal `{"@value", "@type"}`. */
const objectValue = z.record(z.string(), z.json());
const rightOperand = z.union([z.string(), objectValue, z.array(z.union([z.string(), objectValue])).min(1)], {
  error: 'must be text, an object or a list of them: numbers and booleans are written as typed literals',
});
export type RightOperand = z.infer<typeof rightOperand>;

export const atomicConstraint = z.looseObject({
  leftOperand: z.string().min(1),
  operator: z.enum(operators, { error: 'is no operator of ODRL' }),
  rightOperand,
});
export type AtomicConstraint = z.infer<typeof atomicConstraint>;

const maxConstraints = 100;

/** A constraint: atomic, or one of the logical keys over a list. */
export type Constraint =
  | AtomicConstraint
  | ({ readonly [Key in LogicalKey]?: readonly Constraint[] | undefined } & { readonly [key: string]: unknown });

export const constraint: z.ZodType<Constraint> = z.lazy(() => z.union([atomicConstraint, logicalConstraint]));

const logicalConstraint = z
  .looseObject({
    and: z.array(constraint).min(1).max(maxConstraints).optional(),
    or: z.array(constraint).min(1).max(maxConstraints).optional(),
    xone: z.array(constraint).min(1).max(maxConstraints).optional(),
    andSequence: z.array(constraint).min(1).max(maxConstraints).optional(),
  })
  .refine((value) => !('leftOperand' in value) && logicalKeys.filter((key) => key in value).length === 1, {
    message: 'must be atomic, or have exactly one of and, or, xone, andSequence',
  });

export const rule = z.looseObject({
  action: z.string().min(1),
  constraint: z.array(constraint).min(1).max(maxConstraints).optional(),
});
export type Rule = z.infer<typeof rule>;

const rules = z.array(rule).min(1).max(maxConstraints);

/** The three lists of rules; an empty list is left out, never sent. */
export const ruleLists = {
  permission: rules.optional(),
  prohibition: rules.optional(),
  obligation: rules.optional(),
};

/** Only obligations is no policy: somebody must be permitted, or forbidden, something (dsp §10.4). */
export const hasRules = (policy: { readonly permission?: unknown; readonly prohibition?: unknown }): boolean =>
  policy.permission !== undefined || policy.prohibition !== undefined;

/** The rules of a policy without its frame: what an owner writes, and what offers and agreements share. */
export const policyRules = z
  .looseObject(ruleLists)
  .refine(hasRules, { message: 'needs a permission or a prohibition' });
