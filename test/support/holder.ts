import { randomInt } from 'node:crypto';
import { Hono } from 'hono';
import { dcpMessage } from '../../contracts/dcp/messages.ts';
import { isAppError } from '../../contracts/errors.ts';
import type { Did } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import { createAuthenticator, createTokenService, type TokenService } from '../../kernel/auth.ts';
import { systemClock } from '../../kernel/clock.ts';
import { buildDidDocument, createDidResolver, didOf } from '../../kernel/did.ts';
import { createGuardedClient } from '../../kernel/http/client.ts';
import { listen, serveRoutes } from '../../kernel/http/server.ts';
import { firstKeyEvent } from '../../kernel/key-event.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import { systemRandom } from '../../kernel/random.ts';
import { keysOf } from './identities.ts';

/** The least that can join a broker and hold credentials: a DID document, an inbox, and calls with SI tokens. */

export interface Received {
  readonly path: string;
  readonly from: Did;
  /** The token that the sender echoed. */
  readonly token: string | undefined;
  readonly message: { readonly [member: string]: Json };
}

export interface Holder extends AsyncDisposable {
  readonly did: Did;
  readonly keys: ParticipantKeys;
  readonly document: string;
  readonly received: Received[];
  readonly tokens: TokenService;
  /** What the inbox answers from now on. */
  answer: number;
  readonly get: (audience: Did, url: string) => Promise<Response>;
  readonly post: (audience: Did, url: string, body: Json, token?: string) => Promise<Response>;
}

/** Below the ports that systems hand out to outgoing connections: one of those could take it before its server starts. */
const chosenPorts = { least: 12_000, most: 32_000 };

/** A port that was free a moment ago: a DID must be known before its server starts. */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = randomInt(chosenPorts.least, chosenPorts.most);
    try {
      await using server = await listen(() => undefined, { host: '127.0.0.1', port });
      return server.port;
    } catch (error) {
      if (!isAppError(error, 'port-in-use')) throw error;
    }
  }
};

/** Starts a holder with keys from one byte. */
export const startHolder = async (byte: number): Promise<Holder> => {
  const port = await freePort();
  const origin = `http://localhost:${port}`;
  const did = didOf(origin);
  const keys = keysOf(did, byte);
  const document = JSON.stringify(buildDidDocument({ keys, services: { CredentialService: `${origin}/dcp` } }));
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const resolver = createDidResolver({ client, clock: systemClock, allowLoopbackHttp: true });
  const used = { claim: async () => true };
  const { authenticate } = createAuthenticator({ did, resolver, clock: systemClock, used });
  const tokens = createTokenService({ keys, clock: systemClock, random: systemRandom });
  const received: Received[] = [];
  const app = new Hono();
  app.get('/.well-known/did.json', (c) => c.body(document, 200, { 'content-type': 'application/did+json' }));
  app.post('*', async (c) => {
    const caller = await authenticate(c.req.raw.headers);
    const message: Received['message'] = await c.req.json();
    received.push({ path: c.req.path, from: caller.did, token: caller.accessToken, message });
    return c.body(null, holder.answer as 200);
  });
  const server = await serveRoutes(app, { host: '127.0.0.1', port });
  const headers = (audience: Did, token?: string) => ({
    authorization: tokens.tokenFor({ audience, ...(token === undefined ? {} : { token }) }),
  });
  const holder: Holder = {
    did,
    keys,
    document,
    received,
    tokens,
    answer: 200,
    get: (audience, url) => fetch(url, { headers: headers(audience) }),
    post: (audience, url, body, token) =>
      fetch(url, {
        method: 'POST',
        headers: { ...headers(audience, token), 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }),
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await client[Symbol.asyncDispose]();
    },
  };
  return holder;
};

/** The registration with which a holder joins a log. */
export const joinBody = (holder: Pick<Holder, 'keys' | 'document'>, joinCode: string): Json => ({
  kind: 'key-event',
  artifact: firstKeyEvent(holder.keys, holder.document, systemClock.now()),
  joinCode,
});

/** A request for credential objects. */
export const requestBody = (holderPid: string, ids: readonly string[]): Json =>
  dcpMessage('CredentialRequestMessage', { holderPid, credentials: ids.map((id) => ({ id })) });
