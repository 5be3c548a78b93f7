import { join, relative } from 'node:path';
import { toBase64, toHex } from '../contracts/bytes.ts';
import { AppError } from '../contracts/errors.ts';
import type { BrokerInfo } from '../contracts/events.ts';
import type { Did } from '../contracts/ids.ts';
import { formatTime } from '../contracts/time.ts';
import { nodeCrypto } from '../kernel/crypto.ts';
import { nodeFiles } from '../kernel/files.ts';
import { firstKeyEvent } from '../kernel/key-event.ts';
import { createVerifyPool } from '../kernel/verify-pool.ts';
import { aesArtifactSeal } from './adapters/crypto/artifact-seal.ts';
import { nodeLogKeys } from './adapters/crypto/log-keys.ts';
import { fileLogFiles } from './adapters/files/log-files.ts';
import { fileSignedStore } from './adapters/files/signed-store.ts';
import { createMembershipGrants, membershipGrant } from './adapters/grants/membership.ts';
import { issuanceTopic, standingTopic } from './adapters/sql/credential-store.ts';
import { sqlHandoverStore } from './adapters/sql/log-handover.ts';
import { sqlWriterLease } from './adapters/sql/log-lease.ts';
import {
  sqlArtifactStore,
  sqlFoundedAs,
  sqlJoinCodeStore,
  sqlLogOrigins,
  sqlLogStore,
} from './adapters/sql/log-store.ts';
import { sqlParticipantStore } from './adapters/sql/participant-store.ts';
import { type Base, composeIssuer, issuerParts, type RoleParts } from './base.ts';
import type { BrokerConfig } from './config.ts';
import type { Issuer } from './credentials/service.ts';
import { composeAnchoring, type HubAnchoring } from './hub-anchoring.ts';
import { composeEvents } from './hub-events.ts';
import { composeStore, type HubStore } from './hub-store.ts';
import { readPublicText } from './ledger/key-book.pure.ts';
import type { LogFiles, LogKeys, SubjectRow } from './ledger/ports.ts';
import { createLedgerRoutes, logPathOf } from './ledger/routes.ts';
import { Ledger } from './ledger/service.ts';
import {
  anchorOperations,
  harvestOperations,
  logOperations,
  registerOperations,
  statusOperations,
} from './management/operations.ts';
import type { RegisterControl } from './management/ports.ts';
import { createRegistryRoutes } from './registry/routes.ts';
import { createRegistry, type Registry } from './registry/service.ts';

/** The role `broker`: the log and its anchors, the register, memberships, what members are told, and what they offer. */

/**
 * The log's name: the host, and the year in which it was founded. The rows keep it: a log outlives New Year's Eve, and its
 * data folder does not serve another host.
 */
const findOrigin = async ({ db, config, clock }: Base): Promise<string> => {
  const { host } = new URL(config.STEKKER_PUBLIC_URL);
  const beginning = `${host}/log/`;
  const founded = await sqlLogOrigins(db);
  const own = founded.filter((origin) => origin.startsWith(beginning)).at(-1);
  if (own !== undefined) return own;
  if (founded.length > 0)
    throw new AppError('config-invalid', {
      detail: `the data folder holds the log ${founded.join(', ')}, which STEKKER_PUBLIC_URL does not name`,
    });
  return await sqlFoundedAs(db, host, `${beginning}${formatTime(clock.now()).slice(0, 4)}`);
};

/** Tiles and checkpoint, as they are served. */
const logFolder = ({ STEKKER_DATA, STEKKER_LOG_FOLDER }: BrokerConfig): string =>
  STEKKER_LOG_FOLDER ?? join(STEKKER_DATA, 'log');

/** Beside the data folder: a backup of the rows must never bring an older intent back (ledger §12). */
const intentFolder = ({ STEKKER_DATA, STEKKER_INTENT_FOLDER }: BrokerConfig): string => {
  const folder = STEKKER_INTENT_FOLDER ?? `${STEKKER_DATA.replace(/\/+$/, '')}-intent`;
  const inside = relative(STEKKER_DATA, folder);
  if (!inside.startsWith('..'))
    throw new AppError('config-invalid', {
      detail: 'STEKKER_INTENT_FOLDER lies inside STEKKER_DATA, and so inside its backups',
    });
  return folder;
};

interface LogParts {
  readonly origin: string;
  readonly keys: LogKeys;
  readonly policy: string;
  readonly files: LogFiles;
  readonly anchoring: HubAnchoring;
  readonly onEntry: (subject: SubjectRow) => void;
}

const startLedger = async (base: Base, parts: LogParts): Promise<Ledger> => {
  const { config, db, keySet, resolver, leases, wakeups, clock, random, log, did, document } = base;
  const { origin, keys, policy, files, anchoring, onEntry } = parts;
  const token = toHex(random.bytes(16));
  const processes = { lease: sqlWriterLease(db, leases), queue: sqlHandoverStore(db), wakeups };
  const ledger = await Ledger.start({
    origin,
    store: sqlLogStore(db),
    artifacts: sqlArtifactStore(db),
    joinCodes: sqlJoinCodeStore(db),
    files,
    signed: fileSignedStore({ files: nodeFiles, crypto: nodeCrypto, token }, intentFolder(config)),
    keys,
    chain: anchoring.chain,
    feed: anchoring.feed,
    seal: aesArtifactSeal(keySet.secret('artifacts'), random),
    fetchDidDocument: async (of) => (of === did ? document : (await resolver.refresh(of as Did))?.text),
    crypto: nodeCrypto,
    verifyInPool: createVerifyPool(nodeCrypto),
    clock,
    random,
    log,
    policy,
    onEntry,
    checkpointMs: config.STEKKER_CHECKPOINT_MS,
    ...(base.isShared ? { processes } : {}),
  });
  base.own({ [Symbol.asyncDispose]: () => ledger.close() });
  // Ended by the log: its last checkpoint is in the queue then.
  await ledger.whileWriting(() => anchoring.begin(() => ledger.checkpoint));
  return ledger;
};

const codeLifetimeMs = 60_000;
const askAgainMs = 100;

/** The broker's own keys come first, in the same way as everybody's (ledger §4): the process that writes brings them in. */
const introduceOwnKeys = async ({ did, keys, document, clock }: Base, ledger: Ledger): Promise<void> => {
  while (!(await ledger.hasJoined(did))) {
    if (!ledger.isWriter) {
      await clock.sleep(askAgainMs);
      continue;
    }
    const joinCode = await ledger.issueJoinCode(did, codeLifetimeMs);
    const artifact = firstKeyEvent(keys, document, clock.now());
    await ledger.register({ kind: 'key-event', artifact, joinCode }, did).catch(async (error: unknown) => {
      if (!(await ledger.hasJoined(did))) throw error; // another process became the writer meanwhile, and was faster
    });
  }
};

/** The DID of whoever introduced or changed keys with this entry. */
const keyEventDid = (subject: SubjectRow): Did | undefined => {
  if (subject.kind !== 'public' || subject.row.kind !== 'key-event') return undefined;
  const read = readPublicText(subject.row.text);
  return read.ok && read.value.kind === 'key-event' ? read.value.value.did : undefined;
};

const sameRoles = (a: readonly string[], b: readonly string[]): boolean =>
  a.toSorted().join('\n') === b.toSorted().join('\n');

/** Memberships as the operator handles them: whoever leaves, or gets other roles, keeps no credential that says otherwise. */
const registerControl = (registry: Registry, issuer: Issuer, store: HubStore): RegisterControl => {
  const revokeMembership = (holder: Did, reason: string) =>
    issuer.revokeGrant({ holder, grant: membershipGrant, reason });
  return {
    page: registry.page,
    invite: async (invitation) => {
      const known = await registry.member(invitation.did);
      // Before the invitation: what is revoked after it stands in the way of a new credential.
      if (known !== undefined && !sameRoles(known.roles, invitation.roles))
        await revokeMembership(invitation.did, 'replaced: the participant has other roles now');
      const notBefore = await issuer.lastChange({ holder: invitation.did, grant: membershipGrant });
      const invited = await registry.invite(invitation, notBefore);
      if (invited.participant.state === 'joined') store.soon(invitation.did);
      return invited;
    },
    leave: async (did) => {
      const left = await registry.leave(did);
      await revokeMembership(did, 'the participant has left');
      await store.forget(did);
      return left;
    },
  };
};

const infoOf = ({ config, did }: Base, { origin, keys, policy, anchoring: { settings } }: LogParts): BrokerInfo => ({
  did,
  name: config.STEKKER_NAME,
  log: {
    origin,
    url: `${config.STEKKER_PUBLIC_URL}${logPathOf(origin)}`,
    vkey: keys.vkey,
    registryKey: toBase64(keys.registryKey),
    policy,
  },
  chain: settings === undefined ? null : { chainId: settings.chainId, contract: settings.contract },
  accreditors: config.STEKKER_ACCREDITORS.map((text) => text as Did),
});

/** What is told of each new entry; whoever listens is there once everything is composed. */
interface EntryListeners {
  onKeyEvent: (of: Did) => void;
  onEntry: () => void;
}

/** The log with its anchors, and our own keys in it. */
const composeLog = async (base: Base, listeners: EntryListeners) => {
  const { config, keySet } = base;
  const origin = await findOrigin(base);
  const keys = nodeLogKeys(origin, { log: keySet.key('log'), registry: keySet.key('registry') });
  const policy = `log ${keys.vkey}\nquorum none\n`;
  const files = fileLogFiles(nodeFiles, logFolder(config), toHex(base.random.bytes(8)));
  const anchoring = await composeAnchoring(base, { origin, policy, files });
  const parts: LogParts = {
    origin,
    keys,
    policy,
    files,
    anchoring,
    onEntry: (subject) => {
      const of = keyEventDid(subject);
      if (of !== undefined) listeners.onKeyEvent(of);
      if (subject.kind === 'public' || subject.kind === 'agreement-event') listeners.onEntry();
    },
  };
  const ledger = await startLedger(base, parts);
  await introduceOwnKeys(base, ledger);
  return { ledger, parts };
};

/** Composes the hub: the log first, because everything else asks it who has joined. */
export const composeHub = async (base: Base): Promise<RoleParts> => {
  const { db, did, clock, log, authenticate } = base;
  const listeners: EntryListeners = { onKeyEvent: () => undefined, onEntry: () => undefined };
  const { ledger, parts } = await composeLog(base, listeners);
  const { origin, anchoring } = parts;

  const joinLog = {
    hasJoined: (of: Did) => ledger.hasJoined(of),
    issueJoinCode: (of: Did, validMs: number) => ledger.issueJoinCode(of, validMs),
  };
  const registry = createRegistry({ registry: did, store: sqlParticipantStore(db), log: joinLog, clock });
  await registry.catchUp();
  const store = composeStore(base, registry);
  const noteJoined = async (of: Did): Promise<void> => {
    await registry.joined(of);
    store.soon(of);
  };
  listeners.onKeyEvent = (of) => {
    noteJoined(of).catch((err: unknown) => log.error({ err, did: of }, 'that somebody joined was not noted'));
  };

  const issuer = composeIssuer(base, createMembershipGrants(did, { registry, clock }));
  const issuing = issuerParts(base, issuer);
  const { events, announcing, wakeAnnouncer, routes } = await composeEvents(base, {
    origin,
    registry,
    issuer,
    whileWriting: (begin) => ledger.whileWriting(begin),
  });
  listeners.onEntry = wakeAnnouncer;
  const authenticated = async (request: Request) => (await authenticate(request.headers)).did;
  const logState = () => ({
    origin,
    size: ledger.size,
    isWorking: ledger.isWorking,
    isWriter: ledger.isWriter,
  });
  return {
    info: infoOf(base, parts),
    extensions: [{ id: 'statements', version: '1', path: '/ext/1/statements' }],
    health: () => ({ isWorking: ledger.isWorking, isAnchorLate: anchoring.isLate() }),
    routes: [
      issuing.routes,
      createRegistryRoutes(registry),
      createLedgerRoutes({ ledger, authenticate: authenticated, log }),
      anchoring.routes,
      routes,
      store.routes,
    ],
    operations: [
      ...statusOperations({
        log: logState,
        events: events.view,
        harvest: store.last,
        anchoring: anchoring.status,
        isAnchorLate: anchoring.isLate,
      }),
      ...registerOperations(registerControl(registry, issuer, store)),
      ...issuing.operations,
      ...logOperations({
        state: () => ({ ...logState(), checkpoint: ledger.checkpoint ?? null }),
        audit: (options) => ledger.audit(options),
      }),
      ...anchorOperations(anchoring.control),
      ...harvestOperations(store.harvest),
    ],
    handlers: { [issuanceTopic]: issuer.issuanceHandler, [standingTopic]: issuer.standingHandler(events) },
    begin: () => [events, announcing, store.begin()],
    tidy: issuer.tidy,
  };
};
