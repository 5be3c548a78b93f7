import { type Kysely, sql } from 'kysely';
import type { Clock } from '../clock.ts';
import { createTurnsByKey } from '../turns.ts';
import type { Migration } from './migrate.ts';

/**
 * What only one process may do at a time: write the log, tidy the rows. A lease ends by itself, so a process that died
 * holds nothing up for longer than it asked for. Clocks differ and processes stand still: whoever writes under a lease
 * writes its fence too, and refuses a lower one.
 */

export interface LeaseTable {
  lease: {
    name: string;
    holder: string;
    /** Milliseconds since the epoch, by the clock of the holder; 0 when it was given back. */
    until: number;
    fence: number;
  };
}

export const leaseMigrations: readonly Migration<LeaseTable>[] = [
  {
    name: '2026-11-26-lease',
    up: async ({ schema }) => {
      await schema
        .createTable('lease')
        .addColumn('name', 'text', (column) => column.primaryKey())
        .addColumn('holder', 'text', (column) => column.notNull())
        .addColumn('until', 'bigint', (column) => column.notNull())
        .addColumn('fence', 'bigint', (column) => column.notNull())
        .execute();
    },
  },
];

interface Lease {
  /** Grows with every lease of this name. */
  readonly fence: number;
}

export interface Leases {
  /** A lease of this name for so many milliseconds; nothing while one runs, ours too (`renew` makes that longer). */
  readonly take: (name: string, ms: number) => Promise<Lease | undefined>;
  /** Makes a lease run from now on; false when it ended or somebody else took it. */
  readonly renew: (name: string, lease: Lease, ms: number) => Promise<boolean>;
  /** Gives it back before its end; one that is somebody else's by now stays theirs. */
  readonly release: (name: string, lease: Lease) => Promise<void>;
}

interface LeaseOptions {
  readonly db: Kysely<LeaseTable>;
  readonly clock: Clock;
  /** A random id of this process, never used before. */
  readonly holder: string;
}

/** Leases as rows: atomic on each database, because one statement looks and takes. */
export const createLeases = ({ db, clock, holder }: LeaseOptions): Leases => {
  const ours = (name: string, { fence }: Lease) =>
    db.updateTable('lease').where('name', '=', name).where('holder', '=', holder).where('fence', '=', fence);
  return {
    take: async (name, ms) => {
      const now = clock.now();
      const { rows } = await sql<{ fence: number }>`insert into lease (name, holder, "until", fence)
        values (${name}, ${holder}, ${now + ms}, 1)
        on conflict (name) do update
        set holder = excluded.holder, "until" = excluded."until", fence = lease.fence + 1
        where lease."until" <= ${now}
        returning fence`.execute(db);
      return rows[0] === undefined ? undefined : { fence: Number(rows[0].fence) };
    },
    renew: async (name, lease, ms) => {
      const now = clock.now();
      const { numUpdatedRows } = await ours(name, lease)
        .where('until', '>', now)
        .set({ until: now + ms })
        .executeTakeFirst();
      return numUpdatedRows === 1n;
    },
    release: async (name, lease) => {
      await ours(name, lease).set({ until: 0 }).execute();
    },
  };
};

const turnMs = 30_000;
const askAgainMs = 50;

/** Runs the work for one key one after the other, in all processes; a process that dies holds the others up for 30 s. */
export const leasedTurns = (leases: Leases, clock: Clock) => {
  const inTurn = createTurnsByKey();
  return <Value>(key: string, work: () => Promise<Value>): Promise<Value> =>
    inTurn(key, async () => {
      const name = `turn ${key}`;
      let lease = await leases.take(name, turnMs);
      for (; lease === undefined; lease = await leases.take(name, turnMs)) await clock.sleep(askAgainMs);
      try {
        return await work();
      } finally {
        await leases.release(name, lease);
      }
    });
};

/** Forgets leases that ended long ago: their fences are not asked for any more where only turns were taken. */
export const forgetTurns = async (db: Kysely<LeaseTable>, before: number): Promise<void> => {
  await db.deleteFrom('lease').where('name', 'like', 'turn %').where('until', '<', before).execute();
};
