import { createEventStream } from '../../connector/adapters/http/event-stream.ts';
import { type BrokerEvent, type BrokerMessage, brokerMessageText, readBrokerMessage } from '../../contracts/events.ts';
import type { Did } from '../../contracts/ids.ts';
import { systemClock } from '../../kernel/clock.ts';
import type { HubParty } from './hub-parties.ts';

/** Members of a broker that dies again and again: they try until they get through, and hear what is told meanwhile. */

/** Tries until it gets through, whatever dies meanwhile: a lost answer is asked for again. */
export const insist = async (what: string, attempt: () => Promise<boolean>): Promise<void> => {
  for (let tries = 0; tries < 4_000; tries += 1) {
    if (await attempt().catch(() => false)) return;
    await systemClock.sleep(5);
  }
  throw new Error(`it never got through: ${what}`);
};

/** A member that listens through all of it, and keeps each event under its number. */
export const listener = (by: HubParty, broker: { readonly did: Did; readonly origin: string }) => {
  const events = new Map<number, BrokerEvent>();
  const faults: string[] = [];
  const stop = new AbortController();
  let first: number | undefined;
  let last: number | null = null;
  let beat = -1;
  const openStream = createEventStream({
    client: by.client,
    tokens: by.tokens,
    broker: broker.did,
    url: `${broker.origin}/events`,
  });
  const take = (message: BrokerMessage): void => {
    if (message.type === 'heartbeat') {
      if (last !== null && message.n !== last) faults.push(`a heartbeat says ${message.n} behind ${last}`);
      beat = message.n;
      return;
    }
    if (message.type === 'snapshot') {
      if (last !== null) faults.push(`a snapshot at ${message.n} behind ${last}`);
      first ??= message.n;
      last = message.n;
      return;
    }
    const known = events.get(message.n);
    if (known !== undefined && brokerMessageText(known) !== brokerMessageText(message))
      faults.push(`two events have the number ${message.n}`);
    if (last !== null && message.n !== last + 1) faults.push(`event ${message.n} came behind ${last}`);
    events.set(message.n, message);
    last = message.n;
  };
  const loop = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      const connection = openStream(last);
      stop.signal.addEventListener('abort', connection.close, { once: true });
      try {
        for await (const data of connection.messages) {
          const read = readBrokerMessage(JSON.parse(data));
          if (read.ok) take(read.value.value);
          else faults.push(read.reason);
        }
      } catch {
        // the broker is not there: it comes back
      }
      await systemClock.sleep(20, stop.signal);
    }
  };
  const looping = loop();
  return {
    faults,
    isListening: () => first !== undefined,
    /** The number of the last event, as the last heartbeat says. */
    beat: () => beat,
    first: () => first ?? 0,
    linesOf: () => [...events.values()].map((event) => `${event.type} ${event.subject}`),
    [Symbol.asyncDispose]: async () => {
      stop.abort();
      await looping;
    },
  };
};
