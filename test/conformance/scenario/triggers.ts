import { createServer, type IncomingMessage, type Server } from 'node:http';
import { z } from 'zod';
import type { RunningConnector } from '../../../connector/main.ts';
import type { Did, ParticipantId } from '../../../contracts/ids.ts';
import { rules } from './scripts.ts';

/**
 * Where a kit asks the connector to begin as consumer: a listener of the tests alone, which calls what a program calls that
 * starts a connector itself.
 */

const address = { providerId: z.string().min(1), connectorAddress: z.string().min(1) };
const negotiation = z.object({ ...address, datasetId: z.string().min(1), offerId: z.string().min(1) });
const transfer = z.object({ ...address, agreementId: z.string().min(1), format: z.string().min(1) });

export interface TriggerOptions {
  readonly connector: Pick<RunningConnector, 'negotiations' | 'transfers'>;
  readonly participant: ParticipantId;
  /** The paths of the two endpoints. */
  readonly paths: { readonly negotiations: string; readonly transfers: string };
}

const begin = async (
  { connector, participant, paths }: TriggerOptions,
  path: string,
  body: unknown,
): Promise<boolean> => {
  if (path === paths.negotiations) {
    const { providerId, connectorAddress, datasetId, offerId } = negotiation.parse(body);
    await connector.negotiations.request({
      participant,
      provider: providerId as Did,
      providerBase: connectorAddress,
      dataset: datasetId,
      offerId,
      rules,
      assurance: 'plain-dsp',
      price: '',
    });
    return true;
  }
  if (path !== paths.transfers) return false;
  const { connectorAddress, agreementId, format } = transfer.parse(body);
  await connector.transfers.request({ participant, agreementId, format, providerBase: connectorAddress });
  return true;
};

const readJson = async (incoming: IncomingMessage): Promise<unknown> => {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming as AsyncIterable<Buffer>) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString('utf8'));
};

const close = (server: Server): Promise<void> =>
  new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });

/** Listens for triggers; 200 when the request is under way, 400 with the reason when it cannot be. */
export const listenForTriggers = async (options: TriggerOptions, port: number): Promise<AsyncDisposable> => {
  const server = createServer((incoming, outgoing) => {
    const answer = (status: number, text: string) => {
      outgoing.writeHead(status, { 'content-type': 'application/json' });
      outgoing.end(JSON.stringify({ text }));
    };
    readJson(incoming)
      .then((body) => begin(options, incoming.url ?? '', body))
      .then((known) => answer(known ? 200 : 404, known ? 'begun' : 'no such trigger'))
      .catch((error: unknown) => answer(400, String(error)));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, 'localhost', resolve);
  });
  return { [Symbol.asyncDispose]: () => close(server) };
};
