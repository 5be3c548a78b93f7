import type { Kysely } from 'kysely';
import type { HandoverStore } from '../../ledger/ports.ts';
import { holdsLease } from './log-lease.ts';
import type { LogTables } from './log-tables.ts';

/** The queue between the processes of one log, as rows. An answer takes the question away in the same transaction. */
export const sqlHandoverStore = (db: Kysely<LogTables>): HandoverStore => ({
  put: async (origin, handed) => {
    await db
      .insertInto('log_handed')
      .values(handed.map(({ id, candidate }) => ({ origin, id, candidate })))
      .execute();
  },

  waiting: (origin, limit) =>
    db
      .selectFrom('log_handed')
      .select(['id', 'candidate'])
      .where('origin', '=', origin)
      .orderBy('id')
      .limit(limit)
      .execute(),

  answer: (origin, answers, { at, fence }) =>
    db.transaction().execute(async (transaction) => {
      if (!(await holdsLease(transaction, fence))) return 'fenced';
      if (answers.length === 0) return 'answered';
      await transaction
        .insertInto('log_answer')
        .values(answers.map(({ id, outcome }) => ({ origin, id, outcome, at })))
        .onConflict((conflict) => conflict.doNothing())
        .execute();
      const ids = answers.map(({ id }) => id);
      await transaction.deleteFrom('log_handed').where('origin', '=', origin).where('id', 'in', ids).execute();
      return 'answered';
    }),

  answers: async (origin, ids) =>
    ids.length === 0
      ? []
      : await db
          .selectFrom('log_answer')
          .select(['id', 'outcome'])
          .where('origin', '=', origin)
          .where('id', 'in', ids)
          .orderBy('id')
          .execute(),

  forget: async (origin, read, before) => {
    const all = db.deleteFrom('log_answer').where('origin', '=', origin);
    if (read.length > 0) await all.where('id', 'in', read).execute();
    await all.where('at', '<', before).execute();
  },
});
