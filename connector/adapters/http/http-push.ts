import { request } from 'undici';
import type { GuardedClient } from '../../../kernel/http/client.ts';
import { appErrorIn } from '../../../kernel/http/client.ts';
import type { HttpPush } from '../../data-plane/ports.ts';

/** Bodies that are sent as they come, over the guarded client's dispatcher. */

/** A consumer that takes nothing, or does not answer, for this long has failed. */
const stalledMs = 60_000;
const maxAnswerBytes = 65_536;

/** No redirect is followed: an answer that leads elsewhere is an answer. */
export const createHttpPush = ({ check, dispatcher }: Pick<GuardedClient, 'check' | 'dispatcher'>): HttpPush => ({
  check,
  send: async ({ url, method, headers, body }) => {
    check(url);
    try {
      const answer = await request(url, {
        dispatcher,
        method,
        headers,
        body: body as never, // undici takes any async iterable, as its manual says; its types name only Node's streams
        headersTimeout: stalledMs,
        bodyTimeout: stalledMs,
      });
      await answer.body.dump({ limit: maxAnswerBytes });
      return answer.statusCode;
    } catch (error) {
      throw appErrorIn(error) ?? error;
    }
  },
});
