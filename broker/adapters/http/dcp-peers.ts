import type { Did } from '../../../contracts/ids.ts';
import type { Json } from '../../../contracts/json.ts';
import type { TokenService } from '../../../kernel/auth.ts';
import type { DidResolver } from '../../../kernel/did.ts';
import type { GuardedClient } from '../../../kernel/http/client.ts';
import type { Logger } from '../../../kernel/log.ts';
import type { DeliverToHolder } from '../../credentials/ports.ts';

/** Messages to holders, and an accreditor's calls to its broker, each with an SI token of its own (dcp §2). */

export interface PeerOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  readonly tokens: TokenService;
  readonly log: Logger;
}

const timeoutMs = 20_000;
const maxBytes = 262_144;

interface Call {
  readonly audience: Did;
  readonly url: string;
  readonly body: Json;
  /** Echoed in the SI token. */
  readonly token?: string | null;
}

/** One POST of JSON; any status is an answer. */
export const postAs = (
  { client, tokens }: Pick<PeerOptions, 'client' | 'tokens'>,
  { audience, url, body, token = null }: Call,
): Promise<{ readonly status: number; readonly body: Uint8Array }> =>
  client.request({
    method: 'POST',
    url,
    headers: {
      accept: 'application/json',
      'content-type': 'application/json',
      authorization: tokens.tokenFor({ audience, ...(token === null ? {} : { token }) }),
    },
    body: JSON.stringify(body),
    timeoutMs,
    maxBytes,
  });

/** Delivers to the `CredentialService` of the holder's DID document (dcp §6). */
export const createHolderDelivery = (
  options: PeerOptions & { readonly resolver: Pick<DidResolver, 'resolve'> },
): DeliverToHolder => {
  const { resolver, log } = options;
  return async (holder, path, { body, token }) => {
    const endpoint = (await resolver.resolve(holder))?.endpoint('CredentialService')?.replace(/\/$/, '');
    if (endpoint === undefined) return 'unreachable';
    try {
      const { status } = await postAs(options, { audience: holder, url: `${endpoint}${path}`, body, token });
      if (status >= 200 && status < 300) return 'accepted';
      log.info({ holder, path, status }, 'a holder did not take a message');
      return status >= 500 || status === 429 ? 'unreachable' : 'refused';
    } catch (err) {
      log.info({ holder, path, err }, 'a holder cannot be reached');
      return 'unreachable';
    }
  };
};
