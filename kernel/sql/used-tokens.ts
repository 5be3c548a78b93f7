import type { Kysely } from 'kysely';
import type { UsedTokenStore } from '../auth.ts';
import type { Migration } from './migrate.ts';
import { type Given, isOneRow, prepared } from './prepared.ts';

/** Used tokens as rows (wire §1): the same on every process and after a restart. */

export interface UsedTokenTable {
  used_token: { issuer: string; jti: string; expires_at: number };
}

/** For services that have no such table of their own; the process tables of the connector bring theirs. */
export const usedTokenMigrations: readonly Migration<UsedTokenTable>[] = [
  {
    name: '2026-11-24-used-tokens',
    up: async (db) => {
      await db.schema
        .createTable('used_token')
        .ifNotExists()
        .addColumn('issuer', 'text', (column) => column.notNull())
        .addColumn('jti', 'text', (column) => column.notNull())
        .addColumn('expires_at', 'bigint', (column) => column.notNull())
        .addPrimaryKeyConstraint('used_token_pk', ['issuer', 'jti'])
        .execute();
    },
  },
];

const insertToken = prepared((db: Kysely<UsedTokenTable>, given: Given<UsedTokenTable['used_token']>) =>
  db
    .insertInto('used_token')
    .values({ issuer: given('issuer'), jti: given('jti'), expires_at: given('expires_at') })
    .onConflict((its) => its.columns(['issuer', 'jti']).doNothing()),
);

/** Claims tokens in the table that the handlers' transactions use too. */
export const sqlUsedTokens = (db: Kysely<UsedTokenTable>): UsedTokenStore => ({
  claim: async ({ issuer, jti, expiresAt: expires_at }) => isOneRow(await insertToken(db, { issuer, jti, expires_at })),
});

/** Forgets tokens that have expired. */
export const forgetUsedTokens = async (db: Kysely<UsedTokenTable>, now: number): Promise<void> => {
  await db.deleteFrom('used_token').where('expires_at', '<', now).execute();
};
