import { readdirSync, readFileSync } from 'node:fs';
import { type PolicyTemplate, policyTemplate } from '../../../policies/template.ts';

/** The templates that come with the program; each stands in a file of its own name. */
const folder = new URL('../../../policies/templates/', import.meta.url);
const ending = '.jsonld';

/** Reads every template once, at start: a broken one is found then, and not by the owner who needs it. */
export const readPolicyTemplates = (): ReadonlyMap<string, PolicyTemplate> => {
  const names = readdirSync(folder).filter((name) => name.endsWith(ending));
  const read = (name: string) => policyTemplate.parse(JSON.parse(readFileSync(new URL(name, folder), 'utf8')));
  return new Map(names.toSorted().map((name) => [name.slice(0, -ending.length), read(name)]));
};
