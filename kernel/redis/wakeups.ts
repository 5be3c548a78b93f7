import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { startRepeating } from '../lifecycle.ts';
import type { Logger } from '../log.ts';
import { createListeners, type Wakeups } from '../wakeups.ts';
import type { RedisConnection } from './connection.ts';

export interface RedisWakeupsOptions {
  readonly redis: Pick<RedisConnection, 'publish' | 'listen'>;
  /** Of the deployment: others may use the same Redis. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
}

const beatMs = 1_000;
/** Whoever has not heard its own beat for so long may have missed the words of others. */
const deafMs = 3_000;

/**
 * Wake-ups between the processes of one deployment, over publish and subscribe. Listeners in the same process hear without
 * Redis. While it is away everybody is told to look, again and again; what could not be told is told as "look" afterwards.
 */
export const createRedisWakeups = ({ redis, name, clock, log }: RedisWakeupsOptions): Wakeups => {
  const listeners = createListeners(log);
  const place = `stekker:${name}:wake`;
  const self = randomUUID();
  const unsaid = new Set<string>();
  let heardAt = clock.now();

  redis.listen(place, (message) => {
    const [by, rest] = [message.slice(0, self.length), message.slice(self.length)];
    const end = rest.indexOf('\n');
    if (by === self)
      heardAt = clock.now(); // our own words come back, and were heard already
    else if (end > 0) listeners.tell(rest.slice(0, end), rest.slice(end + 1));
  });

  const say = async (channel: string, payload: string): Promise<void> => {
    try {
      await redis.publish(place, `${self}${channel}\n${payload}`);
    } catch (err) {
      if (channel !== '') unsaid.add(channel);
      log.debug({ err, channel }, 'a wake-up reached this process alone');
    }
  };
  const beat = async (): Promise<void> => {
    const late = [...unsaid];
    unsaid.clear();
    await Promise.all(late.map((channel) => say(channel, '')));
    await say('', '');
    if (clock.now() - heardAt > deafMs) for (const channel of listeners.channels()) listeners.tell(channel, '');
  };
  const beating = startRepeating({ everyMs: beatMs, work: beat, clock, log });

  return {
    notify: (channel, payload = '') => {
      queueMicrotask(() => listeners.tell(channel, payload));
      void say(channel, payload);
    },
    listen: listeners.add,
    [Symbol.asyncDispose]: async () => {
      await beating[Symbol.asyncDispose]();
      listeners.clear();
    },
  };
};
