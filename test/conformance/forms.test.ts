import { describe, expect, test } from 'vitest';
import { dspExamples, loadDspSchemas, messageTypes } from '../support/dsp-schemas.ts';
import { type Body, type FormName, formFault } from './dsp/forms.ts';
import { type Kind, kinds, type Protocol, surfaces, writeError, writeMessage, writeOpening } from './dsp/messages.ts';

/** The kit's forms were written from the text of the standard: here its JSON Schemas say whether anything slips through. */

const schemas = loadDspSchemas();

const subject = { dataset: 'd', offer: 'o', agreement: 'a', format: 'HttpData-PULL' };
const pids = { providerPid: 'urn:uuid:p', consumerPid: 'urn:uuid:c' };

const written = (Object.entries(kinds) as [Protocol, (typeof kinds)[Protocol]][]).flatMap(([protocol, its]) => [
  ...(Object.keys(its) as Kind[]).map((kind) => writeMessage(protocol, kind, { pids, subject, agentId: 'did:web:a' })),
  writeOpening(protocol, { consumerPid: 'urn:uuid:c', callbackAddress: 'http://localhost:1', subject }),
  writeError(surfaces[protocol].error, pids, 'because'),
]);

/** The form that the kit holds a document of this kind against; none where it never gets one. */
const formOf = (example: string, body: Body): FormName | undefined => {
  const type = String(body['@type'] ?? 'Versions');
  if (type === 'ContractRequestMessage' && body.callbackAddress !== undefined) return 'FirstContractRequestMessage';
  if (type === 'ContractOfferMessage' && body.callbackAddress !== undefined) return undefined;
  return example.includes('did-service') || type === 'CatalogRequestMessage' ? undefined : (type as FormName);
};

const typeOf = (body: Body): string => String(body['@type'] ?? 'version');

/** Examples of the standard that its own schemas accept. */
const examples = [...dspExamples()]
  .map(([path, body]) => ({ path, body: body as Body, form: formOf(path, body as Body) }))
  .filter(
    ({ body }) =>
      [...messageTypes, 'version'].includes(typeOf(body)) && schemas.faults(typeOf(body), body).length === 0,
  )
  .flatMap(({ path, body, form }) => (form === undefined ? [] : [{ path, body, form }]));

type Change = (value: unknown) => unknown;
const changes: readonly Change[] = [
  () => undefined,
  () => 1,
  () => [],
  () => 'x',
  () => ({}),
  () => null,
  (value) => [value],
];

/** Every variant of a document in which one member, wherever it stands, is gone or something else. */
const variants = (value: unknown): readonly unknown[] => {
  if (typeof value !== 'object' || value === null) return [];
  const rebuilt = (key: string, next: unknown): unknown => {
    if (Array.isArray(value))
      return value.flatMap((item, index) => (String(index) !== key ? [item] : next === undefined ? [] : [next]));
    const { [key]: _old, ...rest } = value as Body;
    return next === undefined ? rest : { ...rest, [key]: next };
  };
  return Object.entries(value).flatMap(([key, inner]) => [
    ...changes.map((change) => rebuilt(key, change(inner))),
    ...variants(inner).map((next) => rebuilt(key, next)),
  ]);
};

describe('the forms of the kit', () => {
  test('are those of the standard: what the kit writes is valid by the official schemas', () => {
    expect(written.length).toBeGreaterThan(12);
    expect(written.flatMap((message) => schemas.faults(typeOf(message), message))).toEqual([]);
  });

  test('accept the examples of the standard', () => {
    expect(examples.length).toBeGreaterThan(15);
    const refused = examples.map(({ path, body, form }) => [path, formFault(form, body, [])]);
    expect(refused.filter(([, fault]) => fault !== undefined)).toEqual([]);
  });

  test('refuse whatever the official schemas refuse', () => {
    const wrong = examples.flatMap(({ path, body, form }) =>
      variants(body)
        .filter((variant) => schemas.faults(typeOf(body), variant).length > 0)
        .map((variant) => ({ path, form, variant })),
    );
    expect(wrong.length).toBeGreaterThan(1_000);
    const passed = wrong.filter(({ form, variant }) => formFault(form, variant, []) === undefined);
    expect(
      passed.map(({ path, variant }) => [
        path,
        JSON.stringify(variant),
        schemas.faults(String((variant as Body)['@type']), variant),
      ]),
    ).toEqual([]);
  });
});
