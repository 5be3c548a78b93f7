import { type DestinationStream, type Logger as Pino, pino } from 'pino';
import { isAppError } from '../contracts/errors.ts';

/** Structured log lines. Fields first, then a sentence; nothing secret in either. */
export interface Logger {
  readonly debug: (fields: object, message: string) => void;
  readonly info: (fields: object, message: string) => void;
  readonly warn: (fields: object, message: string) => void;
  readonly error: (fields: object, message: string) => void;
  /** The same logger with fields on every line. */
  readonly child: (fields: object) => Logger;
}

interface LoggerOptions {
  readonly name: string;
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  /** Where lines go; standard output by default. */
  readonly destination?: DestinationStream;
}

/** Members that are never printed, at the top and one level below: the last guard, not the first. */
const secretNames = [
  'authorization',
  'dpop',
  'cookie',
  'token',
  'access_token',
  'grant',
  'password',
  'passphrase',
  'privateKey',
  'leafKey',
  'joinCode',
  'secret',
  'K',
  'd',
];

/** An error as its code, its message and its causes: no stack of libraries, no bodies. */
const errorFields = (error: unknown): unknown => {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? {} : { cause: errorFields(error.cause) };
  const code = isAppError(error) ? { code: error.code } : { type: error.name, stack: error.stack };
  return { ...code, message: error.message, ...cause };
};

const wrap = (logger: Pino): Logger => ({
  debug: (fields, message) => logger.debug(fields, message),
  info: (fields, message) => logger.info(fields, message),
  warn: (fields, message) => logger.warn(fields, message),
  error: (fields, message) => logger.error(fields, message),
  child: (fields) => wrap(logger.child(fields)),
});

/** A logger that writes JSON lines (pino). */
export const createLogger = ({ name, level, destination }: LoggerOptions): Logger => {
  const options = {
    name,
    level,
    base: { name },
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: { err: errorFields, error: errorFields },
    redact: { paths: secretNames.flatMap((secret) => [secret, `*.${secret}`]), censor: '[secret]' },
  };
  return wrap(destination === undefined ? pino(options) : pino(options, destination));
};

const nothing = (): void => undefined;

/** Says nothing. */
export const silentLogger: Logger = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
  child: () => silentLogger,
};
