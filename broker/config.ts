import { z } from 'zod';
import { AppError } from '../contracts/errors.ts';
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

/** Every setting of the broker; docs/configuration.md is generated from this table. */
export const brokerSettings = {
  STEKKER_DATA: setting(z.string().min(1, 'is empty'), 'Folder for everything this broker keeps.', '/var/lib/stekker'),
  STEKKER_INTENT_FOLDER: setting(
    z.string().optional(),
    'Folder of the file with the last signed checkpoint; must lie outside every backup of the rows. Default: beside the data folder, named after it with `-intent`.',
    '/var/lib/stekker-intent',
  ),
  STEKKER_LOG_FOLDER: setting(
    z.string().optional(),
    'Folder of the tiles and the checkpoint of the log; the same for all processes of a deployment. Default: `log` in the data folder.',
    '/var/lib/stekker-log',
  ),
  STEKKER_ROLE: setting(
    z.enum(['broker', 'accreditor'], { error: 'is neither broker nor accreditor' }).default('broker'),
    'What this process is: the hub with log and store, or an accreditor that issues accreditations.',
    'broker',
  ),
  STEKKER_PUBLIC_URL: setting(
    originText,
    'Origin under which others reach it; the DID follows from it.',
    'https://broker.example',
  ),
  STEKKER_PUBLIC_HOST: setting(z.string().default('0.0.0.0'), 'Address it listens on.', '0.0.0.0'),
  STEKKER_PUBLIC_PORT: setting(portText('8090'), 'Port it listens on.', '8090'),
  STEKKER_MANAGEMENT_PORT: setting(portText('8091'), "Port of the operator's API.", '8091'),
  STEKKER_NAME: setting(
    z.string().min(1).max(200).default('Stekker broker'),
    'Name shown to participants.',
    'Makelaar Voorbeeld',
  ),
  STEKKER_BROKER_URL: setting(
    originText.optional(),
    'Accreditor only: origin of the broker that hears of its revocations.',
    'https://broker.example',
  ),
  STEKKER_ACCREDITORS: setting(
    listText,
    'DIDs of the accreditors this broker recognises, space separated.',
    'did:web:accreditor.example',
  ),
  STEKKER_CHECKPOINT_MS: setting(
    integerText(100, 60_000).prefault('1000'),
    'A checkpoint is published at most this often.',
    '1000',
  ),
  STEKKER_ANCHOR_RPC: setting(
    z.url({ protocol: /^https?$/, error: 'is no URL of a node' }).optional(),
    'JSON-RPC address of a node of the chain; without it nothing is anchored. It may hold the key of an account there.',
    'https://node.example',
    { secret: true },
  ),
  STEKKER_ANCHOR_SECOND_RPC: setting(
    z.url({ protocol: /^https?$/, error: 'is no URL of a node' }).optional(),
    'JSON-RPC address of a node of somebody else, which must agree before an anchor counts as final.',
    'https://other-node.example',
    { secret: true },
  ),
  STEKKER_ANCHOR_CHAIN_ID: setting(
    integerText(1, Number.MAX_SAFE_INTEGER).prefault('31337'),
    'Chain id the node must have.',
    '1',
  ),
  STEKKER_ANCHOR_CONTRACT: setting(
    z
      .string()
      .regex(/^0x[0-9a-fA-F]{40}$/, 'is no address')
      .toLowerCase()
      .optional(),
    'Address of the anchor contract.',
    '0x5FbDB2315678afecb367f032d93F642f64180aa3',
  ),
  STEKKER_ANCHOR_KEY: setting(
    z
      .string()
      .regex(/^0x[0-9a-fA-F]{64}$/, 'is no private key')
      .optional(),
    'Key of the account that owns this log on the chain.',
    '0x…',
    { secret: true },
  ),
  STEKKER_ANCHOR_SECONDS: setting(
    integerText(1, 86_400).prefault('3600'),
    'A checkpoint is anchored at most this often.',
    '3600',
  ),
  STEKKER_ANCHOR_MAX_FEE_GWEI: setting(
    integerText(1, 1_000_000).prefault('50'),
    'Most that is paid for a unit of gas, in gwei; above it anchors wait.',
    '50',
  ),
  STEKKER_HARVEST_SECONDS: setting(
    integerText(1, 86_400).prefault('300'),
    "Members' catalogs are read again this often.",
    '300',
  ),
  ...sharedSettings,
  ...deploymentSettings,
};

export type BrokerConfig = ValuesOf<typeof brokerSettings>;

/**
 * Processes that write one log by turns find the tiles and the intent of the one before.
 *
 * @throws AppError `config-invalid` with a fault for each folder that is not named.
 */
const checkFolders = (config: BrokerConfig): void => {
  if (config.STEKKER_DATABASE_URL === undefined || config.STEKKER_ROLE !== 'broker') return;
  const message = 'is needed with STEKKER_DATABASE_URL: all processes of a broker share it';
  const faults = (['STEKKER_LOG_FOLDER', 'STEKKER_INTENT_FOLDER'] as const)
    .filter((key) => config[key] === undefined)
    .map((path) => ({ path, message }));
  if (faults.length === 0) return;
  const detail = faults.map(({ path }) => `${path} ${message}`).join('; ');
  throw new AppError('config-invalid', { detail, faults });
};

/**
 * Reads and checks the settings of the broker, or of an accreditor.
 *
 * @throws AppError `config-invalid` naming every wrong key.
 */
export const readBrokerConfig = (env: NodeJS.ProcessEnv): BrokerConfig => {
  const config = readSettings(brokerSettings, env, 'STEKKER_');
  checkDeployment(config);
  checkShared(config);
  checkFolders(config);
  return config;
};

/** Where this broker anchors. */
export interface AnchorSettings {
  readonly rpc: string;
  readonly secondRpc: string | undefined;
  readonly chainId: string;
  readonly contract: string;
  readonly key: string;
}

/**
 * The settings of anchoring, or undefined when no node is given.
 *
 * @throws AppError `config-invalid` when a node is given and contract or key are not.
 */
export const anchorSettings = (config: BrokerConfig): AnchorSettings | undefined => {
  const { STEKKER_ANCHOR_RPC: rpc, STEKKER_ANCHOR_CONTRACT: contract, STEKKER_ANCHOR_KEY: key } = config;
  if (rpc === undefined) return undefined;
  if (contract === undefined || key === undefined) {
    const missing = contract === undefined ? 'STEKKER_ANCHOR_CONTRACT' : 'STEKKER_ANCHOR_KEY';
    const message = 'is missing, and STEKKER_ANCHOR_RPC is given';
    throw new AppError('config-invalid', { detail: `${missing} ${message}`, faults: [{ path: missing, message }] });
  }
  const secondRpc = config.STEKKER_ANCHOR_SECOND_RPC;
  return { rpc, secondRpc, chainId: String(config.STEKKER_ANCHOR_CHAIN_ID), contract, key };
};
