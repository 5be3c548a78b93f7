import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { brokerSettings } from '../../broker/config.ts';
import { connectorSettings } from '../../connector/config.ts';
import vectors from '../../contracts/ledger/vectors.json' with { type: 'json' };
import { type ComposeService, readCompose } from '../support/compose-file.ts';
import { freePort } from '../support/holder.ts';
import { canMakeNetworks, makeNetwork } from '../support/network.ts';
import { hasPostgres, startPostgres } from '../support/postgres.ts';
import { type Ended, type RunningProgram, root, run, start } from '../support/program.ts';
import { isWithoutRedis, startRedis } from '../support/redis.ts';
import { secretMarker, secretText } from '../support/secrets.ts';

/**
 * What the image holds and how docker-compose.yml runs it, without containers: the steps of the script in an empty folder, and
 * the settings of the file.
 */

type Env = Readonly<Record<string, string>>;

const place = mkdtempSync(join(tmpdir(), 'stekker-container-'));
const app = join(place, 'app');
const stekker = [process.execPath, join(app, 'dist/bin/stekker.js')];
const compose = readCompose(join(root, 'docker-compose.yml'));
const maxBytes = 250_000_000;

beforeAll(() => {
  chmodSync(place, 0o755);
  execFileSync('sh', ['deploy/assemble.sh', app], { cwd: root, stdio: 'pipe' });
});
afterAll(() => rmSync(place, { recursive: true, force: true }));

const bytesUnder = (folder: string): number =>
  Number(execFileSync('du', ['-sb', folder], { encoding: 'utf8' }).split('\t')[0]);

interface LockFile {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>>;
}

/** Package folders as the lock file names them: `node_modules/a/node_modules/@b/c`. */
const installed = (folder: string): string[] => {
  const modules = join(folder, 'node_modules');
  if (!existsSync(modules)) return [];
  const names = readdirSync(modules).flatMap((name) =>
    name.startsWith('@') ? readdirSync(join(modules, name)).map((inner) => `${name}/${inner}`) : [name],
  );
  return names
    .filter((name) => !name.startsWith('.'))
    .flatMap((name) => [
      `node_modules/${name}`,
      ...installed(join(modules, name)).map((inner) => `node_modules/${name}/${inner}`),
    ]);
};

describe('what the image holds', () => {
  test('is below 250 MB', () => {
    const bytes = bytesUnder(app);
    expect(bytes).toBeGreaterThan(1_000_000);
    expect(bytes).toBeLessThan(maxBytes);
  });

  test('is production packages and our JavaScript: no sources, no tests, no development packages', () => {
    const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as LockFile;
    const found = installed(app);
    expect(found.length).toBeGreaterThan(30);
    expect(found.filter((name) => packages[name] === undefined || packages[name].dev === true)).toEqual([]);
    const files = readdirSync(join(app, 'dist'), { recursive: true, encoding: 'utf8' });
    expect(files.length).toBeGreaterThan(200);
    expect(
      files.filter((name) => name.endsWith('.ts') || name.includes('.test.') || /^(test|demo|bench)\b/.test(name)),
    ).toEqual([]);
  });

  test('answers every command with its help', async () => {
    const overview = await run({ command: stekker, args: ['--help'], env: {}, cwd: '/' });
    const names = [...overview.out.matchAll(/^ {2}([a-z]+) {2,}/gm)].map(([, name = '']) => name);
    expect(names).toContain('connector');
    expect(names.length).toBeGreaterThan(15);
    for (const name of names) {
      const help = await run({ command: stekker, args: [name, '--help'], env: {}, cwd: '/' });
      expect([help.code, help.out.startsWith(`stekker ${name}`)], help.err).toEqual([0, true]);
    }
  });

  test('verifies a receipt', async () => {
    writeFileSync(join(place, 'receipt.json'), vectors.receipt.jcs);
    writeFileSync(join(place, 'trust.json'), vectors.trust.jcs);
    const args = ['verify', 'receipt.json', '--trust', 'trust.json'];
    const verdict = await run({ command: stekker, args, env: {}, cwd: place });
    expect([verdict.code, verdict.err]).toEqual([0, '']);
    expect(verdict.out).toContain('VALID');
  });
});

describe('docker-compose.yml', () => {
  const tables = { broker: brokerSettings, connector: connectorSettings };
  const foldersOf = (name: keyof typeof tables): string[] =>
    Object.entries(compose.services[name]?.environment ?? {}).flatMap(([key, value]) =>
      /^STEKKER_(DATA|KEYS|\w+_FOLDER)$/.test(key) ? [value] : [],
    );

  test.each(['broker', 'connector'] as const)(
    'gives the %s settings that it knows, and a volume for each folder',
    (name) => {
      const { environment = {}, volumes = [], secrets = [], command } = compose.services[name] ?? {};
      expect(command).toEqual([name]);
      const known = Object.keys(tables[name]);
      expect(Object.keys(environment).filter((key) => !known.includes(key.replace(/_FILE$/, '')))).toEqual([]);
      expect(foldersOf(name)).toHaveLength(4);
      expect(volumes.map((volume) => volume.split(':')[1]).toSorted()).toEqual(foldersOf(name).toSorted());
      expect(new Set(volumes.map((volume) => volume.split(':')[0])).size).toBe(volumes.length);
      const files = Object.entries(environment).filter(([key]) => key.endsWith('_FILE'));
      expect(files.map(([, file]) => file.replace('/run/secrets/', '')).toSorted()).toEqual([...secrets].toSorted());
      expect(secrets.filter((secret) => compose.secrets[secret] === undefined)).toEqual([]);
    },
  );

  test('keeps rows in PostgreSQL, a database for each service, and what is shared for minutes in Redis', () => {
    const { postgres, redis, broker, connector } = compose.services;
    const databases = readFileSync(join(root, 'deploy/databases.sql'), 'utf8');
    expect([...databases.matchAll(/^create database (\w+);$/gm)].map(([, name]) => name)).toEqual([
      'broker',
      'connector',
    ]);
    expect(postgres?.volumes).toContain('./deploy/databases.sql:/docker-entrypoint-initdb.d/databases.sql:ro');
    expect([broker, connector].map((one) => one?.environment.STEKKER_DATABASE_URL_FILE)).toEqual([
      '/run/secrets/broker_database',
      '/run/secrets/connector_database',
    ]);
    for (const one of [broker, connector])
      expect(one?.environment.STEKKER_REDIS_URLS_FILE).toBe('/run/secrets/redis_url');
    expect([postgres, redis].map((one) => one?.ports)).toEqual([[], []]);
    for (const one of [postgres, redis]) {
      expect(one?.volumes[0]).toMatch(/^[a-z]+-data:\//);
      expect(one?.healthcheck.test.length).toBeGreaterThan(1);
      for (const secret of one?.secrets ?? []) expect(compose.secrets[secret]?.file).toBe(`./deploy/secrets/${secret}`);
    }
  });

  test('publishes no management port', () => {
    const published = Object.values(compose.services).flatMap(({ ports }) =>
      ports.map((port) => port.split(':').at(-1)),
    );
    expect(published).toContain('8080');
    for (const table of [brokerSettings, connectorSettings])
      expect(published).not.toContain(table.STEKKER_MANAGEMENT_PORT.example);
    for (const { environment } of Object.values(compose.services))
      expect(Object.keys(environment).filter((key) => key.startsWith('STEKKER_MANAGEMENT_HOST'))).toEqual([]);
  });

  test('own applications are served on the loopback interface of the machine alone', () => {
    const { environment = {}, ports = [] } = compose.services.connector ?? {};
    const gateway = connectorSettings.STEKKER_GATEWAY_PORT.example;
    expect(environment.STEKKER_GATEWAY_HOST).toBe('0.0.0.0');
    expect(ports.filter((port) => port.endsWith(`:${gateway}`))).toEqual([`127.0.0.1:${gateway}:${gateway}`]);
  });

  test('every folder is made for the user of the image, who is not root', () => {
    const image = readFileSync(join(root, 'Dockerfile'), 'utf8');
    expect(image).toMatch(/^USER node$/m);
    for (const folder of [...foldersOf('broker'), ...foldersOf('connector')]) expect(image).toContain(`"${folder}"`);
  });

  // Debian's docker-compose; `.ci/run` installs it, so that it is there whenever the whole run is made.
  test.skipIf(spawnSync('docker-compose', ['version']).error !== undefined && process.env.CI === undefined)(
    'is valid for docker-compose, which reads the same in it',
    () => {
      const config = execFileSync('docker-compose', ['config'], { cwd: root, encoding: 'utf8' });
      const asJson = 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)';
      const read = JSON.parse(execFileSync('python3', ['-c', asJson], { input: config, encoding: 'utf8' }));
      expect(Object.keys(read.services).toSorted()).toEqual(Object.keys(compose.services).toSorted());
      for (const [name, { environment, command, healthcheck }] of Object.entries(compose.services))
        expect(read.services[name]).toMatchObject({
          ...(Object.keys(environment).length === 0 ? {} : { environment }),
          command,
          healthcheck,
        });
    },
  );
});

/** A broker and a connector as the file runs them: folders and secrets elsewhere, and whatever `changes` says. */
interface Deployment {
  readonly enter: readonly string[];
  readonly services: Readonly<Record<'broker' | 'connector', ComposeService>>;
  readonly changes: Readonly<Record<'broker' | 'connector', Env>>;
  /** What stands in files of secrets, by their settings. */
  readonly secrets: Readonly<Record<'broker' | 'connector', Env>>;
}

const running: RunningProgram[] = [];
afterEach(async () => {
  for (const one of running.splice(0)) await one.stop('SIGKILL');
});

/** A path of the image, as a path of this test. */
const here = (folder: string, path: string): string =>
  path.startsWith('/app/') ? path.replace('/app', app) : join(folder, path);

const envOf = (folder: string, { environment }: ComposeService, changes: Env): Env => {
  const moved = Object.entries(environment).map(([key, value]) => [
    key,
    value.startsWith('/') ? here(folder, value) : value,
  ]);
  return { NODE_ENV: 'production', ...Object.fromEntries(moved), ...changes };
};

const deploy = (name: string, { enter, services, changes, secrets }: Deployment) => {
  const envs = { broker: {} as Env, connector: {} as Env };
  for (const service of ['broker', 'connector'] as const) {
    const folder = join(place, name, service);
    envs[service] = envOf(folder, services[service], changes[service]);
    for (const [key, file] of Object.entries(envs[service]).filter(([key]) => key.endsWith('_FILE'))) {
      mkdirSync(dirname(file), { recursive: true });
      const made = () => secretText(`${service}-${key.toLowerCase().replaceAll('_', '-')}`);
      writeFileSync(file, `${secrets[service][key] ?? made()}\n`);
    }
  }
  const call = (service: 'broker' | 'connector', ...args: string[]): Promise<Ended> =>
    run({ command: [...enter, ...stekker], args, env: envs[service], cwd: place });
  return {
    envs,
    call,
    start: async (service: 'broker' | 'connector') => {
      const { command } = services[service];
      const started = await start({ command: [...enter, ...stekker], args: command, env: envs[service], cwd: place });
      running.push(started);
      return started;
    },
    /** The command of the health check, as it stands in the file. */
    isHealthy: async (service: 'broker' | 'connector') => {
      const [kind, program, file = '', ...args] = services[service].healthcheck.test;
      expect([kind, program]).toEqual(['CMD', 'node']);
      const { code, out, err } = await run({
        command: [...enter, process.execPath, here('', file)],
        args,
        env: envs[service],
        cwd: place,
      });
      return { code, said: `${out}${err}`.trim() };
    },
  };
};

const well = (ended: Ended): string => {
  const said = running.map((one) => one.said()).join('\n');
  expect([ended.code, ended.err.replace(/^For .*\n$/, '')], said).toEqual([0, '']);
  return ended.out.trim();
};

/** Starts both, joins, publishes, stops, starts again: everything is still there. */
const useIt = async (name: string, deployment: Deployment): Promise<void> => {
  const deployed = deploy(name, deployment);
  const { call } = deployed;
  const healthy = { code: 0, said: 'ready' };
  const first = [await deployed.start('broker'), await deployed.start('connector')];
  expect(await deployed.isHealthy('broker')).toEqual(healthy);
  expect(await deployed.isHealthy('connector')).toEqual(healthy);

  const did = `did:web:${new URL(deployed.envs.connector.STEKKER_PUBLIC_URL ?? '').host.replace(':', '%3A')}`;
  const code = well(await call('broker', 'invite', did, '--name', 'Waterschap', '--role', 'data-holder'));
  expect(well(await call('connector', 'join', code))).toContain('and a member');
  const source = join(place, name, 'levels.json');
  writeFileSync(source, '{"levels":[1,2,3]}');
  const publish = ['publish', source, '--policy', 'open', '--price', '0.25 EUR per request', '--json'];
  const published = JSON.parse(well(await call('connector', ...publish)));

  for (const one of first) {
    const { code: exit, out, err } = await one.stop('SIGTERM');
    expect([exit, err]).toEqual([0, '']);
    expect(out).not.toContain(secretMarker);
    expect(out).not.toContain(code);
  }
  expect((await deployed.isHealthy('connector')).code).toBe(1);

  const second = [await deployed.start('broker'), await deployed.start('connector')];
  expect(await deployed.isHealthy('connector')).toEqual(healthy);
  expect(well(await call('connector', 'join', code))).toContain('and a member');
  expect(JSON.parse(well(await call('connector', ...publish)))).toEqual(published);
  expect(well(await call('broker', 'invite', did, '--name', 'Waterschap', '--role', 'data-holder'))).toContain(
    'has joined already',
  );
  for (const one of second) expect((await one.stop('SIGTERM')).code).toBe(0);
};

const serviceOf = (name: string, env: Env = {}): ComposeService => {
  const found = readCompose(join(root, 'docker-compose.yml'), env).services[name];
  if (found === undefined) throw new Error(`docker-compose.yml has no ${name}`);
  return found;
};

/** PostgreSQL and Redis as the file runs them, and the secrets that lead to them. */
interface Stores extends AsyncDisposable {
  readonly postgresPort: number;
  readonly redisPort: number;
  /** What stands in the files of secrets, when the stores have these places. */
  readonly secretsAt: (places: { readonly postgres: string; readonly redis: string }) => Deployment['secrets'];
  /** Rows of each database. */
  readonly tables: (name: 'broker' | 'connector') => Promise<number>;
}

const startStores = async (): Promise<Stores> => {
  const stack = new AsyncDisposableStack();
  const postgres = stack.use(await startPostgres());
  const password = secretText('redis');
  const redis = stack.use(await startRedis(['--requirepass', password, '--appendonly', 'yes']));
  for (const statement of readFileSync(join(root, 'deploy/databases.sql'), 'utf8').split(';'))
    if (/create/.test(statement)) await postgres.run(statement);
  const postgresUrl = new URL(await postgres.database());
  const databaseAt = (place: string, name: string) => `postgresql://stekker:${secretText('postgres')}@${place}/${name}`;
  return {
    postgresPort: Number(postgresUrl.port),
    redisPort: redis.port,
    secretsAt: (places) => ({
      broker: {
        STEKKER_DATABASE_URL_FILE: databaseAt(places.postgres, 'broker'),
        STEKKER_REDIS_URLS_FILE: `redis://:${password}@${places.redis}`,
      },
      connector: {
        STEKKER_DATABASE_URL_FILE: databaseAt(places.postgres, 'connector'),
        STEKKER_REDIS_URLS_FILE: `redis://:${password}@${places.redis}`,
      },
    }),
    tables: async (name) => {
      const client = new pg.Client({ connectionString: databaseAt(`127.0.0.1:${postgresUrl.port}`, name) });
      await client.connect();
      const { rows } = await client.query("select count(*) from pg_tables where schemaname = 'public'");
      await client.end();
      return Number(rows[0]?.count);
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
};

const canStartStores = () => hasPostgres() && !isWithoutRedis;

describe('started as docker-compose.yml says', () => {
  test.skipIf(!canStartStores())(
    'on one machine, in development mode: ready, joined, published, stopped, and all of it there again',
    async () => {
      await using stores = await startStores();
      const [broker, brokerControl, connector, data, control, gateway] = await Promise.all(
        Array.from({ length: 6 }, async () => String(await freePort())),
      );
      const origins = {
        BROKER_URL: `http://localhost:${broker}`,
        CONNECTOR_URL: `http://localhost:${connector}`,
        CONNECTOR_DATA_URL: `http://localhost:${data}`,
      };
      const development = { STEKKER_MODE: 'development', STEKKER_ALLOW_LOOPBACK_HTTP: 'true' };
      const withPort = (service: ComposeService, port = '') => ({
        ...service,
        healthcheck: { test: service.healthcheck.test.map((part) => part.replace(/:\d+$/, `:${port}`)) },
      });
      await useIt('development', {
        enter: [],
        services: {
          broker: withPort(serviceOf('broker', origins), broker),
          connector: withPort(serviceOf('connector', origins), connector),
        },
        changes: {
          broker: {
            ...development,
            STEKKER_PUBLIC_PORT: broker ?? '',
            STEKKER_MANAGEMENT_PORT: brokerControl ?? '',
          },
          connector: {
            ...development,
            STEKKER_PUBLIC_PORT: connector ?? '',
            STEKKER_DATA_PORT: data ?? '',
            STEKKER_MANAGEMENT_PORT: control ?? '',
            STEKKER_GATEWAY_PORT: gateway ?? '',
          },
        },
        secrets: stores.secretsAt({
          postgres: `127.0.0.1:${stores.postgresPort}`,
          redis: `127.0.0.1:${stores.redisPort}`,
        }),
      });
      expect(await stores.tables('broker')).toBeGreaterThan(10);
      expect(await stores.tables('connector')).toBeGreaterThan(10);
    },
  );

  test.skipIf(!canMakeNetworks() || !canStartStores())(
    'in a network with real names and a proxy that ends TLS, in production: the same, with the settings as they stand',
    async () => {
      const folder = join(place, 'network');
      mkdirSync(folder);
      await using stores = await startStores();
      await using network = await makeNetwork(
        folder,
        { 'broker.example': 8090, 'connector.example': 8080, 'data.connector.example': 8081 },
        [
          { name: 'postgres', port: 5432, listensOn: stores.postgresPort },
          { name: 'redis', port: 6379, listensOn: stores.redisPort },
        ],
      );
      const ca = { NODE_EXTRA_CA_CERTS: network.certFile };
      await useIt('production', {
        enter: network.enter,
        services: { broker: serviceOf('broker'), connector: serviceOf('connector') },
        changes: { broker: ca, connector: ca },
        secrets: stores.secretsAt({ postgres: 'postgres:5432', redis: 'redis:6379' }),
      });
    },
  );
});
