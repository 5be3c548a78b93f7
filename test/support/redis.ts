import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { systemClock } from '../../kernel/clock.ts';
import { connectRedis, type RedisConnection, script } from '../../kernel/redis/connection.ts';
import { placeTags } from '../../kernel/redis/places.ts';
import { readRedisUrls } from '../../kernel/redis/urls.ts';
import { freePort } from './holder.ts';

/** Real servers of Redis on free ports, single and as a Cluster; always stopped with the test. */

const isMissing = spawnSync('redis-server', ['--version']).error !== undefined;
/** Whether tests that need the server are left out: where it is missing, except in CI, where they fail. */
export const isWithoutRedis = isMissing && process.env.CI === undefined;
if (isWithoutRedis)
  console.warn('redis-server is missing, so the tests with Redis are left out: apt-get install redis-server');

const startMs = 20_000;
const host = '127.0.0.1';

/** Also when the test's process ends before its test does. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export const until = async (what: string, holds: () => boolean | Promise<boolean>, ms = startMs): Promise<void> => {
  const end = performance.now() + ms;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`not in ${ms} ms: ${what}`);
    await systemClock.sleep(20);
  }
};

/** One question to one server, on a connection of its own. */
const ask = async <Value>(port: number, work: (client: Redis) => Promise<Value>): Promise<Value> => {
  const client = new Redis({ host, port, retryStrategy: () => null, maxRetriesPerRequest: 0, commandTimeout: 2_000 });
  client.on('error', () => undefined);
  try {
    return await work(client);
  } finally {
    client.disconnect();
  }
};

/** One server. It may be killed, paused and started again, with what it kept or without. */
export class RedisServer implements AsyncDisposable {
  readonly port: number;
  readonly #args: readonly string[];
  readonly #folder: string;
  #child: ChildProcess | undefined;

  constructor(port: number, args: readonly string[]) {
    this.port = port;
    this.#folder = mkdtempSync(join(tmpdir(), 'stekker-redis-'));
    this.#args = [...['--bind', host, '--dir', this.#folder, '--loglevel', 'warning'], ...args];
  }

  get url(): string {
    return `redis://${host}:${this.port}`;
  }

  async start(): Promise<void> {
    const listening = this.#args.includes('--tls-port') ? [] : ['--port', String(this.port)];
    const child = spawn('redis-server', [...listening, ...this.#args], { stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(child);
    child.once('exit', () => running.delete(child));
    this.#child = child;
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (text: Buffer) => {
        said += text.toString();
      });
    await until('redis-server answers', async () => {
      if (child.exitCode !== null) throw new Error(`redis-server ended: ${said}`);
      return this.isListening();
    });
  }

  isListening(): boolean {
    const tls = this.#args.includes('--tls-port') ? ['--tls', '--insecure'] : [];
    const tool = spawnSync('redis-cli', ['-h', host, '-p', String(this.port), ...tls, 'ping'], { timeout: 2_000 });
    return /PONG|NOAUTH/.test(tool.stdout?.toString() ?? '');
  }

  /** Ends it at once, as a crash does. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  ask<Value>(work: (client: Redis) => Promise<Value>): Promise<Value> {
    return ask(this.port, work);
  }

  pause(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Starts a server that keeps nothing on disk unless the arguments say so. */
export const startRedis = async (
  args: readonly string[] = ['--save', '', '--appendonly', 'no'],
): Promise<RedisServer> => {
  const server = new RedisServer(await freePort(), args);
  await server.start();
  return server;
};

export interface RedisCluster extends AsyncDisposable {
  readonly url: string;
  readonly servers: readonly RedisServer[];
  /** The server that is master of a hash slot now, as another one of them sees it. */
  readonly masterOf: (slot: number) => Promise<RedisServer>;
  /** Whether every slot is served, by masters that are alive. */
  readonly isWhole: () => Promise<boolean>;
}

type Slots = readonly (readonly [from: number, to: number, master: readonly [host: string, port: number]])[];

const infoOf = (port: number): Promise<string> => ask(port, async (client) => String(await client.cluster('INFO')));

const startNodes = async (count: number, nodeTimeoutMs: number): Promise<RedisServer[]> => {
  const servers: RedisServer[] = [];
  for (let n = 0; n < count; n += 1) {
    const args = ['--cluster-enabled', 'yes', '--cluster-port', String(await freePort())];
    const timing = ['--cluster-node-timeout', String(nodeTimeoutMs), '--repl-diskless-sync-delay', '0'];
    servers.push(await startRedis([...args, ...timing, '--save', '', '--appendonly', 'no']));
  }
  return servers;
};

const meet = async (servers: readonly RedisServer[]): Promise<void> => {
  const [first, ...others] = servers;
  if (first === undefined) throw new Error('a Cluster has servers');
  for (const { port } of others) {
    const busPort = await ask(port, async (client) => {
      const [, value = ''] = (await client.config('GET', 'cluster-port')) as string[];
      return value;
    });
    await ask(first.port, (client) => client.call('CLUSTER', 'MEET', host, String(port), busPort));
  }
  const known = `cluster_known_nodes:${servers.length}`;
  for (const { port } of servers)
    await until('the servers know each other', async () => (await infoOf(port)).includes(known));
};

/** A Cluster of so many masters, each with one replica. */
export const startRedisCluster = async (masters = 3, nodeTimeoutMs = 2_000): Promise<RedisCluster> => {
  const stack = new AsyncDisposableStack();
  const servers = await startNodes(masters * 2, nodeTimeoutMs);
  for (const server of servers) stack.use(server);
  const leading = servers.slice(0, masters);
  for (const [index, { port }] of leading.entries()) {
    const [from, to] = [index, index + 1].map((n) => Math.floor((n * 16_384) / masters));
    await ask(port, (client) => client.call('CLUSTER', 'ADDSLOTSRANGE', String(from), String((to ?? 0) - 1)));
    await ask(port, (client) => client.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1)));
  }
  await meet(servers);
  for (const [index, { port }] of leading.entries()) {
    const id = await ask(port, async (client) => String(await client.call('CLUSTER', 'MYID')));
    const replica = servers[masters + index]?.port ?? 0;
    await until('the replica follows', () =>
      ask(replica, (client) => client.call('CLUSTER', 'REPLICATE', id)).then(
        () => true,
        () => false,
      ),
    );
  }
  const alive = (): readonly RedisServer[] => servers.filter((server) => server.isListening());
  const isWhole = async (): Promise<boolean> => {
    const said = await Promise.all(alive().map(({ port }) => infoOf(port).catch(() => '')));
    return said.every((info) => info.includes('cluster_state:ok') && info.includes('cluster_slots_fail:0'));
  };
  for (const { port } of servers.slice(masters))
    await until('the replica is in step', () =>
      ask(port, async (client) => (await client.info('replication')).includes('master_link_status:up')),
    );
  await until('the Cluster is whole', isWhole);
  return {
    url: `redis+cluster://${host}:${servers[0]?.port}`,
    servers,
    isWhole,
    masterOf: async (slot) => {
      for (const { port } of alive()) {
        const slots = (await ask(port, (client) => client.call('CLUSTER', 'SLOTS'))) as Slots;
        const master = slots.find(([from, to]) => from <= slot && slot <= to)?.[2][1];
        const found = servers.find((server) => server.port === master);
        if (found !== undefined) return found;
      }
      throw new Error(`nobody serves slot ${slot}`);
    },
    [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
  };
};

/** Opens a connection, and waits until it can be used. */
export const openRedis = async (text: string): Promise<RedisConnection> => {
  const urls = readRedisUrls(text);
  if (urls === undefined) throw new Error(`no address of Redis: ${text}`);
  const redis = connectRedis(urls);
  await until('the connection is there', () =>
    redis.info('server').then(
      () => true,
      () => false,
    ),
  );
  return redis;
};

/** Dates every place of a replay store back, as if it had kept claims for that long. */
export const agePlaces = async (redis: RedisConnection, name: string, ms: number): Promise<void> => {
  const age = script("return redis.call('HINCRBY', KEYS[1], 'began', ARGV[1])");
  for (const tag of placeTags) await redis.run(age, [`stekker:${name}:replay:{${tag}}`], [-ms]);
};
