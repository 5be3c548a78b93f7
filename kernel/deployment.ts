import { z } from 'zod';
import { AppError } from '../contracts/errors.ts';
import { readRedisUrls } from './redis/urls.ts';
import { booleanText, integerText, setting, type ValuesOf } from './settings.ts';

const redisText = z.string().transform((text, { addIssue }) => {
  const urls = readRedisUrls(text);
  if (urls !== undefined) return urls;
  addIssue('is no list of addresses such as redis://host:6379, all with the same name and password');
  return z.NEVER;
});

const perMinuteText = integerText(1, 1_000_000_000);

/** What every service of a deployment is told, with the same meaning. */
export const deploymentSettings = {
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
  STEKKER_MANAGEMENT_HOST: setting(z.string().default('127.0.0.1'), "Address of the operator's API.", '127.0.0.1'),
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
    z.string().min(24, 'is shorter than 24 characters').regex(/^\S*$/, 'has spaces'),
    "Bearer token of the operator's API.",
    'kq3…24 characters or more',
    { secret: true },
  ),
  STEKKER_LOG_LEVEL: setting(
    z.enum(['debug', 'info', 'warn', 'error', 'silent'], { error: 'is no level' }).default('info'),
    'Least level of log lines.',
    'info',
  ),
  STEKKER_REDIS_URLS: setting(
    redisText.optional(),
    'Redis that all processes of this deployment share: `redis:` or `rediss:` (TLS); several with commas between them, or `redis+cluster:`, are a Cluster. Without it one process is enough for itself.',
    'rediss://stekker:password@redis.internal:6379',
    { secret: true },
  ),
  STEKKER_PEER_CALLS_PER_MINUTE: setting(
    perMinuteText.prefault('30000'),
    'So many requests one counterparty may make in a minute, everything with its token together; a sixth of them at once.',
    '30000',
  ),
  STEKKER_ALL_CALLS_PER_MINUTE: setting(
    perMinuteText.prefault('300000'),
    'So many all counterparties of one participant together.',
    '300000',
  ),
  STEKKER_MANAGEMENT_CALLS_PER_MINUTE: setting(
    perMinuteText.prefault('12000'),
    "So many requests the operator's API takes in a minute.",
    '12000',
  ),
};

const databaseText = z.string().refine((text) => {
  try {
    return ['postgresql:', 'postgres:'].includes(new URL(text).protocol);
  } catch {
    return false;
  }
}, 'is no address such as postgresql://user:password@host:5432/database');

/** Where several processes of one deployment meet. */
export const sharedSettings = {
  STEKKER_DATABASE_URL: setting(
    databaseText.optional(),
    'PostgreSQL database that all processes of this deployment share; without it the rows are in the data folder, for one process.',
    'postgresql://stekker:password@db.internal:5432/stekker',
    { secret: true },
  ),
  STEKKER_KEYS: setting(
    z.string().min(1, 'is empty').optional(),
    'Folder of the keys, under the passphrase; the same for all processes of a deployment. Default: `keys` in the data folder.',
    '/var/lib/stekker-keys',
  ),
};

/**
 * Processes that share rows share their keys: one deployment is one DID.
 *
 * @throws AppError `config-invalid`.
 */
export const checkShared = (its: ValuesOf<typeof sharedSettings>): void => {
  if (its.STEKKER_DATABASE_URL === undefined || its.STEKKER_KEYS !== undefined) return;
  const message = 'is needed with STEKKER_DATABASE_URL: all processes of a deployment have the same keys';
  throw new AppError('config-invalid', {
    detail: `STEKKER_KEYS ${message}`,
    faults: [{ path: 'STEKKER_KEYS', message }],
  });
};

/** Those that say where a service stands and how it is reached. */
export type Deployment = Pick<
  ValuesOf<typeof deploymentSettings>,
  'STEKKER_MODE' | 'STEKKER_ALLOW_LOOPBACK_HTTP' | 'STEKKER_TLS_CERT' | 'STEKKER_TLS_KEY'
> & { readonly STEKKER_PUBLIC_URL: string };

/**
 * Settings that are right one by one and wrong together: production speaks no plain HTTP, and a certificate needs its key.
 *
 * @throws AppError `config-invalid` with a fault for each of them.
 */
export const checkDeployment = (its: Deployment): void => {
  const isProduction = its.STEKKER_MODE === 'production';
  const { protocol, hostname } = new URL(its.STEKKER_PUBLIC_URL);
  const mayBeHttp = !isProduction && its.STEKKER_ALLOW_LOOPBACK_HTTP && hostname === 'localhost';
  const wrong = [
    isProduction && its.STEKKER_ALLOW_LOOPBACK_HTTP
      ? { path: 'STEKKER_ALLOW_LOOPBACK_HTTP', message: 'is true in production; set STEKKER_MODE=development' }
      : undefined,
    protocol === 'http:' && !mayBeHttp
      ? { path: 'STEKKER_PUBLIC_URL', message: 'is plain HTTP; only localhost may, in development, when it is allowed' }
      : undefined,
    (its.STEKKER_TLS_CERT === undefined) !== (its.STEKKER_TLS_KEY === undefined)
      ? { path: 'STEKKER_TLS_KEY', message: 'and STEKKER_TLS_CERT are given together or not at all' }
      : undefined,
  ].filter((fault) => fault !== undefined);
  if (wrong.length === 0) return;
  const detail = wrong.map(({ path, message }) => `${path} ${message}`).join('; ');
  throw new AppError('config-invalid', { detail, faults: wrong });
};

/** The files for TLS, where this service ends it itself. */
export const tlsOf = ({
  STEKKER_TLS_CERT: certFile,
  STEKKER_TLS_KEY: keyFile,
}: Pick<Deployment, 'STEKKER_TLS_CERT' | 'STEKKER_TLS_KEY'>) =>
  certFile === undefined || keyFile === undefined ? undefined : { certFile, keyFile };
