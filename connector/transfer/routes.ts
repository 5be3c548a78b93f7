import { Hono } from 'hono';
import type { z } from 'zod';
import {
  transferCompletionMessage,
  transferRequestMessage,
  transferStartMessage,
  transferSuspensionMessage,
  transferTerminationMessage,
} from '../../contracts/dsp/transfer.ts';
import { enter, handle, type RouteOptions, readMessage } from '../exchange/http.ts';
import type { Answer } from '../exchange/receive.ts';
import type { Incoming } from './receiving.ts';
import type { TransferService } from './service.ts';

/** The endpoints of dsp §6.1, in the order of the standard's table; paths hang on `<base>`. */
export const createTransferRoutes = (service: TransferService, options: RouteOptions): Hono => {
  const app = new Hono();
  const { log } = options;

  const following = <Message>(
    path: string,
    schema: z.ZodType<Message>,
    on: (incoming: Incoming<Message> & { readonly pid: string }) => Promise<Answer>,
  ) =>
    app.post(`/transfers/:pid${path}`, (c) => {
      const pid = c.req.param('pid') ?? '';
      return handle({ surface: 'transfer', log, pid }, async (hear) => {
        const who = await enter(c, options, 'message');
        return on({ ...who, ...(await readMessage(c, schema, hear)), pid });
      });
    });

  app.post('/transfers/request', (c) =>
    handle({ surface: 'transfer', log }, async (hear) => {
      const who = await enter(c, options, 'message');
      return service.onRequest({ ...who, ...(await readMessage(c, transferRequestMessage, hear)) });
    }),
  );
  app.get('/transfers/:pid', (c) => {
    const pid = c.req.param('pid');
    return handle({ surface: 'transfer', log, pid }, async () => {
      const { participant, caller } = await enter(c, options);
      return { status: 200, body: await service.show(participant, caller.did, pid), newest: '' };
    });
  });
  following('/start', transferStartMessage, service.onStart);
  following('/suspension', transferSuspensionMessage, service.onSuspension);
  following('/completion', transferCompletionMessage, service.onCompletion);
  following('/termination', transferTerminationMessage, service.onTermination);
  return app;
};
