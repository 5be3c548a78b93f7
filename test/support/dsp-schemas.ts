import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2019 } from 'ajv/dist/2019.js';

/** The official JSON Schemas of the Dataspace Protocol (test/fixtures/dsp-schemas), and the examples beside them. */

const folder = join(import.meta.dirname, '../fixtures/dsp-schemas');

const filesIn = (path: string): string[] =>
  readdirSync(join(folder, path))
    .filter((name) => name.endsWith('.json'))
    .map((name) => join(path, name));

/** Three schemas lack the slash of their JSON Pointers and cannot be compiled as they are (dsp §10.1). */
const repaired = (text: string): string => text.replaceAll('.json#definitions/', '.json#/definitions/');

const namespace = 'https://w3id.org/dspace/2025/1';

/** Which schema a message of this type has. */
const schemaOf: Readonly<Record<string, string>> = {
  Catalog: 'catalog/catalog',
  CatalogError: 'catalog/catalog-error',
  CatalogRequestMessage: 'catalog/catalog-request-message',
  Dataset: 'catalog/dataset',
  ContractAgreementMessage: 'negotiation/contract-agreement-message',
  ContractAgreementVerificationMessage: 'negotiation/contract-agreement-verification-message',
  ContractNegotiation: 'negotiation/contract-negotiation',
  ContractNegotiationError: 'negotiation/contract-negotiation-error',
  ContractNegotiationEventMessage: 'negotiation/contract-negotiation-event-message',
  ContractNegotiationTerminationMessage: 'negotiation/contract-negotiation-termination-message',
  ContractOfferMessage: 'negotiation/contract-offer-message',
  ContractRequestMessage: 'negotiation/contract-request-message',
  TransferCompletionMessage: 'transfer/transfer-completion-message',
  TransferError: 'transfer/transfer-error',
  TransferProcess: 'transfer/transfer-process',
  TransferRequestMessage: 'transfer/transfer-request-message',
  TransferStartMessage: 'transfer/transfer-start-message',
  TransferSuspensionMessage: 'transfer/transfer-suspension-message',
  TransferTerminationMessage: 'transfer/transfer-termination-message',
  version: 'common/protocol-version',
};
export const messageTypes: readonly string[] = Object.keys(schemaOf);

export interface DspSchemas {
  readonly count: number;
  /** What is wrong with a message, or with the document of versions; empty when nothing is. */
  readonly faults: (type: string, message: unknown) => readonly string[];
}

export const loadDspSchemas = (): DspSchemas => {
  const ajv = new Ajv2019({ strict: false, allErrors: true });
  const files = ['catalog', 'common', 'negotiation', 'transfer'].flatMap(filesIn);
  for (const file of files) ajv.addSchema(JSON.parse(repaired(readFileSync(join(folder, file), 'utf8'))));
  return {
    count: files.length,
    faults: (type, message) => {
      const validate = ajv.getSchema(`${namespace}/${schemaOf[type]}-schema.json`);
      if (validate === undefined) return [`there is no schema for ${type}`];
      return validate(message) === true
        ? []
        : (validate.errors ?? []).map(({ instancePath, message: why = '' }) => `${type}${instancePath} ${why}`);
    },
  };
};

/** The examples of the standard, by their path. */
export const dspExamples = (): ReadonlyMap<string, unknown> =>
  new Map(
    ['catalog', 'common', 'negotiation', 'transfer']
      .flatMap((part) => filesIn(`${part}/example`))
      .map((file) => [file, JSON.parse(readFileSync(join(folder, file), 'utf8'))]),
  );
