import { afterEach, describe, expect, test } from 'vitest';
import type { Did } from '../../contracts/ids.ts';
import { manualClock, systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { eventually } from '../../test/support/dsp-pair.ts';
import { type EventBroker, startEventBroker } from '../../test/support/hub-events.ts';
import { noticeOf, startHubParty } from '../../test/support/hub-parties.ts';
import { createSqlEventStore } from '../adapters/sql/event-store.ts';
import { type AnnouncerOptions, startAnnouncer } from './announcer.ts';
import type { LogNews, NewsItem } from './ports.ts';

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (let last = open.pop(); last !== undefined; last = open.pop()) await last[Symbol.asyncDispose]();
});
const keep = <Resource extends AsyncDisposable>(resource: Resource): Resource => {
  open.push(resource);
  return resource;
};

const anna = 'did:web:anna.example' as Did;
const keysAt = (index: number): NewsItem => ({ index, type: 'keys', subject: `${anna}-${index}`, audience: null });
const endAt = (index: number, subject = 'E'.repeat(43)): NewsItem => ({
  index,
  type: 'agreement-ended',
  subject,
  audience: [anna],
});

/** A log that grows as a test says, two pieces of news at a time. */
const growingLog = () => {
  const entries: (NewsItem | null)[] = [];
  const asked: number[] = [];
  const news: LogNews = {
    log: 'broker.example/log/2026',
    behind: async (from) => {
      asked.push(from);
      const items = entries.slice(from).filter((item) => item !== null);
      const until = items[2]?.index ?? entries.length;
      return { items: items.slice(0, 2), until };
    },
  };
  return { entries, asked, news };
};

const startWorld = async (clock = manualClock(systemClock.now())) => {
  const broker = keep(await startEventBroker({ clock }));
  const log = growingLog();
  const store = createSqlEventStore(broker.sqlite.db);
  const options: AnnouncerOptions = { news: log.news, events: broker.events(), store, clock, log: silentLogger };
  return {
    ...log,
    broker,
    clock,
    store,
    start: (more: Partial<AnnouncerOptions> = {}) => startAnnouncer({ ...options, events: broker.events(), ...more }),
  };
};

const subjectsOf = async (broker: EventBroker) =>
  (await broker.sqlite.db.selectFrom('event').select('subject').orderBy('seq').execute()).map(({ subject }) => subject);

describe('announcer', () => {
  test('announces what the log says, in its order, before it begins and at once after', async () => {
    const { entries, broker, start } = await startWorld();
    entries.push(keysAt(0), null, keysAt(2), keysAt(3), null);
    const announcer = keep(await start());
    expect(await subjectsOf(broker)).toEqual([0, 2, 3].map((index) => `${anna}-${index}`));
    entries.push(endAt(5));
    announcer.wake();
    await eventually(
      () => subjectsOf(broker),
      (all) => all.length === 4,
    );
  });

  test('what nobody told it is found within a second', async () => {
    const { entries, broker, clock, start } = await startWorld();
    keep(await start());
    entries.push(keysAt(0));
    await eventually(
      async () => {
        clock.advance(1_000);
        return subjectsOf(broker);
      },
      (all) => all.length === 1,
    );
  });

  test('goes on where it was after a crash: what was not told is, and nothing is told twice', async () => {
    const { entries, broker, start, store } = await startWorld();
    entries.push(keysAt(0), keysAt(1), endAt(2), keysAt(3));
    const events = broker.events();
    let told = 0;
    const dying: typeof events.announce = async (announcement) => {
      if (told === 2) throw new Error('the program died');
      await events.announce(announcement);
      told += 1;
    };
    await expect(start({ events: { announce: dying } })).rejects.toThrow('died');
    expect(await store.read.heardOf('broker.example/log/2026')).toBe(2);
    await (await start())[Symbol.asyncDispose]();
    await (await start())[Symbol.asyncDispose]();
    expect(await subjectsOf(broker)).toEqual([`${anna}-0`, `${anna}-1`, 'E'.repeat(43), `${anna}-3`]);
  });

  test('tells nothing twice, however long ago it was told', async () => {
    const { entries, broker, start, store } = await startWorld();
    entries.push(keysAt(0), keysAt(1));
    await (await start())[Symbol.asyncDispose]();
    await store.prune(Number.MAX_SAFE_INTEGER);
    await broker.sqlite.db.deleteFrom('event').execute();
    await (await start())[Symbol.asyncDispose]();
    expect(await subjectsOf(broker)).toEqual([]);
  });

  test('a failure is tried again, and stops nothing', async () => {
    const { entries, broker, start } = await startWorld();
    const events = broker.events();
    let failures = 2;
    const announcer = keep(
      await start({
        events: {
          announce: async (announcement) => {
            failures -= 1;
            if (failures >= 0) throw new Error('the disk is full');
            await events.announce(announcement);
          },
        },
      }),
    );
    entries.push(keysAt(0), keysAt(1));
    await eventually(
      async () => {
        announcer.wake();
        return subjectsOf(broker);
      },
      (all) => all.length === 2,
    );
  });

  test('a long stretch without news is not looked through again', async () => {
    const { entries, asked, start } = await startWorld();
    entries.push(...Array.from({ length: 10_000 }, () => null));
    await (await start())[Symbol.asyncDispose]();
    asked.length = 0;
    await (await start())[Symbol.asyncDispose]();
    expect(asked).toEqual([10_000]);
  });

  test('nobody keeps the end of an agreement from its parties by speaking of it first', async () => {
    const { entries, broker, start, clock } = await startWorld();
    const accreditor = keep(await startHubParty({ clock }));
    broker.accreditors.add(accreditor.did);
    const digest = 'F'.repeat(43);
    await broker
      .events()
      .accept(noticeOf(accreditor, { type: 'reinstated', subject: digest }, clock.now()), accreditor.did);
    entries.push(endAt(0, digest));
    keep(await start());
    const { events } = await createSqlEventStore(broker.sqlite.db).read.inForce(anna, 0);
    expect(events.map(({ type, subject }) => [type, subject])).toContainEqual(['agreement-ended', digest]);
  });
});
