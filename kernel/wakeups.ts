import type { Logger } from './log.ts';

/**
 * Word to those who wait, between the parts of a program and between programs: there is work, something changed. What it
 * is about stands in the rows; a wake-up that is lost costs only time, because whoever waits also looks now and then.
 */
export interface Wakeups extends AsyncDisposable {
  /**
   * Tells everybody who listens to the channel, this program too; never fails and never waits. After the commit of what
   * it is about, or they look too early. The payload names what changed: an id of at most 1,000 characters, never a
   * secret.
   */
  readonly notify: (channel: string, payload?: string) => void;
  /**
   * Hears the channel until the answer is called, at least once for each word that arrives, in any order. An empty payload
   * says that anything may have changed: words may have been lost.
   */
  readonly listen: (channel: string, hear: (payload: string) => void) => () => void;
}

/** Who listens to what; an adapter that reaches other programs keeps its listeners here too. */
export const createListeners = (log: Logger) => {
  const channels = new Map<string, Set<(payload: string) => void>>();
  const hearSafely = (hear: (payload: string) => void, channel: string, payload: string): void => {
    try {
      hear(payload);
    } catch (error) {
      log.error({ error, channel }, 'a wake-up was not heard');
    }
  };
  return {
    channels: (): readonly string[] => [...channels.keys()],
    tell: (channel: string, payload: string): void => {
      for (const hear of [...(channels.get(channel) ?? [])]) hearSafely(hear, channel, payload);
    },
    add: (channel: string, hear: (payload: string) => void): (() => void) => {
      const own = (payload: string) => hear(payload); // the same function may listen twice
      const heard = channels.get(channel) ?? new Set();
      channels.set(channel, heard.add(own));
      return () => {
        heard.delete(own);
        if (heard.size === 0 && channels.get(channel) === heard) channels.delete(channel);
      };
    },
    clear: (): void => channels.clear(),
  };
};

/** Wake-ups inside one program. A listener runs after whoever told it has gone on, never inside the call. */
export const createWakeups = (log: Logger): Wakeups => {
  const listeners = createListeners(log);
  return {
    notify: (channel, payload = '') => queueMicrotask(() => listeners.tell(channel, payload)),
    listen: listeners.add,
    [Symbol.asyncDispose]: async () => listeners.clear(),
  };
};
