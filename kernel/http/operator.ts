import { hash, timingSafeEqual } from 'node:crypto';
import { AppError } from '../../contracts/errors.ts';
import { rateFault } from '../rate-limits.ts';

/** Who may speak to an operator's API: who holds its token, and calls it by a name that is its own. */

export interface OperatorRules {
  /** The bearer token. */
  readonly token: string;
  /** Host names under which the API is called, beside those of the loopback interface. */
  readonly hosts: readonly string[];
  /** How long whoever holds the token must wait, ms; 0: one request was taken. */
  readonly rate?: (() => number | Promise<number>) | undefined;
}

const loopbackNames = ['localhost', '127.0.0.1', '[::1]'];
const hostPattern = /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?$/i;

/**
 * The name of the `Host` header without its port. A page in the operator's browser whose own name was made to lead to
 * 127.0.0.1 (DNS rebinding) still sends that name here.
 */
const hostOf = (headers: Headers): string | undefined =>
  hostPattern.exec(headers.get('host') ?? '')?.[1]?.toLowerCase();

/** Equal or not, in a time that says nothing about where the difference is. */
const isSameText = (a: string, b: string): boolean =>
  timingSafeEqual(hash('sha256', a, 'buffer'), hash('sha256', b, 'buffer'));

/**
 * Builds the check of a request.
 *
 * @throws AppError `forbidden` for a foreign host name, `unauthenticated` without the token, `too-many-requests`.
 */
export const createOperatorCheck = ({ token, hosts, rate }: OperatorRules) => {
  const names = new Set([...loopbackNames, ...hosts.map((host) => host.toLowerCase())]);
  return {
    host: ({ headers }: Request): void => {
      const host = hostOf(headers);
      if (host === undefined || !names.has(host))
        throw new AppError('forbidden', { detail: 'this API is not served under that host name' });
    },
    token: ({ headers }: Request): void => {
      const given = /^Bearer +([^\s]{1,1024})$/i.exec(headers.get('authorization') ?? '')?.[1];
      if (given === undefined || !isSameText(given, token)) throw new AppError('unauthenticated');
    },
    /** Behind the token: a stranger uses nothing up. */
    rate: async (): Promise<void> => {
      const fault = rate === undefined ? undefined : rateFault(await rate());
      if (fault !== undefined) throw fault;
    },
  };
};

/** Headers of every answer of an operator's API (NLGov API Design Rules, transport security). */
export const operatorHeaders: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'strict-transport-security': 'max-age=31536000',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
};
