import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import type { EventStore, LogNews } from './ports.ts';
import type { Events } from './service.ts';

/**
 * Tells members what the log says: new keys, and agreements that ended (wire §7). The log is the only source, and how far it
 * was heard is saved with each event: a crash between an entry and its event loses nothing and doubles nothing.
 */

export interface AnnouncerOptions {
  readonly news: LogNews;
  readonly events: Pick<Events, 'announce'>;
  readonly store: EventStore;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface Announcer extends AsyncDisposable {
  /** There is an entry that members may have to hear of. Returns at once. */
  readonly wake: () => void;
}

const pageSize = 200;
/** The safety net behind the wake-ups. */
const pollMs = 1_000;
/** So many entries without news are looked through again after a crash, at most. */
const notedEvery = 10_000;

/** Starts announcing; what was not announced before a crash is, before this resolves. */
export const startAnnouncer = async ({ news, events, store, clock, log }: AnnouncerOptions): Promise<Announcer> => {
  let heard = await store.read.heardOf(news.log);
  let noted = heard;

  const round = async (): Promise<void> => {
    for (let isMore = true; isMore; ) {
      const { items, until } = await news.behind(heard, pageSize);
      for (const { index, type, subject, audience } of items) {
        const source = { log: news.log, index };
        await events.announce({ type, subject, audience, source, key: `${news.log} ${index}` });
        noted = index + 1;
      }
      isMore = until > heard;
      heard = until;
    }
    if (heard - noted < notedEvery) return;
    await store.heard(news.log, heard);
    noted = heard;
  };
  await round();

  const stopped = new AbortController();
  let awake = Promise.withResolvers<void>();
  const pause = async (): Promise<void> => {
    const slept = new AbortController();
    await Promise.race([awake.promise, clock.sleep(pollMs, slept.signal)]);
    slept.abort();
  };
  const loop = async (): Promise<void> => {
    for (;;) {
      await pause();
      if (stopped.signal.aborted) return;
      awake = Promise.withResolvers<void>(); // before the look: what comes during it is looked at next
      await round().catch((err: unknown) => log.error({ err }, 'what the log says was not announced'));
    }
  };
  const looping = loop();
  return {
    wake: () => awake.resolve(),
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      awake.resolve();
      await looping;
    },
  };
};
