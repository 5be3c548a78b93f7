import { createHash } from 'node:crypto';
import { Cluster, Redis } from 'ioredis';
import { AppError } from '../../contracts/errors.ts';
import type { RedisUrls } from './urls.ts';

/**
 * One connection to Redis, a single server or a Cluster. Every command has a limit in time, nothing waits in a queue for a
 * server that is away, and nothing is sent twice: whoever asks hears at once that it cannot be known.
 */

const commandMs = 1_000;
const connectMs = 2_000;
/** A connection on which an answer is overdue for this long is made anew. */
const silentMs = 2_000;
const maxRetryMs = 2_000;
const refreshMs = 5_000;
/** Commands on their way at a time. */
const maxUnderWay = 4_096;

export interface Script {
  readonly text: string;
  readonly sha1: string;
}

export const script = (text: string): Script => ({ text, sha1: createHash('sha1').update(text).digest('hex') });

export interface RedisConnection extends AsyncDisposable {
  readonly isCluster: boolean;
  /** Where it goes, without names and passwords. */
  readonly address: string;
  /** Runs a script where its keys are. @throws when there is no answer in time, or a fault. */
  readonly run: (script: Script, keys: readonly string[], args: readonly (string | number)[]) => Promise<unknown>;
  /** `INFO <section>` of every master that is known. @throws when one of them does not answer. */
  readonly info: (section: string) => Promise<readonly string[]>;
  readonly publish: (channel: string, message: string) => Promise<unknown>;
  /** Hears a channel until the connection ends; after a break again, without what was said meanwhile. */
  readonly listen: (channel: string, hear: (message: string) => void) => void;
}

const optionsOf = ({ protocol, username, password, pathname }: URL) => ({
  commandTimeout: commandMs,
  connectTimeout: connectMs,
  socketTimeout: silentMs,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  disableClientInfo: true,
  ...(username === '' ? {} : { username: decodeURIComponent(username) }),
  ...(password === '' ? {} : { password: decodeURIComponent(password) }),
  ...(pathname.length > 1 ? { db: Number(pathname.slice(1)) } : {}),
  ...(protocol.startsWith('rediss') ? { tls: {} } : {}),
});

const placeOf = ({ hostname, port }: URL) => ({
  host: hostname.replace(/^\[|\]$/g, ''),
  port: port === '' ? 6379 : Number(port),
});

const retryMs = (times: number): number => Math.min(50 * 2 ** Math.min(times, 10), maxRetryMs);

const openClient = ({ urls, isCluster }: RedisUrls): Redis | Cluster => {
  const [first] = urls;
  if (first === undefined) throw new AppError('invariant-broken', { detail: 'there is no address of Redis' });
  const options = optionsOf(first);
  if (!isCluster)
    return new Redis({ ...options, ...placeOf(first), enableOfflineQueue: false, retryStrategy: retryMs });
  return new Cluster(urls.map(placeOf), {
    redisOptions: options,
    enableOfflineQueue: false,
    clusterRetryStrategy: retryMs,
    // Nothing is sent a second time on its own: a claim that was carried out would look repeated.
    retryDelayOnFailover: 0,
    retryDelayOnClusterDown: 0,
    maxRedirections: 4,
    slotsRefreshTimeout: commandMs,
    slotsRefreshInterval: refreshMs,
  });
};

const ignore = (): void => undefined;

/** What went wrong, in words alone: errors of the driver hold the command with its arguments, and so a password. */
const wordsOf = (error: unknown): string => {
  const its = error instanceof Error && 'lastNodeError' in error ? error.lastNodeError : error;
  return its instanceof Error ? its.message : 'no answer';
};

/** A scripted command by its digest; the text follows only where a server does not have it yet. */
const runScript = async (
  client: Redis | Cluster,
  { text, sha1 }: Script,
  keys: readonly string[],
  args: readonly (string | number)[],
): Promise<unknown> => {
  try {
    return await client.evalsha(sha1, keys.length, ...keys, ...args);
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw error;
    return client.eval(text, keys.length, ...keys, ...args);
  }
};

/** A single server keeps a connection for listening alone; a Cluster has one of its own inside. */
const listenOn = (client: Redis | Cluster, channel: string, hear: (message: string) => void): void => {
  const subscribe = () => void client.subscribe(channel).catch(ignore); // again as soon as the connection is ready
  client.on('message', (on: string, message: string) => on === channel && hear(message));
  client.on('ready', subscribe);
  if (client.status === 'ready') subscribe();
};

/** Opens a connection; it is made, and made again, by itself. */
export const connectRedis = (its: RedisUrls): RedisConnection => {
  const opened: (Redis | Cluster)[] = [];
  /** Why there is no connection, as far as it was told. */
  let why = '';
  const open = (): Redis | Cluster => {
    const client = openClient(its);
    client.on('error', (error: unknown) => {
      why = ` (${wordsOf(error)})`;
    });
    client.on('ready', () => {
      why = '';
    });
    opened.push(client);
    return client;
  };
  const client = open();
  let underWay = 0;
  const limited = async <Value>(work: () => Promise<Value>): Promise<Value> => {
    if (underWay >= maxUnderWay) throw new AppError('busy', { detail: 'too many commands to Redis are on their way' });
    underWay += 1;
    try {
      return await work();
    } catch (error) {
      throw error instanceof AppError ? error : new Error(`Redis: ${wordsOf(error)}${why}`);
    } finally {
      underWay -= 1;
    }
  };
  return {
    isCluster: its.isCluster,
    address: its.urls.map(({ host }) => host).join(', '),
    run: (...asked) => limited(() => runScript(client, ...asked)),
    info: async (section) => {
      const masters = client instanceof Redis ? [client] : client.nodes('master');
      if (masters.length === 0) throw new AppError('fetch-failed', { detail: 'no node of the Cluster is known' });
      return limited(() => Promise.all(masters.map((master) => master.info(section))));
    },
    publish: (channel, message) => limited(() => client.publish(channel, message)),
    listen: (channel, hear) => listenOn(its.isCluster ? client : open(), channel, hear),
    [Symbol.asyncDispose]: async () => {
      for (const one of opened) one.disconnect();
    },
  };
};
