import { relative, resolve } from 'node:path';
import { AppError } from '../contracts/errors.ts';
import type { ParticipantId } from '../contracts/ids.ts';
import { isAssertionOf, signAssertion } from '../kernel/assertions.ts';
import { nodeCrypto } from '../kernel/crypto.ts';
import { nodeFiles } from '../kernel/files.ts';
import { startLeasedPart, type Term } from '../kernel/sql/leased-part.ts';
import { createPartCalls } from '../kernel/sql/part-calls.ts';
import { openSignedSeqs, takeOverSignedSeqs } from './adapters/files/signed-seqs.ts';
import { createLogReader } from './adapters/http/log-reader.ts';
import { createSqlAlarmStore, createSqlFollowedStore, createSqlLogPinStore } from './adapters/sql/followed-store.ts';
import {
  createSqlDisputeStore,
  createSqlJournalMarkStore,
  createSqlMeterAccountStore,
  createSqlStatementDraftStore,
  createSqlStatementStore,
} from './adapters/sql/metering-store.ts';
import { createSqlPromiseStore, createSqlRegistrationStore } from './adapters/sql/registration-store.ts';
import { createSqlUnstatedStore } from './adapters/sql/unstated-store.ts';
import { createSqlUsageStore } from './adapters/sql/usage-store.ts';
import { createSqlWindowStore } from './adapters/sql/window-store.ts';
import type { Base } from './base.ts';
import type { ConnectorConfig } from './config.ts';
import type { KeptAlarm, OwnKeyEvents, StatedInterval, StatedUsage } from './evidence/ports.ts';
import { type Evidence, startEvidence } from './evidence/service.ts';
import type { SignedSeqs } from './metering/ports.ts';
import { type Metering, type MeteringOptions, startMetering } from './metering/service.ts';
import { startSharedMetering } from './metering/shared-service.ts';
import type { UsageQueries } from './metering/usage.ts';

/** What is used is written down, stated by both, and brought to the log. */

/** A backup of the rows must never bring back an older number that was signed (ledger §8), nor an older journal. */
const outsideData = (
  { STEKKER_DATA }: ConnectorConfig,
  key: 'STEKKER_JOURNAL_FOLDER' | 'STEKKER_SIGNED_FOLDER',
  folder: string,
): string => {
  if (!/^\.\.(\/|$)/.test(relative(STEKKER_DATA, folder)))
    throw new AppError('config-invalid', { detail: `${key} lies inside STEKKER_DATA, and so inside its backups` });
  return folder;
};

/** Beside the data folder, unless it is named. */
export const journalFolderOf = (config: ConnectorConfig): string => {
  const beside = `${config.STEKKER_DATA.replace(/\/+$/, '')}-journal`;
  return outsideData(config, 'STEKKER_JOURNAL_FOLDER', config.STEKKER_JOURNAL_FOLDER ?? beside);
};

/** Where the numbers are that were signed, also those of before they had a folder of their own; the answer opens it. */
const signedNumbers = async (config: ConnectorConfig): Promise<() => Promise<SignedSeqs>> => {
  const tools = { files: nodeFiles, crypto: nodeCrypto };
  const journals = resolve(journalFolderOf(config));
  const folder = resolve(outsideData(config, 'STEKKER_SIGNED_FOLDER', config.STEKKER_SIGNED_FOLDER ?? journals));
  if (folder !== journals) await takeOverSignedSeqs(tools, journals, folder);
  return () => openSignedSeqs(tools, folder);
};

type MeteredInterval = NonNullable<Awaited<ReturnType<UsageQueries['ofSeq']>>>;

const asStated = ({ agreement, seq, artifact, sums, records }: MeteredInterval): StatedInterval => ({
  agreementDigest: agreement,
  seq: String(seq),
  artifact,
  sums,
  accesses: records,
});

const maxUnstated = 10_000;

/** Usage as receipts ask for it. */
const statedUsage = (usage: () => UsageQueries): StatedUsage => {
  const ofAgreement = async (participant: ParticipantId, agreement: string, request: string) => {
    const intervals = await usage().ofRequest(participant, agreement, request);
    const sides = await Promise.all(
      (['provider', 'consumer'] as const).map((role) =>
        usage().lines({ participant, role, agreement }, { after: Number.MAX_SAFE_INTEGER, limit: maxUnstated }),
      ),
    );
    const isOpen = sides.flat().some((line) => line.request === request && line.seq === null);
    return intervals.length > 0 || isOpen ? { intervals: intervals.map(asStated), isOpen } : undefined;
  };
  return {
    ofRequest: async (participant, request, agreementDigest) => {
      const known = agreementDigest === undefined ? await usage().list(participant) : [];
      const agreements = agreementDigest === undefined ? known.map(({ agreement }) => agreement) : [agreementDigest];
      for (const agreement of new Set(agreements)) {
        const found = await ofAgreement(participant, agreement, request);
        if (found !== undefined) return found;
      }
      return undefined;
    },
    next: async (participant, agreementDigest, afterSeq) => {
      const found = await usage().ofSeq(participant, agreementDigest, Number(afterSeq) + 1);
      return found && asStated(found);
    },
  };
};

interface UsageParts {
  readonly ownKeys: OwnKeyEvents;
  readonly notify: (alarm: KeptAlarm) => void;
}

const composeEvidence = (base: Base, parts: UsageParts, usage: () => UsageQueries): Evidence | undefined => {
  const { broker, client, db, transport, clock, log, wake } = base;
  if (broker === undefined) return undefined;
  return base.own(
    startEvidence({
      brokerUrl: broker.origin,
      reader: createLogReader({ client, brokerUrl: broker.origin }),
      transport,
      registrations: createSqlRegistrationStore(db),
      promises: createSqlPromiseStore(db),
      followed: createSqlFollowedStore(db),
      pins: createSqlLogPinStore(db),
      alarms: createSqlAlarmStore(db),
      ownKeys: parts.ownKeys,
      stated: statedUsage(usage),
      clock,
      logger: log,
      wake,
      notify: parts.notify,
    }),
  );
};

const statementPart = 'statements';

/** What processes of one connector meter together with. */
const sharedParts = ({ db, relaxed, leases, wakeups, clock, log, newUuid: newId }: Base) => ({
  windows: createSqlWindowStore(db),
  wakeups,
  newId,
  calls: createPartCalls({ db: relaxed, wakeups, clock, log, part: statementPart, newId }),
  lead: (begin: (term: Term) => Promise<AsyncDisposable>) =>
    startLeasedPart({ leases, name: statementPart, clock, log, begin }),
});

const composeMetering = async (base: Base, evidence: Evidence | undefined): Promise<Metering> => {
  const { config, db, transport, peers, resolver, keys, clock, random, log, broker } = base;
  const folder = journalFolderOf(config);
  const its: Omit<MeteringOptions, 'seqs'> = {
    files: nodeFiles,
    folder,
    accounts: createSqlMeterAccountStore(db),
    marks: createSqlJournalMarkStore(db),
    unstated: createSqlUnstatedStore(db),
    drafts: createSqlStatementDraftStore(db),
    statements: createSqlStatementStore(db),
    usage: createSqlUsageStore(db),
    disputes: createSqlDisputeStore(db),
    transport,
    peers: {
      root: async (_participant, peer) => {
        try {
          return await peers.extension(peer, 'statements');
        } catch {
          return undefined; // not to be found out now: it is asked again
        }
      },
    },
    broker: {
      root: async () => broker && { did: broker.did, url: `${broker.origin}/ext/1/statements` },
    },
    signer: {
      sign: async (_key, payload, typ) => signAssertion(keys.assertion, payload, typ),
      verify: (artifact, by) => isAssertionOf(resolver, artifact, by),
    },
    // Without a broker there is no log to bring anything to; both sides keep what both signed.
    registrar: { submit: async (statement) => evidence?.registrar.submit(statement) },
    clock,
    random,
    log,
    intervalMs: config.STEKKER_STATEMENT_INTERVAL_SECONDS * 1_000,
  };
  const openSeqs = await signedNumbers(config);
  return base.own(
    base.isShared
      ? await startSharedMetering({ ...its, ...sharedParts(base), openSeqs })
      : await startMetering({ ...its, seqs: await openSeqs() }),
  );
};

export const composeUsage = async (base: Base, parts: UsageParts) => {
  let metering: Metering | undefined;
  const usage = (): UsageQueries => {
    if (metering === undefined) throw new Error('usage is asked for before the meter has started');
    return metering.usage;
  };
  const evidence = composeEvidence(base, parts, usage);
  metering = await composeMetering(base, evidence);
  return { evidence, metering };
};

export type Usage = Awaited<ReturnType<typeof composeUsage>>;
