import type { Kysely } from 'kysely';
import type { CredentialFacts } from '../../../contracts/vc/credential.ts';
import type { Clock } from '../../../kernel/clock.ts';
import type { PeerFactsStore } from '../../identity/ports.ts';
import type { IdentityTables } from './credential-store.ts';

/** What peers proved, over SQL; the credentials that facts rest on stand beside them, so that a revocation finds them. */

type Db = Kysely<IdentityTables>;

const forget = async (db: Db, rows: readonly { readonly participant: string; readonly did: string }[]) => {
  for (const { participant, did } of rows) {
    await db.deleteFrom('peer_facts').where('participant', '=', participant).where('did', '=', did).execute();
    await db.deleteFrom('peer_credential').where('participant', '=', participant).where('did', '=', did).execute();
  }
};

const put = async (db: Db, row: IdentityTables['peer_facts'], credentials: readonly string[]): Promise<void> => {
  const { participant, did } = row;
  await forget(db, [row]);
  await db.insertInto('peer_facts').values(row).execute();
  for (const credential of new Set(credentials))
    await db.insertInto('peer_credential').values({ credential, participant, did }).execute();
};

export const createSqlPeerFactsStore = (db: Db, clock: Clock): PeerFactsStore => {
  const find = (participant: string, did: string) =>
    db
      .selectFrom('peer_facts')
      .select(['facts', 'valid_until'])
      .where('participant', '=', participant)
      .where('did', '=', did)
      .executeTakeFirst();
  return {
    remember: async (participant, did, facts) => {
      const text = JSON.stringify(facts);
      if ((await find(participant, did))?.facts === text) return; // the ordinary case: nothing new, nothing written
      const row = { participant, did, facts: text, valid_until: facts.validUntil };
      await db.transaction().execute((transaction) => put(transaction, row, facts.credentials));
    },
    of: async (participant, did) => {
      const row = await find(participant, did);
      if (row === undefined || Number(row.valid_until) <= clock.now()) return undefined;
      const facts: CredentialFacts = JSON.parse(row.facts);
      return facts;
    },
    forgetCredential: (credentialId) =>
      db.transaction().execute(async (transaction) => {
        const rows = await transaction
          .selectFrom('peer_credential')
          .select(['participant', 'did'])
          .where('credential', '=', credentialId)
          .execute();
        await forget(transaction, rows);
      }),
  };
};
