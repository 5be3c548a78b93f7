import { AppError } from '../../../contracts/errors.ts';
import { brokerInfoPath } from '../../../contracts/events.ts';
import { type Json, parseJson } from '../../../contracts/json.ts';
import type { GuardedClient } from '../../../kernel/http/client.ts';
import type { LogReader } from '../../evidence/ports.ts';

/** What a broker serves to everybody, read through the guarded client. No token goes along: nobody need know who reads. */

export interface LogReaderOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  /** Origin of the broker. */
  readonly brokerUrl: string;
}

const timeoutMs = 10_000;
/** A bundle has at most 256 entries of 65,535 bytes, each behind its length. */
const maxBytes = 256 * 65_537;
const jsonLimits = { maxBytes: 1 << 20, maxDepth: 32 };

export const createLogReader = ({ client, brokerUrl }: LogReaderOptions): LogReader => {
  const get = async (url: string, accept: string): Promise<Uint8Array | undefined> => {
    const headers = { accept };
    const { status, body } = await client.request({ method: 'GET', url, headers, timeoutMs, maxBytes });
    if (status === 200) return body;
    if (status === 404) return undefined;
    throw new AppError('fetch-failed', { detail: `${new URL(url).host} answered ${status}` });
  };
  const getJson = async (url: string): Promise<Json | undefined> => {
    const body = await get(url, 'application/json');
    return body === undefined ? undefined : parseJson(body, jsonLimits);
  };
  return {
    info: () => getJson(`${brokerUrl}${brokerInfoPath}`),
    file: (logUrl, path) => get(`${logUrl}/${path}`, 'application/octet-stream, text/plain, application/json'),
    anchor: async (logUrl, covers) => {
      const url = `${logUrl}/anchors/newest?covers=${covers}`;
      const { status, body } = await client.request({
        method: 'GET',
        url,
        headers: { accept: 'application/json' },
        timeoutMs,
        maxBytes: jsonLimits.maxBytes,
      });
      if (status === 200) return parseJson(body, jsonLimits);
      if (status === 404 || status === 503) return undefined; // none, or none that covers it yet
      throw new AppError('fetch-failed', { detail: `${new URL(url).host} answered ${status}` });
    },
  };
};
