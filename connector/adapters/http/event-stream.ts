import { request } from 'undici';
import { AppError, type ErrorCode } from '../../../contracts/errors.ts';
import type { Did } from '../../../contracts/ids.ts';
import type { TokenService } from '../../../kernel/auth.ts';
import type { GuardedClient } from '../../../kernel/http/client.ts';
import type { OpenEventStream } from '../../status/ports.ts';

/** The broker's events over HTTP: server-sent events, asked for with an SI token (wire §7). */

export interface EventStreamOptions {
  readonly client: Pick<GuardedClient, 'check' | 'dispatcher'>;
  readonly tokens: Pick<TokenService, 'tokenFor'>;
  readonly broker: Did;
  /** `<broker>/events` */
  readonly url: string;
}

const answerTimeoutMs = 5_000;
/** Between two pieces of the stream; the heart beats every second. */
const pieceTimeoutMs = 10_000;
/** Characters of one message: a snapshot of 100,000 notices. */
const maxMessageLength = 128 << 20;

const codes: Readonly<Record<number, ErrorCode>> = { 401: 'unauthenticated', 403: 'forbidden', 503: 'busy' };

/** The data of each server-sent event out of pieces of text, however they are cut. Names, ids and comments are passed over. */
export const createEventParser = (maxLength = maxMessageLength): ((piece: string) => readonly string[]) => {
  let rest = '';
  let data: string[] = [];
  let length = 0;
  const takeLine = (line: string, done: string[]): void => {
    if (line === '') {
      if (data.length > 0) done.push(data.join('\n'));
      data = [];
      length = 0;
    } else if (line.startsWith('data:')) {
      length += line.length;
      data.push(line.slice(line.startsWith('data: ') ? 6 : 5));
    }
  };
  return (piece) => {
    const lines = piece.split('\n');
    const done: string[] = [];
    lines[0] = `${rest}${lines[0] ?? ''}`;
    rest = lines.pop() ?? '';
    for (const line of lines) takeLine(line.replace(/\r$/, ''), done);
    if (rest.length + length > maxLength)
      throw new AppError('fetch-failed', { detail: `a message of the stream is longer than ${maxLength}` });
    return done;
  };
};

const readStream = async function* (
  { client, tokens, broker, url }: EventStreamOptions,
  lastEventId: number | null,
  signal: AbortSignal,
): AsyncGenerator<string> {
  client.check(url);
  const { statusCode, headers, body } = await request(url, {
    method: 'GET',
    dispatcher: client.dispatcher,
    signal,
    headersTimeout: answerTimeoutMs,
    bodyTimeout: pieceTimeoutMs,
    headers: {
      accept: 'text/event-stream',
      authorization: tokens.tokenFor({ audience: broker }),
      ...(lastEventId === null ? {} : { 'last-event-id': String(lastEventId) }),
    },
  });
  const type = String(headers['content-type'] ?? '');
  if (statusCode !== 200 || !/^text\/event-stream\b/i.test(type)) {
    await body.dump();
    throw new AppError(codes[statusCode] ?? 'fetch-failed', { detail: `${url} answered ${statusCode}` });
  }
  const decoder = new TextDecoder('utf-8', { fatal: true });
  const parse = createEventParser();
  for await (const bytes of body) yield* parse(decoder.decode(bytes as Uint8Array, { stream: true }));
};

/** Opens the stream of one broker. */
export const createEventStream =
  (options: EventStreamOptions): OpenEventStream =>
  (lastEventId) => {
    const closed = new AbortController();
    return { messages: readStream(options, lastEventId, closed.signal), close: () => closed.abort() };
  };
