import { z } from 'zod';
import {
  booleanText,
  checkDeployment,
  integerText,
  originText,
  readSettings,
  setting,
  type ValuesOf,
} from '../kernel/settings.ts';

const port = (fallback: string) => integerText(0, 65_535).prefault(fallback);

/** Every setting of the connector; docs/configuration.md is generated from this table. */
export const connectorSettings = {
  STEKKER_DATA: setting(
    z.string().min(1, 'is empty'),
    'Folder for everything this connector keeps.',
    '/var/lib/stekker',
  ),
  STEKKER_JOURNAL_FOLDER: setting(
    z.string().min(1, 'is empty').optional(),
    'Folder of the usage journals and of the numbers that were signed; must lie outside every backup of the rows. Default: beside the data folder, named after it with `-journal`.',
    '/var/lib/stekker-journal',
  ),
  STEKKER_MODE: setting(
    z.enum(['production', 'development'], { error: 'is neither production nor development' }).default('production'),
    'In `production`, plain HTTP and loopback counterparties are refused.',
    'production',
  ),
  STEKKER_ALLOW_LOOPBACK_HTTP: setting(
    booleanText.prefault('false'),
    'Development only: speak plain HTTP with counterparties on `localhost`.',
    'false',
  ),
  STEKKER_PUBLIC_URL: setting(
    originText,
    'Origin under which others reach the protocol; the DID follows from it.',
    'https://connector.example',
  ),
  STEKKER_PUBLIC_HOST: setting(z.string().default('0.0.0.0'), 'Address the protocol listens on.', '0.0.0.0'),
  STEKKER_PUBLIC_PORT: setting(port('8080'), 'Port of the protocol.', '8080'),
  STEKKER_DATA_URL: setting(
    originText,
    'Origin under which others read data; never the same as the public one.',
    'https://data.connector.example',
  ),
  STEKKER_DATA_HOST: setting(z.string().default('0.0.0.0'), 'Address the data plane listens on.', '0.0.0.0'),
  STEKKER_DATA_PORT: setting(port('8081'), 'Port of the data plane.', '8081'),
  STEKKER_MANAGEMENT_HOST: setting(z.string().default('127.0.0.1'), "Address of the operator's API.", '127.0.0.1'),
  STEKKER_MANAGEMENT_PORT: setting(port('8082'), "Port of the operator's API.", '8082'),
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
  STEKKER_GATEWAY_PORT: setting(port('8083'), 'Port where own applications fetch data.', '8083'),
  STEKKER_TLS_CERT: setting(
    z.string().optional(),
    'PEM file with the certificate chain; without it a proxy in front ends TLS.',
    '/run/tls/cert.pem',
  ),
  STEKKER_TLS_KEY: setting(
    z.string().optional(),
    'PEM file with the private key of the certificate.',
    '/run/tls/key.pem',
  ),
  STEKKER_PASSPHRASE: setting(
    z.string().min(12, 'is shorter than 12 characters'),
    'Opens the keys in the data folder.',
    'a sentence nobody guesses',
    { secret: true },
  ),
  STEKKER_MANAGEMENT_TOKEN: setting(
    z.string().min(24, 'is shorter than 24 characters'),
    "Bearer token of the operator's API.",
    'kq3…24 characters or more',
    { secret: true },
  ),
  STEKKER_NAME: setting(
    z.string().min(1).max(200).default('Stekker connector'),
    'Name shown in the catalog.',
    'Waterschap Voorbeeld',
  ),
  STEKKER_SOURCE_ORIGINS: setting(
    z
      .string()
      .default('')
      .transform((text) => text.split(' ').filter((origin) => origin !== ''))
      .pipe(z.array(originText)),
    "Origins of the owner's own sources that may stand on a private network or speak plain HTTP, space separated.",
    'http://geoserver.intern.example:8080',
  ),
  STEKKER_BROKER_URL: setting(
    originText.optional(),
    'Origin of the broker; without it there is no joining, log or store.',
    'https://broker.example',
  ),
  STEKKER_ACCREDITORS: setting(
    z
      .string()
      .default('')
      .transform((text) => text.split(' ').filter((did) => did !== '')),
    'DIDs of the accreditors whose accreditations count here, space separated.',
    'did:web:accreditor.example',
  ),
  STEKKER_STATEMENT_INTERVAL_SECONDS: setting(
    integerText(1, 86_400).prefault('300'),
    'A usage statement is drafted this often.',
    '300',
  ),
  STEKKER_LOG_LEVEL: setting(
    z.enum(['debug', 'info', 'warn', 'error', 'silent'], { error: 'is no level' }).default('info'),
    'Least level of log lines.',
    'info',
  ),
};

export type ConnectorConfig = ValuesOf<typeof connectorSettings>;

/**
 * Reads and checks the settings of the connector.
 *
 * @throws AppError `config-invalid` naming every wrong key.
 */
export const readConnectorConfig = (env: NodeJS.ProcessEnv): ConnectorConfig => {
  const config = readSettings(connectorSettings, env, 'STEKKER_');
  checkDeployment(config);
  return config;
};
