import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isAppError } from '../contracts/errors.ts';
import { compilePolicy, policyFaults } from './compile.ts';
import { decide } from './evaluate.ts';
import { examplesOf, fillTemplate, policyTemplate } from './template.ts';

const folder = join(import.meta.dirname, 'templates');
const templates = readdirSync(folder).map((file) =>
  policyTemplate.parse(JSON.parse(readFileSync(join(folder, file), 'utf8'))),
);

describe.each(templates.map((template) => [template.name, template] as const))('template %s', (name, template) => {
  test('is named as its file, and can be published', () => {
    expect(readdirSync(folder)).toContain(`${name}.jsonld`);
    expect(policyFaults(fillTemplate(template, examplesOf(template)))).toEqual([]);
  });

  test('gives the decisions it promises', () => {
    const compiled = compilePolicy(fillTemplate(template, examplesOf(template)), 'access');
    if (!compiled.ok) throw new Error(JSON.stringify(compiled.faults));
    for (const { facts, permitted } of template.expected)
      expect(decide(compiled.policy, facts), JSON.stringify(facts)).toBe(permitted);
  });

  test('leaves no place unfilled', () => {
    expect(JSON.stringify(fillTemplate(template, examplesOf(template)))).not.toMatch(/"\{[a-z]+\}"/);
  });
});

describe('filling a template', () => {
  const purpose = templates.find((template) => template.name === 'until');

  test('names every parameter that is missing or unknown, with an example', () => {
    if (purpose === undefined) throw new Error('no template');
    try {
      fillTemplate(purpose, { colour: 'red', end: ' ' });
      expect.unreachable();
    } catch (error) {
      if (!isAppError(error, 'invalid-request')) throw error;
      expect(error.faults.map((fault) => `${fault.path} ${fault.message}`)).toEqual([
        '/purpose is needed; example: purpose=urn:stekker:1:purpose:crisis',
        '/end is needed; example: end=2028-01-01T00:00:00Z',
        '/colour is no parameter of the template until',
      ]);
    }
  });

  test('a list takes several values', () => {
    if (purpose === undefined) throw new Error('no template');
    const filled = fillTemplate(purpose, { purpose: 'urn:a, urn:b', end: '2028-01-01T00:00:00Z' });
    expect(JSON.stringify(filled)).toContain('["urn:a","urn:b"]');
  });
});
