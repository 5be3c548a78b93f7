import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Did } from '../../contracts/ids.ts';
import { didOf } from '../../kernel/did.ts';
import type { Operate } from './chain-world.ts';
import { type ChildConnector, childConnector } from './child-connector.ts';
import { freePort } from './holder.ts';
import { openRows, type Postgres, type ReadRows } from './postgres.ts';
import { until } from './redis.ts';
import { startTcpFront, type TcpFront } from './tcp-front.ts';

/** One participant as several processes on one database, behind one address for the protocol and one for data. */

export interface SharedConnector extends AsyncDisposable {
  readonly did: Did;
  readonly processes: readonly ChildConnector[];
  /** Asks one process after the other, past those that do not listen. An answer that was lost is a fault. */
  readonly operate: Operate;
  readonly rows: ReadRows;
  /** The folder of the numbers that they signed. */
  readonly signed: string;
  /** Waits until every process says of itself that it is ready. */
  readonly allReady: () => Promise<void>;
  readonly fronts: { readonly protocol: TcpFront; readonly data: TcpFront };
}

export interface SharedConnectorOptions {
  readonly server: Postgres;
  readonly redisUrl: string;
  /** Of all processes. */
  readonly env: Readonly<Record<string, string>>;
  /** Of each process alone; there are as many processes. */
  readonly own: readonly Readonly<Record<string, string>>[];
}

/** Nobody listened, so nothing was asked. */
const isRefused = (error: unknown): boolean =>
  error instanceof TypeError && (error.cause as { readonly code?: unknown } | undefined)?.code === 'ECONNREFUSED';

const anyOf = (processes: readonly ChildConnector[]): Operate => {
  let turn = 0;
  return async (...call) => {
    for (let tries = 1; ; tries += 1) {
      turn += 1;
      try {
        return await (processes[turn % processes.length] as ChildConnector).operate(...call);
      } catch (error) {
        if (!isRefused(error) || tries === processes.length) throw error;
      }
    }
  };
};

const isReady = async ({ bench }: ChildConnector): Promise<boolean> => {
  try {
    const answer = await fetch(`http://127.0.0.1:${bench.config.STEKKER_PUBLIC_PORT}/health`);
    await answer.text();
    return answer.status === 200;
  } catch {
    return false;
  }
};

const startMs = 60_000;

/** Waits for each of them; one that ended by itself says why. */
const ready = async (processes: readonly ChildConnector[]): Promise<void> => {
  for (const one of processes)
    await until('a process is ready', () => isReady(one), startMs).catch((cause: unknown) => {
      throw new Error(`a process is not ready: ${one.said()}`, { cause });
    });
};

/** The processes with their settings and addresses; none is started. */
export const sharedConnector = async (options: SharedConnectorOptions): Promise<SharedConnector> => {
  const stack = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'stekker-shared-'));
  stack.defer(() => rmSync(folder, { recursive: true, force: true }));
  const [port, dataPort] = [await freePort(), await freePort()];
  const database = await options.server.database();
  const env = {
    ...options.env,
    STEKKER_PUBLIC_URL: `http://localhost:${port}`,
    STEKKER_DATA_URL: `http://localhost:${dataPort}`,
    STEKKER_DATABASE_URL: database,
    STEKKER_REDIS_URLS: options.redisUrl,
    STEKKER_KEYS: join(folder, 'keys'),
    STEKKER_SIGNED_FOLDER: join(folder, 'signed'),
    NODE_COMPILE_CACHE: join(folder, 'compiled'), // what one of them compiled serves all
  };
  const processes: ChildConnector[] = [];
  for (const own of options.own) processes.push(stack.use(await childConnector({ ...env, ...own })));
  const portsOf = (name: 'STEKKER_PUBLIC_PORT' | 'STEKKER_DATA_PORT') =>
    processes.map(({ bench }) => bench.config[name]);
  const protocol = stack.use(await startTcpFront(port, portsOf('STEKKER_PUBLIC_PORT')));
  const data = stack.use(await startTcpFront(dataPort, portsOf('STEKKER_DATA_PORT')));
  const { rows } = stack.use(await openRows(database));
  return {
    did: didOf(env.STEKKER_PUBLIC_URL),
    processes,
    operate: anyOf(processes),
    rows,
    signed: env.STEKKER_SIGNED_FOLDER,
    allReady: () => ready(processes),
    fronts: { protocol, data },
    [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
  };
};
