import { createHash } from 'node:crypto';
import { Cluster, Redis } from 'ioredis';
import { AppError } from '../../contracts/errors.ts';

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
  readonly subscriber: (hear: (channel: string, message: string) => void) => RedisSubscriber;
}

/** Hears channels; subscribes again by itself after a break. */
export interface RedisSubscriber {
  readonly subscribe: (channel: string) => void;
  readonly unsubscribe: (channel: string) => void;
}

export interface RedisUrls {
  readonly urls: readonly URL[];
  readonly isCluster: boolean;
}

const schemes = ['redis:', 'rediss:', 'redis+cluster:', 'rediss+cluster:'];

const readUrl = (text: string): URL | undefined => {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  const isGood = schemes.includes(url.protocol) && url.hostname !== '' && url.search === '' && url.hash === '';
  return isGood && /^\/?\d{0,2}$/.test(url.pathname) ? url : undefined;
};

/** Reads a comma list of addresses; more than one, or a scheme with `+cluster`, means a Cluster. Undefined for what is none. */
export const readRedisUrls = (text: string): RedisUrls | undefined => {
  const urls = text.split(',').map((one) => readUrl(one.trim()));
  const known = urls.filter((url) => url !== undefined);
  const [first] = known;
  if (first === undefined || known.length !== urls.length) return undefined;
  const isCluster = known.length > 1 || first.protocol.endsWith('+cluster:');
  const isSame = known.every(
    ({ protocol, username, password }) =>
      protocol === first.protocol && username === first.username && password === first.password,
  );
  // A Cluster has one data base, and one user on every node.
  return isSame && !(isCluster && known.some(({ pathname }) => pathname.length > 1))
    ? { urls: known, isCluster }
    : undefined;
};

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

/** Faults come as the answers of commands; what is also told as an event is told twice. */
const ignore = (): void => undefined;

/** What went wrong, in words: errors of the driver hold the command with its arguments, and so a password. */
const plainFault = (error: unknown): Error =>
  error instanceof AppError ? error : new Error(`Redis: ${error instanceof Error ? error.message : 'no answer'}`);

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
const createSubscriber = (
  client: Redis | Cluster,
  hear: (channel: string, message: string) => void,
): RedisSubscriber => {
  client.on('message', hear);
  const wanted = new Set<string>();
  const subscribe = (channel: string): void => {
    client.subscribe(channel).catch(ignore); // again as soon as the connection is ready
  };
  client.on('ready', () => wanted.forEach(subscribe));
  return {
    subscribe: (channel) => {
      wanted.add(channel);
      if (client.status === 'ready') subscribe(channel);
    },
    unsubscribe: (channel) => {
      wanted.delete(channel);
      if (client.status === 'ready') client.unsubscribe(channel).catch(ignore);
    },
  };
};

/** Opens a connection; it is made, and made again, by itself. */
export const connectRedis = (its: RedisUrls): RedisConnection => {
  const opened: (Redis | Cluster)[] = [];
  const open = (): Redis | Cluster => {
    const client = openClient(its);
    client.on('error', ignore);
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
      throw plainFault(error);
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
    subscriber: (hear) => createSubscriber(its.isCluster ? client : open(), hear),
    [Symbol.asyncDispose]: async () => {
      for (const one of opened) one.disconnect();
    },
  };
};
