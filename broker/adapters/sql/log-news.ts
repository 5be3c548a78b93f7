import type { Kysely } from 'kysely';
import { fromBase64Url, orNothing, toHex } from '../../../contracts/bytes.ts';
import type { Did } from '../../../contracts/ids.ts';
import { readPublicArtifact } from '../../../contracts/ledger/public-entries.ts';
import type { LogNews, NewsItem } from '../../events/ports.ts';
import type { LogTables } from './log-tables.ts';

/** What the rows of the log say that members must hear of: keys that changed, and agreements that ended. */

type Db = Kysely<LogTables>;

interface Range {
  readonly origin: string;
  readonly from: number;
  readonly limit: number;
}

interface PublicBody {
  readonly idx: number;
  readonly body: string;
}

/** Whose keys a public entry changes: its own word, or the key event that takes effect with it. */
const didOf = async (db: Db, origin: string, { body }: PublicBody): Promise<Did | undefined> => {
  const read = readPublicArtifact(JSON.parse(body));
  if (!read.ok) return undefined;
  if (read.value.kind === 'key-event') return read.value.value.did;
  if (read.value.kind !== 'key-effective') return undefined;
  const digest = toHex(orNothing(fromBase64Url(read.value.value.event)));
  const event = await db
    .selectFrom('log_public')
    .select('body')
    .where('origin', '=', origin)
    .where('digest', '=', digest)
    .executeTakeFirst();
  const known = event && readPublicArtifact(JSON.parse(event.body));
  return known?.ok && known.value.kind === 'key-event' ? known.value.value.did : undefined;
};

const keyRows = (db: Db, { origin, from, limit }: Range): Promise<readonly PublicBody[]> =>
  db
    .selectFrom('log_public')
    .select(['idx', 'body'])
    .where('origin', '=', origin)
    .where('idx', '>=', from)
    .where('kind', 'in', ['key-event', 'key-effective'])
    .orderBy('idx')
    .limit(limit)
    .execute();

const keysOf = async (db: Db, origin: string, rows: readonly PublicBody[]): Promise<NewsItem[]> => {
  const items: NewsItem[] = [];
  for (const row of rows) {
    const did = await didOf(db, origin, row);
    if (did !== undefined) items.push({ index: row.idx, type: 'keys', subject: did, audience: null });
  }
  return items;
};

interface End {
  readonly idx: number;
  readonly agreement_digest: string;
  readonly provider: string;
  readonly consumer: string;
}

/**
 * Events of agreements that stood in the log before them: of those the log asked that a party signed. One that comes
 * without its agreement may be a stranger's, and says nothing to anybody (wire §3, step 4).
 */
const endRows = (db: Db, { origin, from, limit }: Range): Promise<readonly End[]> =>
  db
    .selectFrom('log_agreement_event as event')
    .innerJoin('log_agreement as agreement', (join) =>
      join
        .onRef('agreement.origin', '=', 'event.origin')
        .onRef('agreement.agreement_digest', '=', 'event.agreement_digest')
        .onRef('agreement.idx', '<', 'event.idx'),
    )
    .select(['event.idx', 'event.agreement_digest', 'agreement.provider', 'agreement.consumer'])
    .where('event.origin', '=', origin)
    .where('event.idx', '>=', from)
    .orderBy('event.idx')
    .limit(limit)
    .execute();

const endOf = ({ idx: index, agreement_digest: subject, provider, consumer }: End): NewsItem => ({
  index,
  type: 'agreement-ended',
  subject,
  audience: [provider as Did, consumer as Did],
});

/** Where a list that is as long as it may be ends: behind its last row nothing was looked at. */
const edgeOf = (rows: readonly { readonly idx: number }[], limit: number): number =>
  rows.length < limit ? Number.MAX_SAFE_INTEGER : (rows.at(-1)?.idx ?? 0) + 1;

const look = async (db: Db, range: Range): ReturnType<LogNews['behind']> => {
  const { origin, from, limit } = range;
  const head = await db.selectFrom('log_head').select('size').where('origin', '=', origin).executeTakeFirst();
  const keys = await keyRows(db, range);
  const ends = await endRows(db, range);
  const until = Math.min(head?.size ?? 0, edgeOf(keys, limit), edgeOf(ends, limit));
  const items = [...(await keysOf(db, origin, keys)), ...ends.map(endOf)];
  return {
    items: items.filter(({ index }) => index < until).sort((a, b) => a.index - b.index),
    until: Math.max(until, from),
  };
};

/** News of one log, each answer of one moment. */
export const sqlLogNews = (db: Db, origin: string): LogNews => ({
  log: origin,
  behind: (from, limit) => db.transaction().execute((transaction) => look(transaction, { origin, from, limit })),
});
