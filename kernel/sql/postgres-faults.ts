import { AppError, type ErrorCode, isAppError } from '../../contracts/errors.ts';

/** What PostgreSQL and its driver report, as codes of our table (PostgreSQL, appendix A). */

const codeOf = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'string' ? error.code : '';

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : '');

/** A statement was prepared before another version of the program changed a table. */
export const isStalePlan = (error: unknown): boolean =>
  codeOf(error) === '0A000' && messageOf(error).includes('cached plan');

/** The transaction met another one and was undone: serialization failure, deadlock, a plan that is out of date. */
export const isRetried = (error: unknown): boolean =>
  codeOf(error) === '40001' || codeOf(error) === '40P01' || isStalePlan(error);

/**
 * A unique value is taken. In a serializable transaction it may have been taken since this one looked at what it came from,
 * and then it is no fault of ours (PostgreSQL, 13.2.3): done again, the transaction sees the value, or takes another.
 */
export const isTaken = (error: unknown): boolean => codeOf(error) === '23505';

/** Codes of Node for a server that is not reached. */
const networkCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);

/** The driver's own words for a connection that ended, was not given, or said nothing. */
const lostWords = /connection terminated|client has encountered|timeout exceeded|query read timeout|not queryable/i;

/** The server is there and does not serve us now: it starts, stops, is full, or became a copy that only reads. */
const isAway = (code: string): boolean =>
  /^(08|53)/.test(code) || ['57P01', '57P02', '57P03', '25006', '25P03'].includes(code);

/** After these nobody uses the connection again. */
export const lostSession = (error: unknown): boolean =>
  networkCodes.has(codeOf(error)) ||
  lostWords.test(messageOf(error)) ||
  (isAway(codeOf(error)) && !codeOf(error).startsWith('53'));

const retryAfterSeconds = 1;

const appCodeOf = (error: unknown): ErrorCode | undefined => {
  const code = codeOf(error);
  switch (code) {
    case '53100':
      return 'disk-full';
    case '22021': // a zero character, which PostgreSQL keeps in no text
    case '22P05':
      return 'body-invalid';
    case '57014': // a statement took too long
    case '55P03':
      return 'database-unavailable';
    case '28P01':
    case '28000':
    case '3D000':
      return 'config-invalid';
    default:
      return lostSession(error) || isAway(code) || isRetried(error) ? 'database-unavailable' : undefined;
  }
};

const details: Partial<Record<ErrorCode, string>> = {
  'body-invalid': 'a text has a character that cannot be kept',
  'config-invalid': 'STEKKER_DATABASE_URL: the server does not let us in, or has no such database',
};

/** A fault of the table for what has one; anything else, as a unique value that is taken, stays what it is. */
export const mapped = (cause: unknown, detail?: string): unknown => {
  if (isAppError(cause)) return cause;
  const code = appCodeOf(cause);
  if (code === undefined) return cause;
  const said = detail ?? details[code];
  return new AppError(code, {
    cause,
    ...(said === undefined ? {} : { detail: said }),
    ...(code === 'database-unavailable' ? { retryAfterSeconds } : {}),
  });
};
