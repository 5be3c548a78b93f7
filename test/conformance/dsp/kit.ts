import {
  type CaseName,
  caseNames,
  type DocumentCase,
  groupOf,
  isProcessCase,
  type ProcessCase,
  stepsOf,
} from './cases.ts';
import { createDesk } from './desk.ts';
import type { Body } from './forms.ts';
import { CaseFailure, createCaller, listen } from './http.ts';
import type { Subject } from './messages.ts';
import { checkAnswer, createProcess, type Played, type World } from './process.ts';
import type { KitSettings } from './settings.ts';

/** Runs cases against a connector that runs somewhere, and says what became of each. */

export interface CaseResult {
  readonly name: CaseName;
  /** Why it failed; undefined for one that passed. */
  readonly failure: string | undefined;
}

const catalogRequest: Body = {
  '@context': ['https://w3id.org/dspace/2025/1/context.jsonld'],
  '@type': 'CatalogRequestMessage',
};

const fail = (reason: string): never => {
  throw new CaseFailure(reason);
};

const checkVersions = async (world: World): Promise<void> => {
  const { baseUrl, url } = world.settings;
  // Open to all: the one request without a proof of who asks.
  const answer = await createCaller('', world.settings.waitMs).get(`${baseUrl}/.well-known/dspace-version`);
  const body = checkAnswer(world, answer, { of: 'the version document', status: 200, form: 'Versions' });
  const versions = body.protocolVersions as readonly { readonly version: string; readonly path: string }[];
  const ours = versions.find(({ version }) => version === '2025-1') ?? fail('no version is 2025-1');
  const base = `${baseUrl}${ours.path}`.replace(/\/+$/, '');
  if (base !== url) fail(`version 2025-1 is said to be at ${base} and not at ${url}`);
};

const checkCatalog = async (world: World): Promise<void> => {
  const { settings, caller } = world;
  const answer = await caller.post(`${settings.url}/catalog/request`, catalogRequest);
  const body = checkAnswer(world, answer, { of: 'the catalog request', status: 200, form: 'Catalog' });
  if (body.participantId !== settings.agentId)
    fail(`the catalog is of ${String(body.participantId)} and not of ${settings.agentId}`);
  const wanted = settings.idOf('CAT:01-01', 'DATASETID');
  const datasets = (body.dataset ?? []) as readonly Body[];
  const ids = datasets.map((dataset) => dataset['@id']);
  if (!ids.includes(wanted)) fail(`the first answer of the catalog does not hold ${wanted}`);
  if (new Set(ids).size !== ids.length) fail('a dataset stands in the catalog more than once');
};

const checkDataset = async (world: World): Promise<void> => {
  const { settings, caller } = world;
  const wanted = settings.idOf('CAT:01-02', 'DATASETID');
  const answer = await caller.get(`${settings.url}/catalog/datasets/${encodeURIComponent(wanted)}`);
  const body = checkAnswer(world, answer, { of: 'the dataset', status: 200, form: 'Dataset' });
  if (body['@id'] !== wanted) fail(`the dataset is ${String(body['@id'])} and not ${wanted}`);
};

const checkUnknownDataset = async (world: World): Promise<void> => {
  const { settings, caller } = world;
  const unknown = settings.idOf('CAT:01-03', 'DATASETID');
  const answer = await caller.get(`${settings.url}/catalog/datasets/${encodeURIComponent(unknown)}`);
  checkAnswer(world, answer, { of: 'an unknown dataset', status: 404, form: 'CatalogError' });
};

const documentChecks: Readonly<Record<DocumentCase, (world: World) => Promise<void>>> = {
  'MET:01-01': checkVersions,
  'CAT:01-01': checkCatalog,
  'CAT:01-02': checkDataset,
  'CAT:01-03': checkUnknownDataset,
};

const subjectOf = ({ idOf }: KitSettings, name: ProcessCase): Subject => {
  const dataset = idOf(name, 'DATASETID');
  const offer = idOf(name, 'OFFERID') || `offer${dataset}`;
  return { dataset, offer, agreement: idOf(name, 'AGREEMENTID'), format: idOf(name, 'FORMAT') };
};

const playCase = async (played: Played, name: ProcessCase): Promise<void> => {
  for (const step of stepsOf(name)) {
    switch (step.do) {
      case 'request':
      case 'trigger':
      case 'quiet':
        await played[step.do]();
        break;
      case 'send':
      case 'take':
      case 'tryIn':
        await played[step.do](step.kind);
        break;
    }
  }
  await played.quiet();
};

const runProcess = async (world: World, name: ProcessCase): Promise<void> => {
  const group = groupOf(name);
  const played = createProcess(world, {
    protocol: group.startsWith('CN') ? 'negotiations' : 'transfers',
    role: group.endsWith('_C') ? 'provider' : 'consumer',
    subject: subjectOf(world.settings, name),
  });
  try {
    await playCase(played, name);
  } finally {
    played.end();
  }
};

const runCase = async (world: World, name: CaseName): Promise<CaseResult> => {
  try {
    await (isProcessCase(name) ? runProcess(world, name) : documentChecks[name](world));
    return { name, failure: undefined };
  } catch (error) {
    if (!(error instanceof CaseFailure)) throw error;
    return { name, failure: error.message };
  }
};

export interface KitOptions {
  readonly settings: KitSettings;
  readonly names?: readonly CaseName[];
  readonly onResult?: (result: CaseResult) => void;
}

/** Cases at once; they have nothing in common but the connector. */
const together = 8;

/** Runs the cases, all of them by default; the results in the order of the names. */
export const runKit = async ({ settings, names = caseNames, onResult }: KitOptions): Promise<readonly CaseResult[]> => {
  const desk = createDesk();
  const { host, port, callbackAddress } = settings;
  const basePath = new URL(callbackAddress).pathname.replace(/\/+$/, '');
  await using _server = await listen({ host, port, basePath }, desk.onMessage);
  const world: World = { settings, caller: createCaller(settings.authorization, settings.waitMs), desk };
  const results: CaseResult[] = [];
  const left = names.map((name, index) => ({ name, index }));
  const work = async (): Promise<void> => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      const result = await runCase(world, next.name);
      results[next.index] = result;
      onResult?.(result);
    }
  };
  await Promise.all(Array.from({ length: together }, work));
  return results;
};
