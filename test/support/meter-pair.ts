import { Hono } from 'hono';
import { openSignedSeqs } from '../../connector/adapters/files/signed-seqs.ts';
import {
  createSqlDisputeStore,
  createSqlJournalMarkStore,
  createSqlMeterAccountStore,
  createSqlStatementDraftStore,
  createSqlStatementStore,
} from '../../connector/adapters/sql/metering-store.ts';
import { type MeteringTables, meteringMigrations } from '../../connector/adapters/sql/metering-tables.ts';
import { createSqlUnstatedStore } from '../../connector/adapters/sql/unstated-store.ts';
import { createSqlUsageStore } from '../../connector/adapters/sql/usage-store.ts';
import type { PeerTransport } from '../../connector/exchange/ports.ts';
import type { KeptStatement, MeteredAgreement, MeterRole, StatementRegistrar } from '../../connector/metering/ports.ts';
import { type MeteringOptions, type SingleMetering, startMetering } from '../../connector/metering/service.ts';
import { toBase64Url, utf8 } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Did, ParticipantId } from '../../contracts/ids.ts';
import type { Json } from '../../contracts/json.ts';
import type { Assurance } from '../../contracts/ledger/agreement.ts';
import { encodeProtected, readJws, signingInput, verifySignature } from '../../contracts/ledger/jws.ts';
import { type PricePlan, pricePlanDigest } from '../../contracts/ledger/price-plan.ts';
import { chargedUnits, type UsageClose, type UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import { type Clock, systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { FilePort } from '../../kernel/files.ts';
import { type Logger, silentLogger } from '../../kernel/log.ts';
import { createIds, type Random, systemRandom } from '../../kernel/random.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite, type Sqlite } from '../../kernel/sql/sqlite.ts';
import { eventually } from './dsp-pair.ts';
import { ed25519FromByte, signEd25519, type TestKey } from './keys.ts';
import { tornFiles } from './torn-files.ts';

/** Two meters that make statements with each other: real routes, signatures, journals and SQLite; the network obeys the test. */

export const us = 'main' as ParticipantId;
export const providerDid = 'did:web:provider.example' as Did;
export const consumerDid = 'did:web:consumer.example' as Did;

export const rainPlan: PricePlan = {
  v: 1,
  type: 'price-plan',
  currency: 'EUR',
  scale: '4',
  free: false,
  notice: '',
  lines: [
    { unit: 'requests', quantity: '1', value: '25' },
    { unit: 'bytes', quantity: '1000000', value: '10' },
  ],
};

export type Fate = 'deliver' | 'lose' | 'lose-answer' | 'repeat';

export interface Message {
  readonly from: Did;
  readonly path: string;
  readonly body: Json | undefined;
}

/** What a network of tests knows: who is where, and what becomes of a message. */
export interface MeterNetwork {
  readonly apps: Map<Did, Hono>;
  readonly keys: Map<Did, TestKey>;
  /** Decides on each message; a test may set another. */
  fate: (message: Message) => Fate;
  /** Changes a message on its way, or the answer. */
  tamper: (message: Message) => Json | undefined;
  readonly messages: Message[];
}

export const createMeterNetwork = (): MeterNetwork => ({
  apps: new Map(),
  keys: new Map([
    [providerDid, ed25519FromByte(3)],
    [consumerDid, ed25519FromByte(4)],
  ]),
  fate: () => 'deliver',
  tamper: ({ body }) => body,
  messages: [],
});

const originOf = (did: Did): string => `https://${did.slice('did:web:'.length)}`;

const lost = (): AppError => new AppError('fetch-failed', { detail: 'lost' });

const transportFor = (network: MeterNetwork, did: Did): PeerTransport => {
  const call = async (peer: Did, url: string, init: RequestInit) => {
    const app = network.apps.get(peer);
    if (app === undefined) throw lost();
    const headers = { ...(init.headers as Record<string, string>), authorization: did };
    const response = await app.fetch(new Request(url, { ...init, headers }));
    const text = await response.text();
    return { status: response.status, body: text === '' ? undefined : (JSON.parse(text) as Json), newest: '' };
  };
  return {
    post: async ({ peer, url, body, lines }) => {
      const path = new URL(url).pathname.slice('/ext/1/statements/'.length);
      const message = { from: did, path, body };
      network.messages.push(message);
      const fate = network.fate(message);
      if (fate === 'lose') throw lost();
      const sent = network.tamper(message) ?? body;
      const text = [sent, ...(lines ?? [])].map((line) => JSON.stringify(line)).join('\n');
      const type = lines === undefined ? 'application/json' : 'application/x-ndjson';
      const send = () => call(peer, url, { method: 'POST', body: text, headers: { 'content-type': type } });
      const answer = await send();
      if (fate === 'lose-answer') throw lost();
      return fate === 'repeat' ? send() : answer;
    },
    get: async ({ peer, url }) => {
      const message = { from: did, path: new URL(url).pathname.slice('/ext/1/statements/'.length), body: undefined };
      network.messages.push(message);
      if (network.fate(message) !== 'deliver') throw lost();
      return call(peer, url, { method: 'GET' });
    },
  };
};

/** Delivers a message once more, long after it was sent; what it is answered nobody hears. */
export const deliverLate = async (network: MeterNetwork, { from, path, body }: Message): Promise<void> => {
  const peer = from === providerDid ? consumerDid : providerDid;
  const url = `${originOf(peer)}/ext/1/statements/${path}`;
  await transportFor(network, from)
    .post({ participant: us, peer, url, id: 'late', body: body ?? null })
    .catch(() => undefined);
};

export interface MeterParty extends AsyncDisposable {
  readonly did: Did;
  readonly role: MeterRole;
  readonly files: FilePort;
  readonly rows: Sqlite<MeteringTables>;
  readonly registered: Parameters<StatementRegistrar['submit']>[0][];
  readonly options: MeteringOptions;
  metering: SingleMetering;
  /** Starts again from rows, journal and never-twice file; the old one is left where it stood. */
  readonly restart: (changes?: Partial<MeteringOptions>) => Promise<void>;
}

export interface PartyOptions {
  readonly role: MeterRole;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly log?: Logger;
  readonly files?: FilePort;
  readonly changes?: Partial<MeteringOptions>;
  /** What the ports of each life go through: a simulation lets them die. */
  readonly mortal?: (options: MeteringOptions) => MeteringOptions;
}

const typOf = (artifact: unknown, typ: Parameters<typeof readJws>[1]) => readJws(artifact, typ);

const didFor = (role: MeterRole): Did => (role === 'provider' ? providerDid : consumerDid);

/** What metering of a party is made of, on its rows and files; the record of what was signed is read anew in each life. */
export const meterOptions = async (
  network: MeterNetwork,
  its: PartyOptions & { readonly files: FilePort },
  { rows, registered }: Pick<MeterParty, 'rows' | 'registered'>,
): Promise<MeteringOptions> => {
  const did = didFor(its.role);
  const key = network.keys.get(did) ?? ed25519FromByte(9);
  const { db } = rows;
  return {
    files: its.files,
    folder: '/journal',
    seqs: await openSignedSeqs({ files: its.files, crypto: nodeCrypto }, '/signed'),
    accounts: createSqlMeterAccountStore(db),
    marks: createSqlJournalMarkStore(db),
    unstated: createSqlUnstatedStore(db),
    drafts: createSqlStatementDraftStore(db),
    statements: createSqlStatementStore(db),
    usage: createSqlUsageStore(db),
    disputes: createSqlDisputeStore(db),
    transport: transportFor(network, did),
    peers: { root: async (_participant, peer) => `${originOf(peer)}/ext/1/statements` },
    broker: { root: async () => undefined },
    signer: {
      sign: async (_participant, payload, typ) => {
        const header = encodeProtected(`${did}#s`, typ);
        return { protected: header, signature: signEd25519(key, signingInput(header, payload)) };
      },
      verify: async (artifact, { index, did: by, typ }) => {
        const read = typOf(artifact, typ);
        const spki = network.keys.get(by)?.spki;
        const signature = read.ok ? read.value.signatures[index] : undefined;
        return spki !== undefined && signature?.kid === `${by}#s` && verifySignature(nodeCrypto, signature, spki);
      },
    },
    registrar: { submit: async (statement) => void registered.push(statement) },
    clock: its.clock ?? systemClock,
    random: its.random ?? systemRandom,
    log: its.log ?? silentLogger,
    intervalMs: 300_000,
    pace: { firstMs: 2, longestMs: 20 },
    consumerWaitsMs: 60_000,
    segmentBytes: 1 << 16,
    ...its.changes,
  };
};

/** Where the counterparty finds a party's statements. */
export const serveStatements = (
  { apps }: MeterNetwork,
  role: MeterRole,
  metering: Pick<SingleMetering, 'routes'>,
  log: Logger = silentLogger,
): void => {
  const routes = metering.routes({
    log,
    participantOf: () => us,
    authenticate: async (_participant, headers) => {
      const caller = headers.get('authorization');
      if (caller === null || !caller.startsWith('did:')) throw new AppError('unauthenticated');
      return { did: caller as Did };
    },
  });
  apps.set(didFor(role), new Hono().route('/ext/1', routes));
};

export const startMeterParty = async (network: MeterNetwork, its: PartyOptions): Promise<MeterParty> => {
  const rows = openSqlite<MeteringTables>({ path: ':memory:', fullSync: false });
  await migrate(rows.db, 'metering', meteringMigrations);
  const files = its.files ?? tornFiles();
  const registered: MeterParty['registered'] = [];
  const options = () => meterOptions(network, { ...its, files }, { rows, registered });
  const open = async (changes: Partial<MeteringOptions> = {}): Promise<SingleMetering> => {
    const all = { ...(await options()), ...changes };
    const metering = await startMetering(its.mortal?.(all) ?? all);
    serveStatements(network, its.role, metering, its.log);
    return metering;
  };
  const party: MeterParty = {
    did: didFor(its.role),
    role: its.role,
    files,
    rows,
    registered,
    options: await options(),
    metering: await open(),
    restart: async (changes) => {
      party.metering = await open(changes);
    },
    [Symbol.asyncDispose]: async () => {
      await party.metering[Symbol.asyncDispose]();
      await rows[Symbol.asyncDispose]();
    },
  };
  return party;
};

export const agreementFor = (
  role: MeterRole,
  its: {
    readonly name?: string;
    readonly plan?: PricePlan | null;
    readonly assurance?: Assurance;
    readonly at?: number;
  } = {},
): MeteredAgreement => {
  const plan = its.plan === undefined ? rainPlan : its.plan;
  const name = its.name ?? 'rain';
  return {
    participant: us,
    role,
    agreement: toBase64Url(nodeCrypto.sha256(utf8(name))),
    agreementId: `urn:uuid:${name}`,
    provider: providerDid,
    consumer: consumerDid,
    assurance: its.assurance ?? 'cosigned',
    price: plan === null ? '' : pricePlanDigest(nodeCrypto, plan),
    pricePlan: plan,
    startedAt: its.at ?? systemClock.now() - 1_000,
  };
};

const newId = createIds(systemClock, systemRandom);

export const digestOf = (text: string): string => toBase64Url(nodeCrypto.sha256(utf8(text)));

export const openEntry = (agreement: string, changes: Partial<UsageOpen> = {}): UsageOpen => ({
  t: 'open',
  agreement,
  request: newId(),
  part: 1,
  at: systemClock.now(),
  asset: 'urn:asset:rain',
  transfer: 'urn:uuid:01a20806-e7c0-7000-8000-000000000033',
  application: 'urn:stekker:1:app:evacuatie@1.0.0',
  method: 'GET',
  purpose: 'urn:stekker:1:purpose:crisis',
  run: '',
  target: '4I0LERaoWjL6rCtGTTLFuFRGxzX-ixreOfQ59kwXrXY',
  price: '',
  ext: null,
  reserved: 1 << 20,
  proof: 'a.b.c',
  ...changes,
});

export const closeEntry = (open: UsageOpen, body = 'abc', changes: Partial<UsageClose> = {}): UsageClose => ({
  t: 'close',
  agreement: open.agreement,
  request: open.request,
  part: open.part,
  bytes: body.length,
  digest: digestOf(body),
  outcome: 'ok',
  status: '200',
  units: chargedUnits({ status: 200, part: open.part, bytes: body.length, items: null }),
  ...changes,
});

export const opened = ({ metering, role }: MeterParty, entry: UsageOpen): Promise<AppError | null> =>
  new Promise((resolve) => metering.meters[role].open(entry, resolve));

export const closed = ({ metering, role }: MeterParty, entry: UsageClose): Promise<boolean> =>
  new Promise((resolve) => metering.meters[role].close(entry, resolve));

/** One access as both sides see it, each with its own close. */
export const access = async (
  pair: { readonly provider: MeterParty; readonly consumer: MeterParty },
  agreement: string,
  sides: {
    readonly provider?: Partial<UsageClose>;
    readonly consumer?: Partial<UsageClose>;
    readonly body?: string;
    readonly open?: Partial<UsageOpen>;
  } = {},
): Promise<UsageOpen> => {
  const entry = openEntry(agreement, sides.open);
  for (const party of [pair.consumer, pair.provider]) {
    const refusal = await opened(party, entry);
    if (refusal !== null) throw refusal;
  }
  await closed(pair.provider, closeEntry(entry, sides.body, sides.provider));
  await closed(pair.consumer, closeEntry(entry, sides.body, sides.consumer));
  return entry;
};

export interface MeterPair extends AsyncDisposable {
  readonly network: MeterNetwork;
  readonly provider: MeterParty;
  readonly consumer: MeterParty;
  readonly agreement: string;
  /** When the agreement was made: both sides must know the same. */
  readonly startedAt: number;
}

/** Both parties with one agreement in force. */
export const startMeterPair = async (
  its: {
    readonly changes?: Partial<MeteringOptions>;
    readonly consumerChanges?: Partial<MeteringOptions>;
    readonly clock?: Clock;
    readonly assurance?: Assurance;
    readonly plan?: PricePlan | null;
    readonly log?: Logger;
  } = {},
): Promise<MeterPair> => {
  const network = createMeterNetwork();
  const { changes = {}, consumerChanges = changes, ...shared } = its;
  const provider = await startMeterParty(network, { role: 'provider', changes, ...shared });
  const consumer = await startMeterParty(network, { role: 'consumer', changes: consumerChanges, ...shared });
  const terms = { ...its, at: (its.clock ?? systemClock).now() - 1_000 };
  const info = agreementFor('provider', terms);
  await provider.metering.agreementInForce(info);
  await consumer.metering.agreementInForce(agreementFor('consumer', terms));
  return {
    network,
    provider,
    consumer,
    agreement: info.agreement,
    startedAt: info.startedAt,
    [Symbol.asyncDispose]: async () => {
      await provider[Symbol.asyncDispose]();
      await consumer[Symbol.asyncDispose]();
    },
  };
};

export const statementOf = (party: MeterParty, agreement: string, seq: 'newest' | number) =>
  party.options.statements.find({ participant: us, role: party.role, agreement }, seq);

/** Waits until a party has a complete statement of this number, or a later one; the test fails when it never comes. */
export const complete = async (party: MeterParty, agreement: string, seq: number): Promise<KeptStatement> => {
  await eventually(
    () => statementOf(party, agreement, 'newest'),
    (found) => found?.state === 'complete' && Number(found.payload.seq) >= seq,
  );
  const found = await statementOf(party, agreement, seq);
  if (found === undefined) throw new Error(`statement ${seq} was skipped`);
  return found;
};

/** The agreement ends on both sides. */
export const endBoth = async ({ provider, consumer, agreement }: MeterPair): Promise<void> => {
  await consumer.metering.agreementEnded(us, agreement);
  await provider.metering.agreementEnded(us, agreement);
};

export const disputesOf = (party: MeterParty, agreement: string) =>
  party.options.disputes.list({ participant: us, role: party.role, agreement });
