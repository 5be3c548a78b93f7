import { openSignedSeqs } from '../../connector/adapters/files/signed-seqs.ts';
import { type MeteringTables, meteringMigrations } from '../../connector/adapters/sql/metering-tables.ts';
import { createSqlWindowStore } from '../../connector/adapters/sql/window-store.ts';
import type { MeterRole } from '../../connector/metering/ports.ts';
import type { Metering, MeteringOptions } from '../../connector/metering/service.ts';
import { startSharedMetering } from '../../connector/metering/shared-service.ts';
import { textOf, utf8 } from '../../contracts/bytes.ts';
import { systemClock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { FilePort } from '../../kernel/files.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createIds, systemRandom } from '../../kernel/random.ts';
import { startLeasedPart } from '../../kernel/sql/leased-part.ts';
import { createLeases, type LeaseTable, leaseMigrations } from '../../kernel/sql/leases.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { createPartCalls, type PartCallTable, partCallMigrations } from '../../kernel/sql/part-calls.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { createWakeups, type Wakeups } from '../../kernel/wakeups.ts';
import { type MeterNetwork, type MeterParty, meterOptions, serveStatements } from './meter-pair.ts';
import { tornFiles } from './torn-files.ts';

/** A party whose metering is several processes on the same rows, each with files of its own; the rows are SQLite here. */

type Tables = MeteringTables & LeaseTable & PartCallTable;

export interface SharedProcess extends AsyncDisposable {
  readonly files: FilePort;
  readonly metering: Metering;
  /** Peers ask this process about statements. */
  readonly serve: () => void;
}

export interface SharedParty extends AsyncDisposable {
  readonly role: MeterRole;
  readonly options: MeteringOptions;
  readonly registered: MeterParty['registered'];
  /** Starts a process; one that was there before is started again on its files. */
  readonly start: (files?: FilePort) => Promise<SharedProcess>;
  /** What was signed, as it is written down. */
  readonly signed: () => Promise<string>;
}

export const leaseMs = 400;

export const openSharedParty = async (
  network: MeterNetwork,
  its: {
    readonly role: MeterRole;
    readonly changes?: Partial<MeteringOptions>;
    /** What the processes wake each other by. */
    readonly wakeups?: Wakeups;
    /** Whether whoever writes the statements still has the lease, when it asks. */
    readonly isHeld?: () => boolean;
    /** How long it takes to find out which accounts are in use, ms. */
    readonly busyAfterMs?: number;
  },
): Promise<SharedParty> => {
  const rows = openSqlite<Tables>({ path: ':memory:', fullSync: false });
  const { db } = rows;
  await migrate(db, 'metering', meteringMigrations);
  await migrate(db, 'lease', leaseMigrations);
  await migrate(db, 'part-call', partCallMigrations);
  const wakeups = its.wakeups ?? createWakeups(silentLogger);
  const signed = tornFiles();
  const registered: MeterParty['registered'] = [];
  const newId = createIds(systemClock, systemRandom);
  const optionsOver = (files: FilePort) => meterOptions(network, { ...its, files }, { rows, registered });
  const start = async (files: FilePort = tornFiles()): Promise<SharedProcess> => {
    const { clock, log, ...options } = await optionsOver(files);
    const windows = createSqlWindowStore(db);
    const leases = createLeases({ db, clock, holder: newId() });
    const metering = await startSharedMetering({
      ...options,
      clock,
      log,
      windows: {
        ...windows,
        busy: async () => {
          await clock.sleep(its.busyAfterMs ?? 0);
          return windows.busy();
        },
      },
      wakeups,
      newId,
      openSeqs: () => openSignedSeqs({ files: signed, crypto: nodeCrypto }, '/signed'),
      calls: createPartCalls({ db, wakeups, clock, log, part: 'statements', newId }),
      lead: (begin) =>
        startLeasedPart({
          ...{ leases, name: 'statements', clock, log, leaseMs },
          begin: (term) => begin({ ...term, isHeld: async () => (its.isHeld?.() ?? true) && term.isHeld() }),
        }),
    });
    const serve = () => serveStatements(network, its.role, metering);
    serve();
    return { files, metering, serve, [Symbol.asyncDispose]: () => metering[Symbol.asyncDispose]() };
  };
  return {
    role: its.role,
    options: await optionsOver(tornFiles()),
    registered,
    start,
    signed: async () => {
      const names = await signed.list('/signed');
      const texts = await Promise.all(
        names.map(async (name) => textOf((await signed.read(`/signed/${name}`)) ?? utf8(''))),
      );
      return texts.join('').trim();
    },
    [Symbol.asyncDispose]: () => rows[Symbol.asyncDispose](),
  };
};
