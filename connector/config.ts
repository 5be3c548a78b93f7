import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { AppError } from '../contracts/errors.ts';
import { isPartyId } from '../contracts/ids.ts';
import { checkDeployment, checkShared, deploymentSettings, sharedSettings } from '../kernel/deployment.ts';
import {
  integerText,
  listText,
  originText,
  portText,
  readSettings,
  setting,
  type ValuesOf,
} from '../kernel/settings.ts';
import { extensionsText } from './extensions.ts';

/** `ID=ADDRESS` words: under an address stands the version document of the peer (dsp §3). */
const peersText = listText.transform((words, { addIssue }): ReadonlyMap<string, string> => {
  const peers = words.map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)] as const);
  const isPeer = ([id, url]: readonly [string, string]) =>
    isPartyId(id) && URL.canParse(url) && /^https?:$/.test(new URL(url).protocol) && !/[?#]/.test(url);
  if (!peers.every(isPeer)) addIssue('needs words such as did:web:edc.example=https://edc.example/protocol');
  return new Map(peers);
});

/** Every setting of the connector; docs/configuration.md is generated from this table. */
export const connectorSettings = {
  STEKKER_DATA: setting(
    z.string().min(1, 'is empty'),
    'Folder for everything this connector keeps.',
    '/var/lib/stekker',
  ),
  STEKKER_JOURNAL_FOLDER: setting(
    z.string().min(1, 'is empty').optional(),
    'Folder of the usage journals; must lie outside every backup of the rows. Default: beside the data folder, named after it with `-journal`.',
    '/var/lib/stekker-journal',
  ),
  STEKKER_SIGNED_FOLDER: setting(
    z.string().min(1, 'is empty').optional(),
    'Folder of the numbers that were signed, the same for all processes of a deployment; must lie outside every backup of the rows. Once it was named, it stays so. Default: the folder of the usage journals.',
    '/var/lib/stekker-signed',
  ),
  STEKKER_PUBLIC_URL: setting(
    originText,
    'Origin under which others reach the protocol; the DID follows from it.',
    'https://connector.example',
  ),
  STEKKER_PUBLIC_HOST: setting(z.string().default('0.0.0.0'), 'Address the protocol listens on.', '0.0.0.0'),
  STEKKER_PUBLIC_PORT: setting(portText('8080'), 'Port of the protocol.', '8080'),
  STEKKER_DATA_URL: setting(
    originText,
    'Origin under which others read data; never the same as the public one.',
    'https://data.connector.example',
  ),
  STEKKER_DATA_HOST: setting(z.string().default('0.0.0.0'), 'Address the data plane listens on.', '0.0.0.0'),
  STEKKER_DATA_PORT: setting(portText('8081'), 'Port of the data plane.', '8081'),
  STEKKER_DATA_WORKERS: setting(
    z.union([z.literal('auto').transform(() => availableParallelism()), integerText(1, 64)]).prefault('1'),
    'Threads that serve data, each with a usage journal of its own; `auto`: one for each processor. With one, no thread is added.',
    'auto',
  ),
  STEKKER_MANAGEMENT_PORT: setting(portText('8082'), "Port of the operator's API.", '8082'),
  STEKKER_MANAGEMENT_HOSTS: setting(
    z
      .string()
      .default('')
      .transform((text) => text.split(' ').filter((host) => host !== '')),
    "Host names under which the operator's API is called, besides loopback; others are refused. Space separated.",
    'connector.internal',
  ),
  STEKKER_GATEWAY_HOST: setting(
    z.string().default('127.0.0.1'),
    'Address where own applications fetch data.',
    '127.0.0.1',
  ),
  STEKKER_GATEWAY_PORT: setting(portText('8083'), 'Port where own applications fetch data.', '8083'),
  STEKKER_NAME: setting(
    z.string().min(1).max(200).default('Stekker connector'),
    'Name shown in the catalog.',
    'Waterschap Voorbeeld',
  ),
  STEKKER_SOURCE_ORIGINS: setting(
    listText.pipe(z.array(originText)),
    "Origins of the owner's own sources that may stand on a private network or speak plain HTTP, space separated.",
    'http://geoserver.intern.example:8080',
  ),
  STEKKER_PEERS: setting(
    peersText,
    'Peers whose DID document does not say where they take messages, or that have no DID: `ID=ADDRESS`, space separated. Below the address stands `/.well-known/dspace-version`.',
    'did:web:edc.example=https://edc.example/protocol',
  ),
  STEKKER_COUNTER_OFFERS: setting(
    z.enum(['policy', 'operator'], { error: 'is neither policy nor operator' }).default('policy'),
    'Who answers a request for something else than an offer: `policy` offers what comes nearest inside what is published; `operator` leaves it to a person.',
    'operator',
  ),
  STEKKER_PUSH_MAX_BYTES: setting(
    integerText(1, 1_099_511_627_776).prefault('10737418240'),
    'The largest push that is taken from a provider, in bytes.',
    '1073741824',
  ),
  STEKKER_OFFER_SECONDS: setting(
    integerText(60, 2_592_000).prefault('86400'),
    'So long a peer has to answer an offer that we made; then the negotiation ends.',
    '3600',
  ),
  STEKKER_BROKER_URL: setting(
    originText.optional(),
    'Origin of the broker; without it there is no joining, log or store.',
    'https://broker.example',
  ),
  STEKKER_ACCREDITORS: setting(
    listText,
    'DIDs of the accreditors whose accreditations count here, space separated.',
    'did:web:accreditor.example',
  ),
  STEKKER_EXTENSIONS: setting(
    extensionsText,
    'Extensions of the protocol that are announced and served: `all`, `none`, or names with spaces or commas between them. With `none`, only `plain-dsp` offers are shown and agreed.',
    'all',
  ),
  STEKKER_PEER_TOKENS_PER_MINUTE: setting(
    integerText(1, 1_000_000_000).prefault('600'),
    'So many access tokens one consumer may ask for in a minute; all together ten times that.',
    '600',
  ),
  STEKKER_PEER_ACCESSES_PER_SECOND: setting(
    integerText(1, 10_000_000).prefault('20000'),
    'So many accesses to data one consumer may make in a second; all consumers of a participant together ten times that.',
    '20000',
  ),
  STEKKER_KEEP_MESSAGES_DAYS: setting(
    integerText(1, 3_650).prefault('2'),
    'Answers to messages are kept for their repeats this long.',
    '2',
  ),
  STEKKER_KEEP_PROCESSES_DAYS: setting(
    integerText(1, 36_500).prefault('365'),
    'Negotiations that ended without an agreement, and transfers that ended under settled agreements, are kept this long. Agreements and statements are kept for ever.',
    '365',
  ),
  STEKKER_KEEP_CHANGES_DAYS: setting(
    integerText(1, 3_650).prefault('30'),
    'Changes of the catalog are kept this long; whoever follows them and stays away longer reads the whole catalog.',
    '30',
  ),
  STEKKER_STATEMENT_INTERVAL_SECONDS: setting(
    integerText(1, 86_400).prefault('300'),
    'A usage statement is drafted this often.',
    '300',
  ),
  ...sharedSettings,
  ...deploymentSettings,
};

export type ConnectorConfig = ValuesOf<typeof connectorSettings>;

/**
 * Processes that sign by turns find the numbers that the one before them signed.
 *
 * @throws AppError `config-invalid`.
 */
const checkSigned = (its: ConnectorConfig): void => {
  if (its.STEKKER_DATABASE_URL === undefined || its.STEKKER_SIGNED_FOLDER !== undefined) return;
  const path = 'STEKKER_SIGNED_FOLDER';
  const message = 'is needed with STEKKER_DATABASE_URL: all processes of a deployment share it, and no backup holds it';
  throw new AppError('config-invalid', { detail: `${path} ${message}`, faults: [{ path, message }] });
};

/**
 * Reads and checks the settings of the connector.
 *
 * @throws AppError `config-invalid` naming every wrong key.
 */
export const readConnectorConfig = (env: NodeJS.ProcessEnv): ConnectorConfig => {
  const config = readSettings(connectorSettings, env, 'STEKKER_');
  checkDeployment(config);
  checkShared(config);
  checkSigned(config);
  return config;
};
