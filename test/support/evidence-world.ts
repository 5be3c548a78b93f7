import { Hono } from 'hono';
import { createLedgerRoutes, logPathOf } from '../../broker/ledger/routes.ts';
import type { Ledger } from '../../broker/ledger/service.ts';
import { createLogReader } from '../../connector/adapters/http/log-reader.ts';
import { createPeerTransport } from '../../connector/adapters/http/peer-transport.ts';
import {
  createSqlAlarmStore,
  createSqlFollowedStore,
  createSqlLogPinStore,
  type FollowedTables,
  followedMigrations,
} from '../../connector/adapters/sql/followed-store.ts';
import {
  createSqlPromiseStore,
  createSqlRegistrationStore,
  type RegistrationTables,
  registrationMigrations,
} from '../../connector/adapters/sql/registration-store.ts';
import type {
  AlarmStore,
  FollowedStore,
  KeptAlarm,
  OwnKeyEvents,
  PromiseStore,
  Registration,
  RegistrationStore,
  StatedInterval,
  StatedUsage,
  Submission,
} from '../../connector/evidence/ports.ts';
import { type Evidence, startEvidence } from '../../connector/evidence/service.ts';
import { toBase64 } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import { brokerInfoPath } from '../../contracts/events.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import type { StatementSums } from '../../contracts/ledger/statement.ts';
import type { Clock } from '../../kernel/clock.ts';
import { createGuardedClient } from '../../kernel/http/client.ts';
import { serveRoutes } from '../../kernel/http/server.ts';
import { type Logger, silentLogger } from '../../kernel/log.ts';
import { systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { outboxMigrations, startOutbox } from '../../kernel/sql/outbox.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { p256FromByte } from './keys.ts';
import { origin } from './ledger-world.ts';
import { type LogBench, logBench, logKeys } from './log-bench.ts';

/** A broker with the real log over HTTP on loopback, and the evidence of connectors that use it. */

export const policyText = `log ${logKeys.vkey}\nquorum none\n`;
export const brokerDid = 'did:web:broker.example' as Did;

export const honestInfo = (url: string) => ({
  did: brokerDid,
  name: 'A broker for tests',
  log: {
    origin,
    url: `${url}${logPathOf(origin)}`,
    vkey: logKeys.vkey,
    registryKey: toBase64(logKeys.registryKey),
    policy: policyText,
  },
  chain: null,
  accreditors: [],
});

/** What stands between the log and its readers: it may change, drop or invent answers. */
export type Meddle = (request: Request, answer: () => Promise<Response>) => Promise<Response>;

export interface TestBroker extends AsyncDisposable {
  readonly url: string;
  readonly ledger: Ledger;
  readonly bench: LogBench;
  /** Paths asked for, in order. */
  readonly asked: string[];
  meddle: Meddle;
  /** What `anchors/newest` answers; another part of the broker serves it. */
  anchored: (covers: number) => Json | undefined;
  info: (url: string) => Json;
}

export const startTestBroker = async (clock: Clock): Promise<TestBroker> => {
  const bench = logBench({ changes: { clock } });
  const ledger = await bench.start();
  const app = new Hono();
  const server = await serveRoutes(app, { host: '127.0.0.1', port: 0 });
  const broker: TestBroker = {
    url: `http://localhost:${server.port}`,
    ledger,
    bench,
    asked: [],
    meddle: (_request, answer) => answer(),
    anchored: () => undefined,
    info: honestInfo,
    [Symbol.asyncDispose]: async () => {
      await server[Symbol.asyncDispose]();
      await ledger.close();
    },
  };
  const inner = createLedgerRoutes({
    ledger,
    log: silentLogger,
    authenticate: async (request) => {
      const caller = request.headers.get('authorization');
      if (caller === null) throw new AppError('unauthenticated');
      return caller;
    },
  });
  inner.get(brokerInfoPath, (c) => c.json(broker.info(broker.url) as object));
  inner.get(`${logPathOf(origin)}/anchors/newest`, (c) => {
    const found = broker.anchored(Number(c.req.query('covers')));
    return found === undefined ? c.json({}, 404) : c.json(found as object);
  });
  app.all('*', async (c) => {
    broker.asked.push(new URL(c.req.url).pathname);
    return broker.meddle(c.req.raw, async () => inner.fetch(c.req.raw));
  });
  return broker;
};

/** Stated usage out of a list: what the metering part keeps, for tests of what is made of it. */
export const statedFrom = (intervals: readonly StatedInterval[], open: readonly string[] = []): StatedUsage => ({
  ofRequest: async (_participant, request) => {
    const found = intervals.filter(({ accesses }) => accesses.some(({ record }) => record.request === request));
    const isOpen = open.includes(request);
    return found.length === 0 && !isOpen ? undefined : { intervals: found, isOpen };
  },
  next: async (_participant, agreementDigest, afterSeq) =>
    intervals.find((one) => one.agreementDigest === agreementDigest && BigInt(one.seq) > BigInt(afterSeq)),
});

export type EvidenceTables = RegistrationTables & FollowedTables;

export interface TestConnector extends AsyncDisposable {
  readonly participant: ParticipantId;
  readonly did: Did;
  readonly evidence: Evidence;
  readonly registrations: RegistrationStore;
  readonly promises: PromiseStore;
  readonly followed: FollowedStore;
  readonly alarmStore: AlarmStore;
  readonly alarms: KeptAlarm[];
  readonly database: ReturnType<typeof openSqlite<EvidenceTables>>;
  /** Ends the program; what is durable goes on in another one with the same `database`. */
  readonly stop: () => Promise<void>;
}

interface ConnectorOptions {
  readonly did: string;
  readonly clock: Clock;
  readonly database?: TestConnector['database'];
  readonly ownKeys?: OwnKeyEvents;
  readonly stated?: StatedUsage;
  readonly log?: Logger;
  readonly followIntervalMs?: number;
  /** Stands between the program and its store. */
  readonly around?: (store: RegistrationStore) => RegistrationStore;
}

/** All key events are ours, unless a test says otherwise. */
const allOurs: OwnKeyEvents = { participantOf: () => undefined, made: async () => true };

export const startConnector = async (broker: TestBroker, options: ConnectorOptions): Promise<TestConnector> => {
  const { clock } = options;
  const did = options.did as Did;
  const database = options.database ?? openSqlite<EvidenceTables>({ path: ':memory:', fullSync: false });
  const { db } = database;
  await migrate(db, 'outbox', outboxMigrations as never);
  await migrate(db, 'registration', registrationMigrations as never);
  await migrate(db, 'followed', followedMigrations as never);
  const client = createGuardedClient({ allowLoopbackHttp: true });
  const registrations = createSqlRegistrationStore(db as never);
  const stores = {
    promises: createSqlPromiseStore(db as never),
    followed: createSqlFollowedStore(db as never),
    pins: createSqlLogPinStore(db as never),
    alarms: createSqlAlarmStore(db as never),
  };
  const alarms: KeptAlarm[] = [];
  let wake: () => void = () => undefined;
  const logger = options.log ?? silentLogger;
  const evidence = startEvidence({
    ...stores,
    brokerUrl: broker.url,
    reader: createLogReader({ client, brokerUrl: broker.url }),
    transport: createPeerTransport({
      client,
      tokens: () => ({ tokenFor: () => did, accessTokenFor: () => did, readAccessToken: () => undefined }),
      scopes: [],
      random: systemRandom,
    }),
    registrations: options.around?.(registrations) ?? registrations,
    ownKeys: options.ownKeys ?? allOurs,
    stated: options.stated ?? statedFrom([]),
    clock,
    logger,
    wake: () => wake(),
    notify: (alarm) => void alarms.push(alarm),
    followIntervalMs: options.followIntervalMs ?? 3_600_000,
  });
  const worker = startOutbox({
    db: db as never,
    clock,
    random: systemRandom,
    log: logger,
    pollMs: 20,
    handlers: evidence.handlers,
  });
  wake = worker.wake;
  const stop = async () => {
    await worker[Symbol.asyncDispose]();
    await evidence[Symbol.asyncDispose]();
    await client[Symbol.asyncDispose]();
  };
  return {
    ...stores,
    participant: 'main' as ParticipantId,
    did,
    evidence,
    registrations,
    alarmStore: stores.alarms,
    alarms,
    database,
    stop,
    [Symbol.asyncDispose]: async () => {
      await stop();
      await database[Symbol.asyncDispose]();
    },
  };
};

/** The one registration of a kind under an agreement. */
export const registrationOf = (
  { registrations, participant }: TestConnector,
  agreementDigest: string,
  kind: Registration['kind'] = 'agreement',
  subject = '',
): Promise<Registration | undefined> => registrations.bySubject(participant, { kind, agreementDigest, subject });

/** The private half of a seeded leaf key, as parties hand it to each other. */
export const leafJwk = (byte: number): Record<string, string> => {
  const { kty = '', crv = '', x = '', y = '', d = '' } = p256FromByte(byte).privateKey.export({ format: 'jwk' });
  return { kty, crv, x, y, d };
};

/** What a party hands over out of the bodies that it would send (log-parties.ts): agreements and events have leaf 5, statements 6. */
export const submissionOf = (
  body: { readonly kind: string; readonly artifact: GeneralJws; readonly sums?: StatementSums },
  changes: Partial<Submission> = {},
): Submission => ({
  participant: 'main' as ParticipantId,
  kind: body.kind as Submission['kind'],
  artifact: body.artifact,
  leafKey: leafJwk(body.kind === 'usage-statement' ? 6 : 5),
  notBefore: 0,
  ...(body.sums === undefined ? {} : { sums: body.sums }),
  ...changes,
});
