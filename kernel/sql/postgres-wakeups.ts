import type { Client } from 'pg';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import { systemRandom } from '../random.ts';
import { createListeners, type Wakeups } from '../wakeups.ts';

/**
 * Wake-ups between the processes of one PostgreSQL database, by LISTEN and NOTIFY on a connection of their own. While that
 * is lost everybody is told to look, again and again: what they know may be out of date.
 */

interface PostgresWakeupsOptions {
  /** As for `openPostgres`; a secret. */
  readonly url: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** One name for the whole database; which channel of ours is meant stands in the payload. */
const pgChannel = 'stekker';
const connectTimeoutMs = 5_000;
/** A line that says nothing for so long is dead: the network may hold it open for hours. */
const beatMs = 1_000;
const beatTimeoutMs = 2_000;
const firstPauseMs = 100;
const longestPauseMs = 1_000;
/** Words that wait to be told; more of them become one that says: look. */
const maxPending = 1_000;

const connect = async (url: string): Promise<Client> => {
  const { default: pg } = await import('pg');
  const client = new pg.Client({
    connectionString: url,
    application_name: 'stekker wake-ups',
    connectionTimeoutMillis: connectTimeoutMs,
    query_timeout: beatTimeoutMs,
    keepAlive: true,
  });
  client.on('error', () => undefined); // the next beat hears of it
  await client.connect();
  return client;
};

/** Words for the others, gathered while the ones before are on their way. */
const createPending = () => {
  let words = new Set<string>();
  return {
    add: (channel: string, payload: string): void => {
      words.add(words.size < maxPending ? `${channel} ${payload}` : `${channel} `);
    },
    take: (): readonly string[] => {
      const taken = [...words];
      words = new Set();
      return taken;
    },
  };
};

/** Starts at once and never fails: without the connection there is still word inside the process. */
export const startPostgresWakeups = ({ url, clock, log }: PostgresWakeupsOptions): Wakeups => {
  const listeners = createListeners(log);
  const pending = createPending();
  const stopped = new AbortController();
  /** Tells our own words, which come back like all others, from theirs. */
  const self = Buffer.from(systemRandom.bytes(8)).toString('hex');
  let client: Client | undefined;
  let sending: Promise<void> | undefined;

  const hear = (text: string): void => {
    const [from = '', channel = '', ...rest] = text.split(' ');
    if (from !== self) listeners.tell(channel, rest.join(' '));
  };
  const tellAll = (): void => {
    for (const channel of listeners.channels()) listeners.tell(channel, '');
  };
  const send = async (): Promise<void> => {
    for (let words = pending.take(); words.length > 0 && client !== undefined; words = pending.take())
      await client
        .query(`select pg_notify('${pgChannel}', word) from unnest($1::text[]) as word`, [
          words.map((word) => `${self} ${word}`),
        ])
        .catch((error: unknown) => log.warn({ error }, 'other processes were not woken'));
  };

  /** Listens until the line is lost or we stop. */
  const attend = async (): Promise<void> => {
    const line = await connect(url);
    try {
      line.on('notification', ({ payload = '' }) => hear(payload));
      await line.query(`listen ${pgChannel}`);
      client = line;
      tellAll(); // whatever was said before
      while (!stopped.signal.aborted) {
        await clock.sleep(beatMs, stopped.signal);
        await line.query('select 1');
      }
    } finally {
      client = undefined;
      await line.end().catch(() => undefined);
    }
  };
  const loop = async (): Promise<void> => {
    for (let pauseMs = firstPauseMs; !stopped.signal.aborted; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
      const since = clock.now();
      await attend().catch((error: unknown) => {
        if (!stopped.signal.aborted) log.warn({ error }, 'no wake-ups from other processes; it is tried again');
      });
      if (clock.now() - since > longestPauseMs) pauseMs = firstPauseMs;
      tellAll();
      await clock.sleep(pauseMs, stopped.signal);
    }
  };
  const looping = loop();

  return {
    notify: (channel, payload = '') => {
      queueMicrotask(() => listeners.tell(channel, payload));
      pending.add(channel, payload);
      sending ??= send().finally(() => {
        sending = undefined;
      });
    },
    listen: listeners.add,
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      listeners.clear();
      await sending;
      await looping;
    },
  };
};
