import { z } from 'zod';
import { AppError } from '../../contracts/errors.ts';
import type { Json } from '../../contracts/json.ts';
import type { GuardedClient } from './client.ts';

/** JSON-RPC 2.0 with a node of a chain. The node's address may hold a key: it stands in no error that is made here. */

/** What a node answers: a value of the form asked for, or that it refuses the call. */
export type RpcAnswer<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly code: number; readonly message: string; readonly data: unknown };

/** @throws AppError `fetch-failed` when no answer came, or none that can be read. */
export type RpcCall = <Value>(
  method: string,
  params: readonly Json[],
  schema: z.ZodType<Value>,
) => Promise<RpcAnswer<Value>>;

/** Sends one body, and gives back the answer's text, whatever its status. */
export type RpcTransport = (body: string) => Promise<string>;

const timeoutMs = 20_000;
/** All receipts of a full block, with room. */
const maxAnswerBytes = 64 << 20;
const maxMessage = 300;

const rpcAnswer = z.union([
  z.object({ error: z.object({ code: z.number(), message: z.string(), data: z.unknown().optional() }) }),
  z.object({ result: z.unknown() }),
]);

const parse = (method: string, text: string): z.infer<typeof rpcAnswer> => {
  try {
    return rpcAnswer.parse(JSON.parse(text));
  } catch (cause) {
    throw new AppError('fetch-failed', { detail: `the node did not answer ${method} in JSON-RPC`, cause });
  }
};

/** A client over a transport. */
export const createRpc = (transport: RpcTransport): RpcCall => {
  let id = 0;
  return async (method, params, schema) => {
    id += 1;
    const answer = parse(method, await transport(JSON.stringify({ jsonrpc: '2.0', id, method, params })));
    if ('error' in answer) {
      const { code, message, data } = answer.error;
      return { ok: false, code, message: message.slice(0, maxMessage), data };
    }
    const value = schema.safeParse(answer.result);
    if (!value.success)
      throw new AppError('fetch-failed', {
        detail: `the node answered ${method} with something else`,
        cause: value.error,
      });
    return { ok: true, value: value.data };
  };
};

/** The way to a node through the guarded client. */
export const guardedRpcTransport =
  (client: Pick<GuardedClient, 'request'>, url: string): RpcTransport =>
  async (body) => {
    const answer = await client.request({
      method: 'POST',
      url,
      headers: { 'content-type': 'application/json' },
      body,
      timeoutMs,
      maxBytes: maxAnswerBytes,
    });
    return Buffer.from(answer.body).toString('utf8');
  };
