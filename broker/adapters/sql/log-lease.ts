import type { Kysely } from 'kysely';
import type { Leases } from '../../../kernel/sql/leases.ts';
import type { Fence, WriterLease } from '../../ledger/ports.ts';
import type { LogTables } from './log-tables.ts';

/** The lease under which a database's log is written: one row, whatever the number of processes. */
const leaseName = 'log';

/**
 * Whether this fence is still the newest, asked inside the transaction that writes: until it ends nobody takes the lease,
 * because the question locks its row.
 */
export const holdsLease = async (transaction: Kysely<LogTables>, fence: Fence): Promise<boolean> => {
  if (fence === null) return true;
  const { numUpdatedRows } = await transaction
    .updateTable('lease')
    .set({ fence })
    .where('name', '=', leaseName)
    .where('fence', '=', fence)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
};

/** The right to write as a row of the same database. */
export const sqlWriterLease = (db: Kysely<LogTables>, leases: Leases): WriterLease => ({
  take: async (ms) => (await leases.take(leaseName, ms))?.fence,
  renew: (fence, ms) => leases.renew(leaseName, { fence }, ms),
  release: (fence) => leases.release(leaseName, { fence }),
  isHeld: async (fence) => {
    const row = await db.selectFrom('lease').select('fence').where('name', '=', leaseName).executeTakeFirst();
    return row?.fence === fence;
  },
});
