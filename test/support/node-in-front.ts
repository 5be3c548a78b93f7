import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import type { Json } from '../../contracts/json.ts';
import { listen } from '../../kernel/http/server.ts';

/** A node that stands in front of a real one and says what a test wants it to say, or nothing at all. */

const rpcRequest = z.object({ id: z.number(), method: z.string(), params: z.array(z.json()) });
const rpcReply = z.record(z.string(), z.json());

/** Changes the result of a call; what it gives back is answered. */
export type Lie = (call: { readonly method: string; readonly params: readonly Json[] }, result: Json) => Json;

export interface NodeInFront extends AsyncDisposable {
  readonly url: string;
  /** Undefined is honest. */
  lie: Lie | undefined;
  /** It answers nothing that is JSON-RPC. */
  isDown: boolean;
  /** It takes the question, and answers never. */
  isSilent: boolean;
  readonly asked: string[];
}

const bodyOf = async (request: IncomingMessage): Promise<string> => {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(Buffer.from(part));
  return Buffer.concat(parts).toString('utf8');
};

export const startNodeInFront = async (behind: string): Promise<NodeInFront> => {
  const server = await listen(
    (request, response) => {
      const answer = async (): Promise<string> => {
        const body = await bodyOf(request);
        const call = rpcRequest.parse(JSON.parse(body));
        node.asked.push(call.method);
        const reply = await fetch(behind, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body,
        });
        const said = rpcReply.parse(await reply.json());
        const { result } = said;
        if (node.lie === undefined || result === undefined) return JSON.stringify(said);
        return JSON.stringify({ ...said, result: node.lie(call, result) });
      };
      if (node.isSilent) return;
      if (node.isDown) {
        response.writeHead(503).end('gone');
        return;
      }
      answer().then(
        (text) => response.writeHead(200, { 'content-type': 'application/json' }).end(text),
        () => response.writeHead(502).end(),
      );
    },
    { host: 'localhost', port: 0 },
  );
  const node: NodeInFront = {
    url: `http://localhost:${server.port}`,
    lie: undefined,
    isDown: false,
    isSilent: false,
    asked: [],
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
  return node;
};
