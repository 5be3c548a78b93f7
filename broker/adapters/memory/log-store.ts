import type {
  AgreementEventRow,
  AgreementRow,
  ArtifactRow,
  ArtifactStore,
  EntryRow,
  EquivocationRow,
  JoinCodeStore,
  LogHead,
  LogStore,
  NewEntry,
  Origin,
  PublicRow,
  Published,
  StatementRow,
} from '../../ledger/ports.ts';

interface Rows {
  head: LogHead | undefined;
  readonly entries: EntryRow[];
  readonly leaves: Map<string, number>;
  readonly artifacts: Map<number, ArtifactRow>;
  readonly publics: PublicRow[];
  readonly agreements: Map<string, AgreementRow>;
  readonly events: AgreementEventRow[];
  readonly statements: Map<string, StatementRow[]>;
  readonly joinCodes: Map<string, { readonly expires: number; isUsed: boolean }>;
  readonly equivocations: EquivocationRow[];
  published: Published | undefined;
}

const emptyRows = (): Rows => ({
  head: undefined,
  entries: [],
  leaves: new Map(),
  artifacts: new Map(),
  publics: [],
  agreements: new Map(),
  events: [],
  statements: new Map(),
  joinCodes: new Map(),
  equivocations: [],
  published: undefined,
});

const insert = (rows: Rows, { entry, subject, artifact }: NewEntry): void => {
  rows.entries.push(entry);
  rows.leaves.set(entry.leaf, entry.index);
  rows.artifacts.set(artifact.index, artifact);
  switch (subject.kind) {
    case 'agreement':
      rows.agreements.set(subject.row.agreementDigest, subject.row);
      break;
    case 'agreement-event':
      rows.events.push(subject.row);
      break;
    case 'statement': {
      const { agreementDigest } = subject.row;
      rows.statements.set(agreementDigest, [...(rows.statements.get(agreementDigest) ?? []), subject.row]);
      break;
    }
    case 'public': {
      rows.publics.push(subject.row);
      const code = subject.joinCode === null ? undefined : rows.joinCodes.get(subject.joinCode);
      if (code !== undefined) code.isUsed = true;
    }
  }
};

/** What the unique constraints of a database refuse. */
const breaksUniqueness = (rows: Rows, { entry, subject }: NewEntry): boolean => {
  if (rows.leaves.has(entry.leaf)) return true;
  if (subject.kind === 'statement') {
    const { agreementDigest, seq } = subject.row;
    return (rows.statements.get(agreementDigest) ?? []).some((row) => row.seq === seq);
  }
  if (subject.kind !== 'agreement') return false;
  const { agreementDigest, provider, providerPid } = subject.row;
  return [...rows.agreements.values()].some(
    (row) => row.agreementDigest === agreementDigest || (row.provider === provider && row.providerPid === providerPid),
  );
};

/** The rows of the log in memory: for tests, and for a log that nobody needs tomorrow. One process has them, and no lease. */
export const memoryLogStore = (): LogStore & ArtifactStore & JoinCodeStore => {
  const logs = new Map<Origin, Rows>();
  const of = (origin: Origin): Rows => {
    const rows = logs.get(origin) ?? emptyRows();
    logs.set(origin, rows);
    return rows;
  };
  return {
    head: async (origin) => of(origin).head,
    load: async (origin, wanted) => {
      const rows = of(origin);
      const pids = new Set(wanted.pids.map(({ provider, providerPid }) => `${provider} ${providerPid}`));
      const asked = new Set(wanted.statements.map(({ agreementDigest, seq }) => `${agreementDigest} ${seq}`));
      return {
        leaves: wanted.leaves.flatMap((leaf) => {
          const index = rows.leaves.get(leaf);
          return index === undefined ? [] : [{ leaf, index }];
        }),
        agreements: [...rows.agreements.values()].filter(
          (row) => wanted.agreements.includes(row.agreementDigest) || pids.has(`${row.provider} ${row.providerPid}`),
        ),
        events: rows.events.filter((row) => wanted.agreements.includes(row.agreementDigest)),
        statements: wanted.agreements.flatMap((digest) =>
          (rows.statements.get(digest) ?? []).filter(
            (row, place, all) => place === all.length - 1 || asked.has(`${digest} ${row.seq}`),
          ),
        ),
        joinCodes: wanted.joinCodes.flatMap((hash) => {
          const code = rows.joinCodes.get(hash);
          return code === undefined || code.isUsed ? [] : [{ hash, expires: code.expires }];
        }),
      };
    },
    commit: async (origin, { from, head, entries }) => {
      const rows = of(origin);
      if ((rows.head?.size ?? 0) !== from) return 'conflict';
      if (entries.some((entry) => breaksUniqueness(rows, entry))) throw new Error('a unique value stands twice');
      for (const entry of entries) insert(rows, entry);
      rows.head = head;
      return 'committed';
    },
    entries: async (origin, begin, end) => of(origin).entries.slice(begin, end),
    publicRows: async (origin, from) => of(origin).publics.filter(({ index }) => index >= from),
    published: async (origin) => of(origin).published,
    publish: async (origin, checkpoint) => {
      const rows = of(origin);
      if (checkpoint.size >= (rows.published?.size ?? 0)) rows.published = checkpoint;
      return 'published';
    },
    byIndex: async (origin, index) => of(origin).artifacts.get(index),
    publicText: async (origin, digest) =>
      [...of(origin).artifacts.values()].find((row) => row.digest === digest && row.agreementDigest === null)?.text,
    erase: async (origin, agreementDigest) => {
      const { artifacts } = of(origin);
      const gone = [...artifacts.values()].filter((row) => row.agreementDigest === agreementDigest);
      for (const row of gone) artifacts.delete(row.index);
      return gone.length;
    },
    keepEquivocation: async (origin, row) => {
      const { equivocations } = of(origin);
      const isKept = equivocations.some(
        (one) => one.agreementDigest === row.agreementDigest && one.seq === row.seq && one.against === row.against,
      );
      if (!isKept) equivocations.push(row);
    },
    equivocations: async (origin, agreementDigest) =>
      of(origin).equivocations.filter((row) => row.agreementDigest === agreementDigest),
    add: async (origin, hash, expires) => {
      of(origin).joinCodes.set(hash, { expires, isUsed: false });
    },
  };
};
