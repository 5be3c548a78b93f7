import { z } from 'zod';
import { AppError, type Fault } from '../contracts/errors.ts';

/** Policy templates: an ODRL policy with named places to fill in, and decisions that it must give. */

const text = z.strictObject({ nl: z.string().min(1), en: z.string().min(1) });

const parameter = z.strictObject({
  about: text,
  example: z.string().min(1),
  /** Several values, separated by commas. */
  list: z.boolean().optional(),
});

export const policyTemplate = z.strictObject({
  name: z.string().regex(/^[a-z][a-z-]{1,40}$/),
  title: text,
  about: text,
  parameters: z.record(z.string().regex(/^[a-z]+$/), parameter),
  /** Where a value is `"{name}"`, the parameter's value or list of values comes. */
  policy: z.record(z.string(), z.json()),
  /** What the policy, filled with the examples, decides at an access. */
  expected: z.array(z.strictObject({ facts: z.record(z.string(), z.json()), permitted: z.boolean() })).min(2),
});
export type PolicyTemplate = z.infer<typeof policyTemplate>;

const placeOf = (value: unknown): string | undefined =>
  typeof value === 'string' ? /^\{([a-z]+)\}$/.exec(value)?.[1] : undefined;

const fill = (value: unknown, values: Readonly<Record<string, string | readonly string[]>>): unknown => {
  const place = placeOf(value);
  if (place !== undefined) return values[place];
  if (Array.isArray(value)) return value.map((item) => fill(item, values));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fill(item, values)]));
};

/**
 * The policy of a template with these values.
 *
 * @throws AppError `invalid-request` naming every parameter that is missing or unknown, with an example.
 */
export const fillTemplate = (
  template: PolicyTemplate,
  given: Readonly<Record<string, string>>,
): { readonly [key: string]: unknown } => {
  const faults: Fault[] = [];
  const values: Record<string, string | readonly string[]> = {};
  for (const [name, { list, example }] of Object.entries(template.parameters)) {
    const value = given[name];
    if (value === undefined || value.trim() === '')
      faults.push({ path: `/${name}`, message: `is needed; example: ${name}=${example}` });
    else values[name] = list === true ? value.split(',').map((one) => one.trim()) : value;
  }
  for (const name of Object.keys(given)) {
    if (template.parameters[name] === undefined)
      faults.push({ path: `/${name}`, message: `is no parameter of the template ${template.name}` });
  }
  if (faults.length > 0)
    throw new AppError('invalid-request', { detail: `the template ${template.name} cannot be filled`, faults });
  return fill(template.policy, values) as { readonly [key: string]: unknown };
};

/** The examples of a template, as values to fill it with. */
export const examplesOf = (template: PolicyTemplate): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(template.parameters).map(([name, { example }]) => [name, example]));
