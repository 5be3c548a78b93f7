import { generateKeyPairSync } from 'node:crypto';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { Hono } from 'hono';
import { createSources } from '../../connector/adapters/files/sources.ts';
import { createHttpFetch } from '../../connector/adapters/http/http-fetch.ts';
import {
  createSqlApplicationStore,
  createSqlGrantStore,
  type DataPlaneTables,
  dataPlaneMigrations,
} from '../../connector/adapters/sql/data-plane-store.ts';
import { createBodyDigests } from '../../connector/adapters/threads/body-digests.ts';
import { createApplications } from '../../connector/data-plane/applications.ts';
import { startGateway } from '../../connector/data-plane/gateway.ts';
import type { GrantWatch } from '../../connector/data-plane/grants.ts';
import { type DataPlaneServer, startDataListener } from '../../connector/data-plane/listener.ts';
import type { AccessTerms, ConsumedTransfer, Standing } from '../../connector/data-plane/ports.ts';
import { createProofMaker, type ProofClaims, type ProofMaker } from '../../connector/data-plane/proof.ts';
import { createDataPlane, type DataPlane } from '../../connector/data-plane/service.ts';
import { createSessions } from '../../connector/data-plane/sessions.ts';
import { createTokenRoutes } from '../../connector/data-plane/token-routes.ts';
import { propertyOf } from '../../contracts/dsp/transfer.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import { requestTarget } from '../../contracts/ledger/record.ts';
import type { CredentialFacts } from '../../contracts/vc/credential.ts';
import { createAuthenticator, createTokenService } from '../../kernel/auth.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import { buildDidDocument, createDidResolver, didOf } from '../../kernel/did.ts';
import { createGuardedClient } from '../../kernel/http/client.ts';
import { type RunningServer, serveRoutes } from '../../kernel/http/server.ts';
import type { ParticipantKeys } from '../../kernel/keys.ts';
import { type Logger, silentLogger } from '../../kernel/log.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import {
  createPeerRate,
  createRateLimits,
  peerLimitsOf,
  type RateLimits,
  wholeMinuteOf,
} from '../../kernel/rate-limits.ts';
import type { ReplayStore } from '../../kernel/replay.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { sqlUsedTokens, type UsedTokenTable, usedTokenMigrations } from '../../kernel/sql/used-tokens.ts';
import { freshKeys } from './identities.ts';
import { writeBytes } from './many-bytes.ts';
import { markedRandom } from './secrets.ts';
import { type ArrayMeter, type ArrayMeterOptions, createArrayMeter } from './usage-meter.ts';

/**
 * A provider with its source, a consumer with its gateway, and everything between them over real sockets. What other parts of
 * the connector would say (terms, standing, presentations) is what the test says.
 */

export const tenant = 'main' as ParticipantId;
export const agreementId = 'urn:uuid:01a207d9-2100-7000-8000-0000000000aa';
export const agreementDigest = 'vUaaN0_alUxcH7SexPt0Qh6FQwnuxgJrH9m32yrHbdU';
export const providerPid = 'urn:uuid:01a20806-e7c0-7000-8000-000000000033';
export const application = 'urn:stekker:1:app:evacuatie@1.0.0';
export const purpose = 'urn:stekker:1:purpose:crisis';
const broker = 'did:web:broker.example' as Did;

type WorldTables = DataPlaneTables & UsedTokenTable;

const listenOn = async (server: Server): Promise<number> => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
};

/** A port that was free a moment ago. */
const freePort = async (): Promise<number> => {
  const server = createServer();
  const port = await listenOn(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
};

/** The machine's clock, moved by what the test says. */
const movedClock = () => {
  let offset = 0;
  const clock: Clock = { now: () => systemClock.now() + offset, sleep: systemClock.sleep };
  const move = (ms: number): void => {
    offset += ms;
  };
  return { clock, move };
};

/** The age of the broker's last word, or that it is silent or has revoked, as the test says. */
const saidStanding = () => {
  const revoked = new Set<string>();
  let silentMs = 0;
  const listeners: (() => void)[] = [];
  const standing: Standing = {
    check: (subjects, silence) => {
      if (subjects.some((subject) => revoked.has(subject))) return { state: 'revoked' };
      const allowed = silence === 'strict' ? 3_000 : silence;
      if (silentMs > allowed) return { state: 'unknown' };
      return { state: 'good', statusAge: silentMs > 3_000 ? Math.floor(silentMs / 1_000) : null };
    },
    onChange: (listener) => void listeners.push(listener),
  };
  const tell = () => {
    for (const listener of listeners) listener();
  };
  return {
    standing,
    revoke: (subject: string) => {
      revoked.add(subject);
      tell();
    },
    silence: (ms: number) => {
      silentMs = ms;
      tell();
    },
  };
};

const memberFacts = (changes: Partial<CredentialFacts> = {}): CredentialFacts => ({
  credentials: ['urn:credential:membership'],
  validUntil: Number.MAX_SAFE_INTEGER,
  memberships: [{ memberOf: broker, roles: ['user'] }],
  accreditations: [],
  ...changes,
});

export const accreditedFacts = (changes: { readonly version?: string; readonly purposes?: readonly string[] } = {}) =>
  memberFacts({
    credentials: ['urn:credential:membership', 'urn:credential:accreditation'],
    accreditations: [
      {
        application: { id: 'urn:stekker:1:app:evacuatie', version: changes.version ?? '1.0.0', digest: 'sha256:x' },
        purposes: changes.purposes ?? [purpose],
        accreditor: 'did:web:accreditor.example',
        level: undefined,
      },
    ],
  });

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
  /** The body came to its end. */
  readonly whole: boolean;
}

export interface RawRequest {
  readonly port: number;
  readonly path: string;
  readonly method?: string;
  /** Names and values as they are sent; a name may stand twice. */
  readonly headers: readonly string[];
  readonly body?: string;
  /** Called with each chunk. */
  readonly onData?: (chunk: Buffer, response: IncomingMessage) => void;
}

/** One request exactly as written, on a connection of its own. */
export const sendRaw = ({ port, path, method = 'GET', headers, body, onData }: RawRequest): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const named = ['host', `localhost:${port}`, ...headers];
    const asked = httpRequest({ host: '127.0.0.1', port, path, method, headers: named, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      const done = (whole: boolean) =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks), whole });
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        onData?.(chunk, response);
      });
      response.on('end', () => done(response.complete));
      response.on('error', () => done(false));
      response.on('close', () => done(response.complete));
    });
    asked.on('error', reject);
    asked.end(body);
  });

export type SourceHandler = (request: IncomingMessage, response: ServerResponse) => void;

/** What the source serves unless a test says otherwise. */
const ordinarySource: SourceHandler = (request, response) => {
  const url = new URL(request.url ?? '/', 'http://localhost');
  const size = Number(url.searchParams.get('bytes') ?? 0);
  if (url.pathname.endsWith('/rain'))
    response.writeHead(200, { 'content-type': 'application/json', etag: '"r1"', 'x-source': 'yes' }).end('{"mm":3}');
  else if (url.pathname.endsWith('/bytes')) {
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': size });
    if (request.method === 'HEAD') response.end();
    else writeBytes(response, size);
  } else response.writeHead(404, { 'content-type': 'text/plain' }).end('nothing');
};

export interface WorldOptions {
  readonly source?: SourceHandler;
  readonly terms?: Partial<AccessTerms>;
  readonly facts?: CredentialFacts | 'none';
  readonly provider?: Partial<ArrayMeterOptions>;
  readonly consumer?: Partial<ArrayMeterOptions>;
  readonly replay?: ReplayStore;
  readonly limits?: RateLimits;
  /** In a minute, of the one consumer. */
  readonly accesses?: number;
  readonly tokens?: number;
  readonly replayCapacity?: number;
  readonly idleMs?: number;
  readonly log?: Logger;
  /** Others that serve what is open. */
  readonly watch?: GrantWatch;
  /** What the source asks for. */
  readonly credential?: { readonly name: string; readonly sealed: string };
}

export interface Token {
  readonly text: string;
  readonly maker: ProofMaker;
}

export const makeMaker = (): ProofMaker => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const { kty = '', crv = '', x = '', y = '' } = publicKey.export({ format: 'jwk' });
  return createProofMaker({ kty, crv, x, y }, privateKey);
};

/** Starts everything; disposing it stops everything. */
export const startWorld = async (options: WorldOptions = {}) => {
  const stack = new AsyncDisposableStack();
  const { clock, move } = movedClock();
  const newId = createIds(clock, systemRandom);
  const said = saidStanding();
  const client = stack.use(createGuardedClient({ allowLoopbackHttp: true, maxConnectionsPerOrigin: 256 }));
  const fetch = createHttpFetch(client);
  const digests = stack.use(createBodyDigests());

  const sourceServer = createServer((request, response) => (options.source ?? ordinarySource)(request, response));
  const sourcePort = await listenOn(sourceServer);
  stack.defer(() => {
    sourceServer.closeAllConnections();
    sourceServer.close();
  });

  const startPublic = async (): Promise<{
    app: Hono;
    server: RunningServer;
    origin: string;
    keys: ParticipantKeys;
  }> => {
    const app = new Hono();
    const server = stack.use(await serveRoutes(app, { host: '127.0.0.1', port: 0 }));
    const origin = `http://localhost:${server.port}`;
    const keys = freshKeys(didOf(origin));
    app.get('/.well-known/did.json', (c) => c.json(buildDidDocument({ keys, services: {} })));
    return { app, server, origin, keys };
  };
  const provider = await startPublic();
  const consumer = await startPublic();

  const sqlite = stack.use(openSqlite<WorldTables>({ path: ':memory:' }));
  const { db } = sqlite;
  await migrate(db, 'data-plane', dataPlaneMigrations as never);
  await migrate(db, 'used-tokens', usedTokenMigrations as never);
  const store = createSqlGrantStore(db as never);
  const used = sqlUsedTokens(db as never);
  const resolver = createDidResolver({ client, clock, allowLoopbackHttp: true });

  const terms: AccessTerms = {
    agreementId,
    agreement: agreementDigest,
    consumer: consumer.keys.did,
    asset: 'urn:asset:rain',
    upstream: { kind: 'http', url: `http://localhost:${sourcePort}/api`, credential: options.credential ?? null },
    rules: { permission: [{ action: 'use' }] },
    assurance: 'cosigned',
    price: '',
    pricePlan: null,
    silence: 60_000,
    ...options.terms,
  };
  let isEnded = false;
  let facts: CredentialFacts | 'none' = options.facts ?? accreditedFacts();
  const asked: (readonly string[])[] = [];
  const dataPort = await freePort();
  const dataOrigin = `http://localhost:${dataPort}`;
  const tokenEndpoint = () => `${provider.origin}/ext/1/tokens`;
  const shared = { clock, random: markedRandom, log: options.log ?? silentLogger, newId };
  const providerTerms = {
    find: async (_participant: ParticipantId, id: string) =>
      id === agreementId ? (isEnded ? ('ended' as const) : terms) : undefined,
  };
  const makePlane = (): Promise<DataPlane> =>
    createDataPlane({
      ...shared,
      ...(options.watch === undefined ? {} : { watch: options.watch }),
      store,
      terms: providerTerms,
      peerFacts: { of: async () => (facts === 'none' ? undefined : facts) },
      sources: createSources({ fetch, unseal: (sealed) => sealed.replace('sealed:', '') }),
      keys: () => provider.keys,
      dataOrigin,
      tokenEndpoint,
    });
  const providerMeter = createArrayMeter({ clock, ...options.provider });
  const consumerMeter = createArrayMeter({ clock, ...options.consumer });
  const rates = options.limits ?? createRateLimits(clock);
  const accessRate = createPeerRate(rates, 'access', peerLimitsOf(options.accesses ?? 1_000_000, 10_000_000));
  const tokenRate = createPeerRate(rates, 'token', {
    peer: wholeMinuteOf(options.tokens ?? 6_000),
    all: wholeMinuteOf(60_000),
  });
  const start = async (meter: ArrayMeter) => {
    const plane = await makePlane();
    const limits = {
      ...(options.replay === undefined ? {} : { replay: options.replay }),
      ...(options.replayCapacity === undefined ? {} : { replayCapacity: options.replayCapacity }),
      ...(options.idleMs === undefined ? {} : { idleMs: options.idleMs }),
    };
    const server = await startDataListener(
      { ...shared, ...plane, meter, standing: said.standing, digests, dataOrigin, rate: accessRate, ...limits },
      { host: '127.0.0.1', port: dataPort },
    );
    return { plane, server, meter };
  };
  let running: { plane: DataPlane; server: DataPlaneServer; meter: ArrayMeter } = await start(providerMeter);
  stack.defer(() => running.server[Symbol.asyncDispose]());

  const authenticator = createAuthenticator({ did: provider.keys.did, resolver, clock, used });
  provider.app.route(
    '/ext/1',
    createTokenRoutes({
      ...shared,
      participantOf: () => tenant,
      authenticator: () => authenticator,
      presentations: () => ({
        factsOf: async (_caller, types) => {
          asked.push(types);
          if (facts === 'none') throw new AppError('unauthenticated');
          return facts;
        },
      }),
      grants: { findBySecret: (hash) => running.plane.grants.findBySecret(hash) },
      tokens: { issue: (award) => running.plane.tokens.issue(award) },
      terms: providerTerms,
      used,
      standing: said.standing,
      rate: tokenRate,
      tokenEndpoint,
    }),
  );

  const opening = { participant: tenant, transfer: providerPid, agreementId, consumer: consumer.keys.did };
  let address = await running.plane.grants.open(opening);
  const grantOf = () => propertyOf(address, 'grant') ?? '';
  const tokenService = createTokenService({ keys: consumer.keys, clock, random: systemRandom });

  const consumed = (): ConsumedTransfer => ({
    participant: tenant,
    agreementId,
    agreement: agreementDigest,
    provider: provider.keys.did,
    transfer: providerPid,
    asset: terms.asset,
    assurance: terms.assurance,
    price: terms.price,
    pricePlan: terms.pricePlan,
    endpoint: address.endpoint ?? '',
    properties: Object.fromEntries((address.endpointProperties ?? []).map(({ name, value }) => [name, value])),
  });
  const applications = await createApplications({ store: createSqlApplicationStore(db as never), ...shared });
  const { key } = await applications.add(tenant, application);
  const gateway = stack.use(
    await startGateway(
      {
        ...shared,
        applications,
        transfers: {
          find: async (_participant, id) => (id === agreementId ? (isEnded ? 'ended' : consumed()) : undefined),
        },
        sessions: createSessions({ ...shared, client, tokens: () => tokenService, scopes: [] }),
        fetch,
        meter: consumerMeter,
        digests,
      },
      { host: '127.0.0.1', port: 0 },
    ),
  );

  /** Asks for a token as a consumer would, with everything changed that the test wants changed. */
  const askToken = async (
    changes: {
      readonly form?: Readonly<Record<string, string>>;
      readonly maker?: ProofMaker;
      readonly jkt?: string;
      readonly proof?: Partial<ProofClaims>;
      readonly headers?: Readonly<Record<string, string>>;
      readonly raw?: string;
    } = {},
  ) => {
    const maker = changes.maker ?? makeMaker();
    const form = {
      grant_type: 'urn:stekker:1:transfer',
      grant: grantOf(),
      client_id: application,
      purpose,
      ...changes.form,
    };
    const iat = Math.floor(clock.now() / 1_000);
    const proof = maker.make({ jti: newId(), htm: 'POST', htu: tokenEndpoint(), iat, ...changes.proof });
    const answer = await sendRaw({
      port: provider.server.port,
      path: '/ext/1/tokens',
      method: 'POST',
      body: changes.raw ?? new URLSearchParams(form).toString(),
      headers: Object.entries({
        'content-type': 'application/x-www-form-urlencoded',
        dpop: proof,
        authorization: tokenService.tokenFor({
          audience: provider.keys.did,
          jkt: changes.jkt ?? maker.jkt,
          scopes: [],
        }),
        ...changes.headers,
      }).flat(),
    });
    return { maker, answer, status: answer.status, body: JSON.parse(answer.body.toString() || '{}') };
  };

  const getToken = async (form: Readonly<Record<string, string>> = {}): Promise<Token> => {
    const { maker, status, body } = await askToken({ form });
    if (status !== 200) throw new Error(`no token: ${JSON.stringify(body)}`);
    return { text: body.access_token, maker };
  };

  /** The claims of a proof for this request. */
  const claimsFor = (
    path: string,
    token: string,
    changes: Partial<ProofClaims> & { method?: string; range?: string } = {},
  ): ProofClaims => {
    const { method = 'GET', range = '', ...claims } = changes;
    return {
      jti: newId(),
      htm: method,
      htu: `${dataOrigin}${path.split('?')[0]}`,
      iat: Math.floor(clock.now() / 1_000),
      ath: Buffer.from(nodeCrypto.sha256(Buffer.from(token))).toString('base64url'),
      tgt: requestTarget(nodeCrypto, { method, target: path, range }),
      ...claims,
    };
  };

  /** One access at the data plane, with everything changed that the test wants changed. */
  const access = async (
    token: Token,
    changes: {
      readonly path?: string;
      readonly method?: string;
      readonly range?: string;
      readonly claims?: Partial<ProofClaims>;
      readonly proof?: string;
      readonly headers?: readonly string[];
      readonly onData?: RawRequest['onData'];
    } = {},
  ): Promise<Answer> => {
    const { path = `/${providerPid}/rain`, method = 'GET', range = '' } = changes;
    const claims = claimsFor(path, token.text, { method, range, ...changes.claims });
    return sendRaw({
      port: dataPort,
      path,
      method,
      headers: [
        'authorization',
        `DPoP ${token.text}`,
        'dpop',
        changes.proof ?? token.maker.make(claims),
        ...(range === '' ? [] : ['range', range]),
        ...(changes.headers ?? []),
      ],
      ...(changes.onData === undefined ? {} : { onData: changes.onData }),
    });
  };

  /** One request of the application at its own connector. */
  const fetchData = (
    path: string,
    changes: {
      readonly method?: string;
      readonly headers?: readonly string[];
      readonly key?: string;
      readonly purpose?: string;
      readonly agreement?: string;
      readonly onData?: RawRequest['onData'];
    } = {},
  ): Promise<Answer> =>
    sendRaw({
      port: gateway.port,
      path: `/data/${encodeURIComponent(changes.agreement ?? agreementId)}${path}`,
      method: changes.method ?? 'GET',
      headers: [
        'authorization',
        `Bearer ${changes.key ?? key}`,
        ...(changes.purpose === '' ? [] : ['stekker-purpose', changes.purpose ?? purpose]),
        ...(changes.headers ?? []),
      ],
      ...(changes.onData === undefined ? {} : { onData: changes.onData }),
    });

  return {
    clock,
    move,
    newId,
    provider,
    consumer,
    tokenService,
    dataPort,
    dataOrigin,
    sourcePort,
    gatewayPort: gateway.port,
    applications,
    key,
    asked,
    db,
    revoke: said.revoke,
    silence: said.silence,
    meter: () => running.meter,
    consumerMeter,
    plane: () => running.plane,
    running: () => running.server.running(),
    address: () => address,
    grant: grantOf,
    setFacts: (changed: CredentialFacts | 'none') => {
      facts = changed;
    },
    endAgreement: async () => {
      isEnded = true;
      return running.plane.grants.endAgreement(tenant, agreementId);
    },
    markEnded: () => {
      isEnded = true;
    },
    reopen: async () => {
      address = await running.plane.grants.open(opening);
    },
    closeTransfer: () => running.plane.grants.close(tenant, providerPid),
    stopProvider: () => running.server[Symbol.asyncDispose](),
    /** Stops the data plane and starts it from what is stored. */
    restart: async () => {
      await running.server[Symbol.asyncDispose]();
      running = await start(createArrayMeter({ clock, ...options.provider, entries: running.meter.entries }));
    },
    askToken,
    getToken,
    claimsFor,
    access,
    fetchData,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
};

export type World = Awaited<ReturnType<typeof startWorld>>;

/** Waits until something holds; a test fails when it never does. */
export const until = async (holds: () => boolean): Promise<void> => {
  for (let tries = 0; tries < 5_000; tries += 1) {
    if (holds()) return;
    await systemClock.sleep(2);
  }
  throw new Error('it never came to hold');
};
