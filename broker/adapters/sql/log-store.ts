import type { Kysely, Selectable, Transaction } from 'kysely';
import { statementSums } from '../../../contracts/ledger/statement.ts';
import type {
  AgreementEventRow,
  AgreementRow,
  ArtifactStore,
  Batch,
  EntryRow,
  EquivocationRow,
  JoinCodeStore,
  Known,
  LogHead,
  LogStore,
  NewEntry,
  Origin,
  PublicRow,
  StatementRow,
  StoredPeak,
  Wanted,
} from '../../ledger/ports.ts';
import { holdsLease } from './log-lease.ts';
import type { LogTables } from './log-tables.ts';

/** A row that is asked for or written at once is one statement with at most this many rows. */
const maxRows = 1_000;

const inPieces = <Item>(items: readonly Item[]): readonly (readonly Item[])[] =>
  Array.from({ length: Math.ceil(items.length / maxRows) }, (_, piece) =>
    items.slice(piece * maxRows, (piece + 1) * maxRows),
  );

/** Numbers up to 2^63−1 as text that sorts. */
const padSeq = (seq: string): string => seq.padStart(19, '0');
const readSeq = (text: string): string => text.replace(/^0+/, '');

type Table<Name extends keyof LogTables> = Selectable<LogTables[Name]>;

const headOf = (row: Table<'log_head'>): LogHead => {
  const stack: StoredPeak[] = JSON.parse(row.stack);
  return { size: row.size, root: row.root, stack };
};

const entryOf = (row: Table<'log_entry'>): EntryRow => ({
  index: row.idx,
  leaf: row.leaf,
  entry: row.entry,
  at: row.at,
});

const agreementOf = (row: Table<'log_agreement'>): AgreementRow => ({
  agreementDigest: row.agreement_digest,
  index: row.idx,
  agreement: row.agreement,
  provider: row.provider,
  providerPid: row.provider_pid,
  consumer: row.consumer,
  assurance: row.assurance === 'plain-dsp' ? 'plain-dsp' : 'cosigned',
  price: row.price,
  timestamp: row.agreed_at,
});

const eventOf = (row: Table<'log_agreement_event'>): AgreementEventRow => ({
  agreementDigest: row.agreement_digest,
  index: row.idx,
  event: row.event === 'void' ? 'void' : 'end',
  signers: row.signers.split(' '),
});

const statementOf = (row: Table<'log_statement'>): StatementRow => ({
  agreementDigest: row.agreement_digest,
  index: row.idx,
  seq: readSeq(row.seq),
  digest: row.digest,
  last: row.last,
  to: row.until,
  final: row.is_final === 1,
  sums: statementSums.parse(JSON.parse(row.sums)),
});

const publicKinds = ['genesis', 'policy', 'key-event', 'key-effective'] as const;

const publicOf = (row: Table<'log_public'>): PublicRow => ({
  index: row.idx,
  kind: publicKinds.find((kind) => kind === row.kind) ?? 'genesis',
  text: row.body,
  at: row.at,
});

const insertEntries = async (db: Transaction<LogTables>, origin: Origin, entries: readonly NewEntry[]) => {
  const rows = entries.map(({ entry }) => ({
    origin,
    idx: entry.index,
    leaf: entry.leaf,
    entry: entry.entry,
    at: entry.at,
  }));
  await db.insertInto('log_entry').values(rows).execute();
  const artifacts = entries.map(({ artifact }) => ({
    origin,
    idx: artifact.index,
    digest: artifact.digest,
    agreement_digest: artifact.agreementDigest,
    body: artifact.text,
  }));
  await db.insertInto('log_artifact').values(artifacts).execute();
};

const insertAgreements = async (db: Transaction<LogTables>, origin: Origin, entries: readonly NewEntry[]) => {
  const rows = entries.flatMap(({ subject }) => (subject.kind === 'agreement' ? [subject.row] : []));
  if (rows.length === 0) return;
  const values = rows.map((row) => ({
    origin,
    agreement_digest: row.agreementDigest,
    idx: row.index,
    agreement: row.agreement,
    provider: row.provider,
    provider_pid: row.providerPid,
    consumer: row.consumer,
    assurance: row.assurance,
    price: row.price,
    agreed_at: row.timestamp,
  }));
  await db.insertInto('log_agreement').values(values).execute();
};

const insertStatements = async (db: Transaction<LogTables>, origin: Origin, entries: readonly NewEntry[]) => {
  const rows = entries.flatMap(({ subject }) => (subject.kind === 'statement' ? [subject.row] : []));
  if (rows.length === 0) return;
  const values = rows.map((row) => ({
    origin,
    agreement_digest: row.agreementDigest,
    seq: padSeq(row.seq),
    idx: row.index,
    digest: row.digest,
    last: row.last,
    until: row.to,
    is_final: row.final ? 1 : 0,
    sums: JSON.stringify(row.sums),
  }));
  await db.insertInto('log_statement').values(values).execute();
};

/** The rare kinds: events of agreements, and public entries, which may use up a join code. */
const insertOthers = async (db: Transaction<LogTables>, origin: Origin, entries: readonly NewEntry[]) => {
  for (const { subject, artifact } of entries) {
    if (subject.kind === 'agreement-event') {
      const { agreementDigest, index, event, signers } = subject.row;
      const row = { origin, agreement_digest: agreementDigest, idx: index, event, signers: signers.join(' ') };
      await db.insertInto('log_agreement_event').values(row).execute();
    }
    if (subject.kind !== 'public') continue;
    const { index, kind, text, at } = subject.row;
    const row = { origin, idx: index, kind, digest: artifact.digest, body: text, at };
    await db.insertInto('log_public').values(row).execute();
    if (subject.joinCode === null) continue;
    await db
      .updateTable('log_join_code')
      .set({ used_by_idx: index })
      .where('origin', '=', origin)
      .where('hash', '=', subject.joinCode)
      .execute();
  }
};

/** Moves the head from exactly the size the batch was made for; the first batch makes the row. */
const moveHead = async (db: Transaction<LogTables>, origin: Origin, { from, head }: Batch): Promise<boolean> => {
  const values = { size: head.size, root: head.root, stack: JSON.stringify(head.stack) };
  if (from === 0) {
    const made = await db
      .insertInto('log_head')
      .values({ origin, ...values })
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    return made.numInsertedOrUpdatedRows === 1n;
  }
  const moved = await db
    .updateTable('log_head')
    .set(values)
    .where('origin', '=', origin)
    .where('size', '=', from)
    .executeTakeFirst();
  return moved.numUpdatedRows === 1n;
};

const loadStatements = async (db: Kysely<LogTables>, origin: Origin, wanted: Wanted): Promise<StatementRow[]> => {
  const found: StatementRow[] = [];
  for (const piece of inPieces(wanted.agreements)) {
    const newest = await db
      .selectFrom('log_statement as one')
      .selectAll()
      .where('one.origin', '=', origin)
      .where('one.agreement_digest', 'in', piece)
      .where('one.seq', '=', (eb) =>
        eb
          .selectFrom('log_statement as other')
          .select((of) => of.fn.max('other.seq').as('seq'))
          .whereRef('other.origin', '=', 'one.origin')
          .whereRef('other.agreement_digest', '=', 'one.agreement_digest'),
      )
      .execute();
    found.push(...newest.map(statementOf));
  }
  const newestSeq = new Map(found.map((row) => [row.agreementDigest, BigInt(row.seq)]));
  for (const { agreementDigest, seq } of wanted.statements) {
    if (BigInt(seq) >= (newestSeq.get(agreementDigest) ?? 0n)) continue; // the newest is there, later ones are not
    const older = await db
      .selectFrom('log_statement')
      .selectAll()
      .where('origin', '=', origin)
      .where('agreement_digest', '=', agreementDigest)
      .where('seq', '=', padSeq(seq))
      .execute();
    found.push(...older.map(statementOf));
  }
  return found;
};

const loadAgreements = async (db: Kysely<LogTables>, origin: Origin, wanted: Wanted): Promise<AgreementRow[]> => {
  const found: AgreementRow[] = [];
  for (const piece of inPieces(wanted.agreements)) {
    const rows = await db
      .selectFrom('log_agreement')
      .selectAll()
      .where('origin', '=', origin)
      .where('agreement_digest', 'in', piece)
      .execute();
    found.push(...rows.map(agreementOf));
  }
  for (const { provider, providerPid } of wanted.pids) {
    const rows = await db
      .selectFrom('log_agreement')
      .selectAll()
      .where('origin', '=', origin)
      .where('provider', '=', provider)
      .where('provider_pid', '=', providerPid)
      .execute();
    found.push(...rows.map(agreementOf));
  }
  return found;
};

const loadEvents = async (db: Kysely<LogTables>, origin: Origin, wanted: Wanted): Promise<AgreementEventRow[]> => {
  const found: AgreementEventRow[] = [];
  for (const piece of inPieces(wanted.agreements)) {
    const rows = await db
      .selectFrom('log_agreement_event')
      .selectAll()
      .where('origin', '=', origin)
      .where('agreement_digest', 'in', piece)
      .orderBy('idx')
      .execute();
    found.push(...rows.map(eventOf));
  }
  return found;
};

const loadLeaves = async (db: Kysely<LogTables>, origin: Origin, wanted: Wanted): Promise<Known['leaves']> => {
  const found: { leaf: string; index: number }[] = [];
  for (const piece of inPieces(wanted.leaves)) {
    const rows = await db
      .selectFrom('log_entry')
      .select(['leaf', 'idx'])
      .where('origin', '=', origin)
      .where('leaf', 'in', piece)
      .execute();
    found.push(...rows.map(({ leaf, idx }) => ({ leaf, index: idx })));
  }
  return found;
};

/** The rows of the log in SQL. Durability is that of the connection: the broker opens it with full sync. */
export const sqlLogStore = (db: Kysely<LogTables>): LogStore => ({
  head: async (origin) => {
    const row = await db.selectFrom('log_head').selectAll().where('origin', '=', origin).executeTakeFirst();
    return row && headOf(row);
  },

  load: async (origin, wanted) => ({
    leaves: await loadLeaves(db, origin, wanted),
    agreements: await loadAgreements(db, origin, wanted),
    events: await loadEvents(db, origin, wanted),
    statements: await loadStatements(db, origin, wanted),
    joinCodes:
      wanted.joinCodes.length === 0
        ? []
        : await db
            .selectFrom('log_join_code')
            .select(['hash', 'expires'])
            .where('origin', '=', origin)
            .where('hash', 'in', wanted.joinCodes)
            .where('used_by_idx', 'is', null)
            .execute(),
  }),

  commit: (origin, batch) =>
    db.transaction().execute(async (transaction) => {
      if (!(await holdsLease(transaction, batch.fence))) return 'fenced';
      if (!(await moveHead(transaction, origin, batch))) return 'conflict';
      for (const piece of inPieces(batch.entries)) {
        await insertEntries(transaction, origin, piece);
        await insertAgreements(transaction, origin, piece);
        await insertStatements(transaction, origin, piece);
        await insertOthers(transaction, origin, piece);
      }
      return 'committed';
    }),

  entries: async (origin, begin, end) => {
    const rows = await db
      .selectFrom('log_entry')
      .selectAll()
      .where('origin', '=', origin)
      .where('idx', '>=', begin)
      .where('idx', '<', end)
      .orderBy('idx')
      .execute();
    return rows.map(entryOf);
  },

  publicRows: async (origin, from) => {
    const rows = await db
      .selectFrom('log_public')
      .selectAll()
      .where('origin', '=', origin)
      .where('idx', '>=', from)
      .orderBy('idx')
      .execute();
    return rows.map(publicOf);
  },

  published: async (origin) => {
    const row = await db.selectFrom('log_checkpoint').selectAll().where('origin', '=', origin).executeTakeFirst();
    return row && { size: row.size, root: row.root, note: row.note };
  },

  publish: (origin, { size, root, note }, fence) =>
    db.transaction().execute(async (transaction) => {
      if (!(await holdsLease(transaction, fence))) return 'fenced';
      await transaction
        .insertInto('log_checkpoint')
        .values({ origin, size, root, note })
        .onConflict((conflict) =>
          conflict.column('origin').doUpdateSet({ size, root, note }).where('log_checkpoint.size', '<=', size),
        )
        .execute();
      return 'published';
    }),
});

/** Artifacts and proofs of double signing, in the same database. */
export const sqlArtifactStore = (db: Kysely<LogTables>): ArtifactStore => ({
  byIndex: async (origin, index) => {
    const row = await db
      .selectFrom('log_artifact')
      .selectAll()
      .where('origin', '=', origin)
      .where('idx', '=', index)
      .executeTakeFirst();
    return row && { digest: row.digest, index: row.idx, agreementDigest: row.agreement_digest, text: row.body };
  },

  publicText: async (origin, digest) => {
    const row = await db
      .selectFrom('log_public')
      .select('body')
      .where('origin', '=', origin)
      .where('digest', '=', digest)
      .executeTakeFirst();
    return row?.body;
  },

  // Found by the rows of the agreement: an index on every artifact would cost each statement, and erasure is rare.
  erase: async (origin, agreementDigest) => {
    let erased = 0;
    for (const table of ['log_agreement', 'log_agreement_event', 'log_statement'] as const) {
      const gone = await db
        .deleteFrom('log_artifact')
        .where('origin', '=', origin)
        .where('idx', 'in', (eb) =>
          eb
            .selectFrom(table)
            .select('idx')
            .where('origin', '=', origin)
            .where('agreement_digest', '=', agreementDigest),
        )
        .executeTakeFirst();
      erased += Number(gone.numDeletedRows);
    }
    return erased;
  },

  keepEquivocation: async (origin, { agreementDigest, seq, against, proof }) => {
    await db
      .insertInto('log_equivocation')
      .values({ origin, agreement_digest: agreementDigest, seq: padSeq(seq), against, proof: JSON.stringify(proof) })
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  },

  equivocations: async (origin, agreementDigest) => {
    const rows = await db
      .selectFrom('log_equivocation')
      .selectAll()
      .where('origin', '=', origin)
      .where('agreement_digest', '=', agreementDigest)
      .orderBy('seq')
      .orderBy('against')
      .execute();
    return rows.map(
      (row): EquivocationRow => ({
        agreementDigest: row.agreement_digest,
        seq: readSeq(row.seq),
        against: row.against,
        proof: JSON.parse(row.proof),
      }),
    );
  },
});

export const sqlJoinCodeStore = (db: Kysely<LogTables>): JoinCodeStore => ({
  add: async (origin, hash, expires) => {
    await db.insertInto('log_join_code').values({ origin, hash, expires, used_by_idx: null }).execute();
  },
});

/** The logs that were founded in this database, in order of name. */
export const sqlLogOrigins = async (db: Kysely<LogTables>): Promise<readonly string[]> =>
  (await db.selectFrom('log_head').select('origin').orderBy('origin').execute()).map(({ origin }) => origin);

/** The name under which a host founds its log: the first that was proposed, whoever proposes another. */
export const sqlFoundedAs = async (db: Kysely<LogTables>, host: string, proposed: string): Promise<string> => {
  await db
    .insertInto('log_origin')
    .values({ host, origin: proposed })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const row = await db.selectFrom('log_origin').selectAll().where('host', '=', host).executeTakeFirstOrThrow();
  return row.origin;
};
