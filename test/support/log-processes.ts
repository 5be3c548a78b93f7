import { fileLogFiles } from '../../broker/adapters/files/log-files.ts';
import { fileSignedStore } from '../../broker/adapters/files/signed-store.ts';
import { sqlHandoverStore } from '../../broker/adapters/sql/log-handover.ts';
import { sqlWriterLease } from '../../broker/adapters/sql/log-lease.ts';
import { sqlArtifactStore, sqlJoinCodeStore, sqlLogStore } from '../../broker/adapters/sql/log-store.ts';
import { type LogTables, logMigrations } from '../../broker/adapters/sql/log-tables.ts';
import { Ledger, type LedgerOptions } from '../../broker/ledger/service.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { FilePort } from '../../kernel/files.ts';
import { silentLogger } from '../../kernel/log.ts';
import { seededRandom } from '../../kernel/random.ts';
import { createLeases, leaseMigrations } from '../../kernel/sql/leases.ts';
import { migrate } from '../../kernel/sql/migrate.ts';
import { openSqlite } from '../../kernel/sql/sqlite.ts';
import { createWakeups } from '../../kernel/wakeups.ts';
import { logBench, shiftedClock } from './log-bench.ts';
import { documentOf, logStart, provider } from './log-parties.ts';
import { tornFiles } from './torn-files.ts';

/** Several ledgers over the same rows and files, each of which can be made to stand still at any call that leaves it. */

export interface Gate {
  /** It stands still at its call `count` from now, and all later ones. */
  readonly pauseAt: (count: number) => void;
  readonly isStill: () => boolean;
  readonly go: () => void;
}

const createGate = () => {
  let count = 0;
  let limit = Number.POSITIVE_INFINITY;
  let open = Promise.withResolvers<void>();
  const pass = async (): Promise<void> => {
    count += 1;
    if (count >= limit) await open.promise;
  };
  const gate: Gate = {
    pauseAt: (from) => {
      limit = count + from;
      open = Promise.withResolvers();
    },
    isStill: () => count >= limit,
    go: () => {
      limit = Number.POSITIVE_INFINITY;
      open.resolve();
    },
  };
  /** The same port; each call may stand still on its way there and on its way back. */
  const through = <Port extends object>(port: Port): Port =>
    new Proxy(port, {
      get: (target, name, receiver) => {
        const member: unknown = Reflect.get(target, name, receiver);
        if (typeof member !== 'function') return member;
        return async (...args: unknown[]) => {
          await pass();
          const answer: unknown = await member.apply(target, args);
          await pass();
          return answer;
        };
      },
    });
  return { gate, through };
};

export interface LogProcess {
  readonly name: string;
  readonly gate: Gate;
  readonly ledger: Ledger;
}

export interface LogWorld extends AsyncDisposable {
  readonly files: FilePort;
  /** The rows, past every gate. */
  readonly rows: ReturnType<typeof sqlLogStore>;
  readonly start: (name: string, changes?: Partial<LedgerOptions>) => Promise<LogProcess>;
}

export const logWorld = async ({ leaseMs }: { readonly leaseMs: number }): Promise<LogWorld> => {
  const sqlite = openSqlite<LogTables>({ path: ':memory:' });
  const { db } = sqlite;
  await migrate(db, 'leases', leaseMigrations);
  await migrate(db, 'ledger', logMigrations);
  const files = tornFiles();
  const clock = shiftedClock(logStart);
  const wakeups = createWakeups(silentLogger);
  const rows = sqlLogStore(db);
  const fetchDidDocument: LedgerOptions['fetchDidDocument'] = async (did) =>
    documentOf({ ...provider, did, kid: `${did}#s` });
  return {
    files,
    rows,
    start: async (name, changes = {}) => {
      const { gate, through } = createGate();
      const { options } = logBench({ store: { ...rows, ...sqlArtifactStore(db), ...sqlJoinCodeStore(db) } });
      const own = through<FilePort>(files);
      const ledger = await Ledger.start({
        ...options,
        fetchDidDocument,
        random: seededRandom(`process ${name}`),
        clock,
        store: through(rows),
        artifacts: through(sqlArtifactStore(db)),
        files: fileLogFiles(own, '/log', name),
        signed: fileSignedStore({ files: own, crypto: nodeCrypto, token: name }, '/intent'),
        processes: {
          lease: through(sqlWriterLease(db, createLeases({ db, clock, holder: name }))),
          queue: through(sqlHandoverStore(db)),
          wakeups,
          leaseMs,
        },
        ...changes,
      });
      return { name, gate, ledger };
    },
    [Symbol.asyncDispose]: async () => {
      await wakeups[Symbol.asyncDispose]();
      await sqlite[Symbol.asyncDispose]();
    },
  };
};
