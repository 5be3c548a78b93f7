import type { Hono } from 'hono';
import { isAppError } from '../contracts/errors.ts';
import type { Did } from '../contracts/ids.ts';
import { createSqlEventStore } from './adapters/sql/event-store.ts';
import { sqlLogNews } from './adapters/sql/log-news.ts';
import type { Base } from './base.ts';
import type { Issuer } from './credentials/service.ts';
import { type Announcer, startAnnouncer } from './events/announcer.ts';
import { createEventRoutes } from './events/routes.ts';
import { type Events, startEvents } from './events/service.ts';
import type { Ledger } from './ledger/service.ts';
import type { Registry } from './registry/service.ts';

/** What the hub tells its members (wire §7): its own word, those of accreditors, and what the log says. */

interface HubEventsOptions {
  readonly origin: string;
  readonly registry: Pick<Registry, 'member'>;
  readonly issuer: Pick<Issuer, 'credential'>;
  readonly whileWriting: Ledger['whileWriting'];
}

export interface HubEvents {
  readonly events: Events;
  /** Tells members what the log says, while this process writes it. */
  readonly announcing: AsyncDisposable;
  /** There is an entry that members may have to hear of. */
  readonly wakeAnnouncer: () => void;
  readonly routes: Hono;
}

/** Starts the stream. What the log said before a crash, and nobody was told, the process that writes tells first of all. */
export const composeEvents = async (
  { config, db, keys, resolver, wakeups, clock, log, own, authenticate }: Base,
  { origin, registry, issuer, whileWriting }: HubEventsOptions,
): Promise<HubEvents> => {
  const store = createSqlEventStore(db);
  const recognised = new Set(config.STEKKER_ACCREDITORS);
  const issuerOf = async (subject: string): Promise<Did | undefined> => {
    try {
      return (await issuer.credential(subject)).issuer;
    } catch (error) {
      if (isAppError(error, 'not-found')) return undefined;
      throw error;
    }
  };
  const events = own(
    await startEvents({
      store,
      keys,
      members: { isMember: async (did) => (await registry.member(did)) !== undefined },
      issuers: { isRecognised: async (did) => recognised.has(did), issuerOf },
      resolver,
      wakeups,
      clock,
      log,
    }),
  );
  let announcer: Announcer | undefined;
  const announcing = own(
    await whileWriting(async () => {
      announcer = await startAnnouncer({ news: sqlLogNews(db, origin), events, store, clock, log });
      return announcer;
    }),
  );
  return {
    events,
    announcing,
    wakeAnnouncer: () => announcer?.wake(),
    routes: createEventRoutes({ events, authenticate, log }),
  };
};
