import { isIP } from 'node:net';
import { AppError } from '../contracts/errors.ts';
import { isLoopbackAddress } from '../kernel/http/addresses.ts';
import { createRpc, type RpcCall } from '../kernel/http/json-rpc.ts';

/** What the command line fetches for its user, who chose the address: no redirects, and in the clear only on this machine. */

const timeoutMs = 20_000;

/** @throws AppError `invalid-request` when this is no address, or plain HTTP to another machine. */
export const checkedUrl = (text: string, what: string): URL => {
  if (!URL.canParse(text)) throw new AppError('invalid-request', { detail: `${what} is no URL` });
  const url = new URL(text);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const isHere = host === 'localhost' || (isIP(host) !== 0 && isLoopbackAddress(host));
  if (url.protocol === 'https:' || (url.protocol === 'http:' && isHere)) return url;
  throw new AppError('invalid-request', {
    detail: `${what} must be https: plain HTTP is spoken only with this machine`,
  });
};

/** One exchange, the answer read whole. @throws AppError `fetch-failed` that names the host alone. */
export const fetchBytes = async (
  url: URL,
  options: { readonly body?: string; readonly maxBytes: number },
): Promise<{ readonly status: number; readonly body: Uint8Array }> => {
  const { body, maxBytes } = options;
  try {
    const response = await fetch(url, {
      redirect: 'error',
      signal: AbortSignal.timeout(timeoutMs),
      ...(body === undefined ? {} : { method: 'POST', headers: { 'content-type': 'application/json' }, body }),
    });
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const part of response.body ?? []) {
      size += part.length;
      if (size > maxBytes)
        throw new AppError('fetch-failed', { detail: `the answer is larger than ${maxBytes} bytes` });
      parts.push(part);
    }
    return { status: response.status, body: Buffer.concat(parts) };
  } catch (cause) {
    throw new AppError('fetch-failed', { detail: `nothing usable answers at ${url.host}`, cause });
  }
};

/** A node of a chain that the user chose. */
export const nodeRpc = (text: string): RpcCall => {
  const url = checkedUrl(text, 'the address of the node');
  return createRpc(async (body) => {
    const answer = await fetchBytes(url, { body, maxBytes: 4 << 20 });
    return Buffer.from(answer.body).toString('utf8');
  });
};
