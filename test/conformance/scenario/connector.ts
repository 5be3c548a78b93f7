import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ConnectorParts } from '../../../connector/parts.ts';
import { AppError } from '../../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import { didOf } from '../../../kernel/did.ts';
import type { Logger } from '../../../kernel/log.ts';
import { silentLogger } from '../../../kernel/log.ts';
import { connectorBench, type OperatedConnector } from '../../support/chain-world.ts';
import { processCases } from '../dsp/cases.ts';
import { participant as peer } from '../dsp/messages.ts';
import type { KitSettings } from '../dsp/settings.ts';
import { type HeldAgreement, putAgreements } from './agreements.ts';
import { rules, scriptedDecisions } from './scripts.ts';
import { listenForTriggers } from './triggers.ts';

/**
 * The real connector for a conformance kit. Three of its parts are replaced, as its public options allow: who calls (a
 * kit knows one fixed header and no DCP), and what the owner decides in negotiations and in transfers. Everything else is what a data holder runs.
 */

export interface ScenarioOptions {
  readonly settings: KitSettings;
  /** Before each decision: the official kit must see each state. */
  readonly pauseMs?: number;
  /** As STEKKER_EXTENSIONS: all of them unless said otherwise. */
  readonly extensions?: string;
  readonly log?: Logger;
}

const defaultPauseMs = 60;
const participant = 'main' as ParticipantId;

const partsFor = (settings: KitSettings, pauseMs: number): ConnectorParts => {
  const { decisions, transferDecisions } = scriptedDecisions(settings, pauseMs);
  return {
    authenticate: () => async (_participant, headers) => {
      if ((headers.get('authorization') ?? '') !== settings.authorization) throw new AppError('unauthenticated');
      return { did: peer as Did };
    },
    decisions: () => decisions,
    transferDecisions: () => transferDecisions,
  };
};

interface Offered {
  readonly dataset: string;
  readonly offer: string;
}

/** Every dataset that the cases ask for; the unknown one is not among them. */
const offeredIn = ({ idOf }: KitSettings): readonly Offered[] => [
  ...['CAT:01-01', 'CAT:01-02']
    .map((name) => idOf(name, 'DATASETID'))
    .map((dataset) => ({ dataset, offer: `offer${dataset}` })),
  ...processCases
    .filter((name) => name.startsWith('CN:'))
    .map((name) => ({ dataset: idOf(name, 'DATASETID'), offer: idOf(name, 'OFFERID') })),
];

/** Publishes through the operator's API, as an owner does. */
const publish = async ({ operate }: OperatedConnector, file: string, offered: readonly Offered[]): Promise<void> => {
  const must = async (path: string, body: object): Promise<void> => {
    const answer = await operate('POST', path, body);
    if (answer.status !== 201) throw new Error(`${path} answered ${answer.status}: ${JSON.stringify(answer.body)}`);
  };
  for (const { dataset, offer } of offered) {
    await must('/v1/assets', { id: dataset, title: dataset, upstream: { kind: 'file', path: file } });
    await must('/v1/offers', { id: offer, asset: dataset, rules, assurance: 'plain-dsp' });
  }
};

const agreementsIn = ({ idOf }: KitSettings): readonly HeldAgreement[] =>
  processCases
    .filter((name) => name.startsWith('TP'))
    .map((name) => ({ id: idOf(name, 'AGREEMENTID'), role: name.startsWith('TP_C:') ? 'consumer' : 'provider' }));

/** Starts the connector where the settings say that it is, with everything that the cases need. */
export const startScenario = async ({
  settings,
  pauseMs = defaultPauseMs,
  extensions = 'all',
  log = silentLogger,
}: ScenarioOptions): Promise<AsyncDisposable> => {
  const { baseUrl, agentId, negotiationTrigger, transferTrigger } = settings;
  await using stack = new AsyncDisposableStack();
  const bench = stack.use(
    await connectorBench({
      STEKKER_PUBLIC_URL: baseUrl,
      STEKKER_PUBLIC_PORT: new URL(baseUrl).port,
      STEKKER_EXTENSIONS: extensions,
    }),
  );
  const did = didOf(baseUrl);
  if (did !== agentId) throw new Error(`at ${baseUrl} the connector is ${did}, and not ${agentId}`);
  const offered = offeredIn(settings);
  const [first] = offered;
  if (first === undefined) throw new Error('the settings offer nothing');
  await putAgreements(
    {
      path: join(bench.config.STEKKER_DATA, 'connector.sqlite'),
      participant,
      did,
      peer: peer as Did,
      peerBase: settings.callbackAddress,
      ...first,
    },
    agreementsIn(settings),
  );
  const connector = stack.use(await bench.start({}, { log, parts: partsFor(settings, pauseMs) }));
  const file = join(bench.folder, 'data.json');
  writeFileSync(file, '{}\n');
  await publish(connector, file, offered);
  const paths = { negotiations: new URL(negotiationTrigger).pathname, transfers: new URL(transferTrigger).pathname };
  stack.use(await listenForTriggers({ connector, participant, paths }, Number(new URL(negotiationTrigger).port)));
  return stack.move();
};
