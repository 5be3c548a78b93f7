import { Hono } from 'hono';
import type { z } from 'zod';
import {
  contractAgreementMessage,
  contractAgreementVerificationMessage,
  contractNegotiationEventMessage,
  contractNegotiationTerminationMessage,
  contractOfferMessage,
  contractRequestMessage,
} from '../../contracts/dsp/negotiation.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { enter, handle, type RouteOptions, readMessage } from '../exchange/http.ts';
import type { Caller } from '../exchange/ports.ts';
import type { Answer } from '../exchange/receive.ts';
import type { Body } from '../exchange/rules.ts';
import type { NegotiationService } from './service.ts';

interface Incoming<Message> {
  readonly participant: ParticipantId;
  readonly caller: Caller;
  readonly message: Message;
  readonly body: Body;
}

/** The endpoints of dsp §5.1, in the order of the standard's table; paths hang on `<base>`. */
export const createNegotiationRoutes = (service: NegotiationService, options: RouteOptions): Hono => {
  const app = new Hono();
  const { log } = options;

  const opening = <Message extends { readonly callbackAddress?: string | undefined }>(
    path: string,
    schema: z.ZodType<Message>,
    on: (incoming: Incoming<Message>) => Promise<Answer>,
  ) =>
    app.post(path, (c) =>
      handle({ surface: 'negotiation', log }, async (hear) => {
        const who = await enter(c, options, 'message');
        const read = await readMessage(c, schema, hear);
        if (read.message.callbackAddress === undefined)
          throw new AppError('body-invalid', { detail: 'the first message has a callbackAddress' });
        return on({ ...who, ...read });
      }),
    );

  const following = <Message>(
    path: string,
    schema: z.ZodType<Message>,
    on: (incoming: Incoming<Message> & { readonly pid: string }) => Promise<Answer>,
  ) =>
    app.post(`/negotiations/:pid${path}`, (c) => {
      const pid = c.req.param('pid') ?? '';
      return handle({ surface: 'negotiation', log, pid }, async (hear) => {
        const who = await enter(c, options, 'message');
        return on({ ...who, ...(await readMessage(c, schema, hear)), pid });
      });
    });

  opening('/negotiations/request', contractRequestMessage, service.onRequest);
  opening('/negotiations/offers', contractOfferMessage, service.onOffer);
  app.get('/negotiations/:pid', (c) => {
    const pid = c.req.param('pid');
    return handle({ surface: 'negotiation', log, pid }, async () => {
      const { participant, caller } = await enter(c, options);
      return { status: 200, body: await service.show(participant, caller.did, pid), newest: '' };
    });
  });
  following('/request', contractRequestMessage, service.onRequest);
  following('/offers', contractOfferMessage, service.onOffer);
  following('/agreement', contractAgreementMessage, service.onAgreement);
  following('/agreement/verification', contractAgreementVerificationMessage, service.onVerification);
  following('/events', contractNegotiationEventMessage, service.onEvent);
  following('/termination', contractNegotiationTerminationMessage, service.onTermination);
  return app;
};
