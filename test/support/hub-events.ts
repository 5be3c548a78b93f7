import { createSqlEventStore, type EventTables, eventMigrations } from '../../broker/adapters/sql/event-store.ts';
import { createEventRoutes } from '../../broker/events/routes.ts';
import { type EventLimits, type Events, startEvents } from '../../broker/events/service.ts';
import { createEventStream } from '../../connector/adapters/http/event-stream.ts';
import {
  createSqlStatusStore,
  type StatusTables,
  statusMigrations,
} from '../../connector/adapters/sql/status-store.ts';
import type { StatusStore } from '../../connector/status/ports.ts';
import { type Status, type StatusOptions, startStatus } from '../../connector/status/service.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite, type Sqlite } from '../../kernel/sql/sqlite.ts';
import { createWakeups } from '../../kernel/wakeups.ts';
import { type HubParty, startHubParty } from './hub-parties.ts';

/** A broker with its stream of events, and connectors that follow it, over real servers and rows. */

export const openEventStore = async () => {
  const sqlite = openSqlite<EventTables>({ path: ':memory:' });
  await migrate(sqlite.db, 'events', eventMigrations);
  return { sqlite, store: createSqlEventStore(sqlite.db) };
};

export const openStatusStore = async (): Promise<StatusStore> => {
  const { db } = openSqlite<StatusTables>({ path: ':memory:' });
  await migrate(db, 'status', statusMigrations);
  return createSqlStatusStore(db);
};

export interface EventBroker extends AsyncDisposable {
  readonly party: HubParty;
  readonly events: () => Events;
  readonly members: Set<Did>;
  readonly accreditors: Set<Did>;
  readonly sqlite: Sqlite<EventTables>;
  /** Another process over the same rows; what it says between processes may be lost on its way. */
  readonly twin: (isHeard: boolean) => Promise<Events>;
  /** Ends the service as a crash of the process would, and starts another over the same rows. */
  readonly stop: () => Promise<void>;
  readonly start: () => Promise<void>;
}

export const startEventBroker = async (
  options: { readonly clock?: Clock; readonly limits?: Partial<EventLimits> } = {},
): Promise<EventBroker> => {
  const clock = options.clock ?? systemClock;
  const party = await startHubParty({ clock });
  const { sqlite, store } = await openEventStore();
  const members = new Set<Did>();
  const accreditors = new Set<Did>();
  const between = createWakeups(silentLogger);
  const make = (wakeups = between) =>
    startEvents({
      store,
      keys: party.keys,
      members: { isMember: async (did) => members.has(did) },
      issuers: {
        isRecognised: async (did) => accreditors.has(did),
        issuerOf: async (subject) => (subject.startsWith('urn:uuid:membership') ? party.did : undefined),
      },
      resolver: party.resolver,
      wakeups,
      clock,
      log: silentLogger,
      ...(options.limits === undefined ? {} : { limits: options.limits }),
    });
  const serve = (events: Events) =>
    party.serve(
      createEventRoutes({
        events,
        authenticate: (headers) => party.authenticator.authenticate(headers),
        log: silentLogger,
      }),
    );
  let events = await make();
  serve(events);
  return {
    party,
    members,
    accreditors,
    sqlite,
    events: () => events,
    twin: (isHeard) => make(isHeard ? between : createWakeups(silentLogger)),
    stop: async () => {
      await events[Symbol.asyncDispose]();
      await party.down();
    },
    start: async () => {
      events = await make();
      serve(events);
      await party.up();
    },
    [Symbol.asyncDispose]: async () => {
      await events[Symbol.asyncDispose]();
      await party[Symbol.asyncDispose]();
      await sqlite[Symbol.asyncDispose]();
    },
  };
};

export const us = 'us' as ParticipantId;

/** A connector's status, following a broker at its origin. */
export const follow = async (
  connector: HubParty,
  broker: Pick<HubParty, 'did' | 'origin'>,
  options: Partial<StatusOptions> = {},
): Promise<Status> =>
  startStatus({
    participant: us,
    broker: broker.did,
    accreditors: [],
    store: options.store ?? (await openStatusStore()),
    open: createEventStream({
      client: connector.client,
      tokens: connector.tokens,
      broker: broker.did,
      url: `${broker.origin}/events`,
    }),
    resolver: connector.resolver,
    clock: systemClock,
    random: systemRandom,
    log: silentLogger,
    ...options,
  });
