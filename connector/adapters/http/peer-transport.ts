import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import { type Json, parseJson } from '../../../contracts/json.ts';
import type { TokenService } from '../../../kernel/auth.ts';
import type { GuardedClient } from '../../../kernel/http/client.ts';
import type { Random } from '../../../kernel/random.ts';
import { writeTraceparent } from '../../../kernel/trace.ts';
import type { PeerAnswer, PeerTransport } from '../../exchange/ports.ts';

/** Messages to peers and to the broker over HTTPS, each with a fresh SI token (dcp §2) and an access token for credentials. */

export interface PeerTransportOptions {
  readonly client: Pick<GuardedClient, 'request'>;
  readonly tokens: (participant: ParticipantId) => Pick<TokenService, 'tokenFor'>;
  /** Scopes that a peer may ask of our credential service with the token that goes along. */
  readonly scopes: readonly string[];
  /** For the ids of spans. */
  readonly random: Random;
}

const timeoutMs = 20_000;
const maxBytes = 4 << 20;

const ndjson = 'application/x-ndjson';

const textOf = (body: Json, lines: readonly Json[] | undefined): string =>
  lines === undefined ? JSON.stringify(body) : [body, ...lines].map((line) => `${JSON.stringify(line)}\n`).join('');

/** The body of an answer. One without a media type is read all the same: not every peer names it. */
const bodyOf = (bytes: Uint8Array, type: string | undefined): Json | undefined => {
  if (bytes.length === 0 || (type !== undefined && !/[/+]json\b/.test(type))) return undefined;
  try {
    return parseJson(bytes, { maxBytes, maxDepth: 64 });
  } catch {
    return undefined; // an answer that cannot be read says nothing; its status speaks
  }
};

export const createPeerTransport = ({ client, tokens, scopes, random }: PeerTransportOptions): PeerTransport => {
  const send = async (
    method: 'GET' | 'POST',
    call: {
      readonly participant: ParticipantId;
      readonly peer: Did;
      readonly url: string;
      readonly id?: string;
      readonly body?: Json;
      readonly lines?: readonly Json[];
      readonly trace?: string;
    },
  ): Promise<PeerAnswer> => {
    const answer = await client.request({
      method,
      url: call.url,
      headers: {
        accept: 'application/json',
        traceparent: writeTraceparent(call.trace, random),
        authorization: tokens(call.participant).tokenFor({ audience: call.peer, scopes }),
        ...(call.body === undefined ? {} : { 'content-type': call.lines ? ndjson : 'application/json' }),
        ...(call.id === undefined ? {} : { 'idempotency-key': call.id }),
      },
      ...(call.body === undefined ? {} : { body: textOf(call.body, call.lines) }),
      timeoutMs,
      maxBytes,
    });
    const { link } = answer.headers;
    return {
      status: answer.status,
      ...(link === undefined ? {} : { link }),
      body: bodyOf(answer.body, answer.headers['content-type']),
      newest: answer.headers['stekker-newest'] ?? '',
    };
  };
  return { post: (message) => send('POST', message), get: (request) => send('GET', request) };
};
