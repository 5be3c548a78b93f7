import { fromBase64Url, orNothing, toBase64Url } from '../../contracts/bytes.ts';
import type { Crypto } from '../../contracts/crypto.ts';
import { appendLeaf, type Peak, rootOfStack } from '../../contracts/ledger/tree.ts';
import { type Candidate, keysStillCount } from './admission.ts';
import type { KeyBook } from './key-book.pure.ts';
import type { EntryRow, LogHead, NewEntry, PublicRow, StoredPeak, SubjectRow, Wanted } from './ports.ts';
import { appendTo, decide, decideKeyEvent, type Subject, type Verdict, type View } from './rules.ts';

/** Judges the candidates of one batch in the order they will stand in (ledger §12 step 2). Pure but for the key book it reads. */

type Sha256 = Pick<Crypto, 'sha256'>;

export const peaksOf = (stack: readonly StoredPeak[]): Peak[] =>
  stack.map(({ level, hash }) => ({ level, hash: orNothing(fromBase64Url(hash)) }));

export const headOf = (crypto: Sha256, size: number, stack: readonly Peak[]): LogHead => ({
  size,
  root: toBase64Url(rootOfStack(crypto, stack)),
  stack: stack.map(({ level, hash }) => ({ level, hash: toBase64Url(hash) })),
});

/** The rows that these candidates depend on. */
export const wantedOf = (candidates: readonly Candidate[]): Wanted => {
  const subjects = candidates.flatMap(({ subject }): Subject[] => (subject.kind === 'public' ? [] : [subject]));
  return {
    leaves: candidates.map(({ leaf }) => leaf),
    agreements: [...new Set(subjects.map(({ agreementDigest }) => agreementDigest))],
    pids: subjects.flatMap((subject) => (subject.kind === 'agreement' ? [subject.value] : [])),
    statements: subjects.flatMap((subject) => (subject.kind === 'statement' ? [subject.value] : [])),
    joinCodes: candidates.flatMap(({ subject }) =>
      subject.kind === 'public' && subject.joinCode !== null ? [subject.joinCode] : [],
    ),
  };
};

/** What one candidate gets: an index of its own, or why not. */
export type Judged =
  | { readonly kind: 'append'; readonly row: EntryRow }
  | Exclude<Verdict, { readonly kind: 'append' }>;

interface JudgeTools {
  readonly crypto: Sha256;
  readonly keyBook: KeyBook;
  readonly view: View;
  /** The log's clock, ms. */
  readonly now: number;
}

type PublicCandidate = Extract<Candidate['subject'], { readonly kind: 'public' }>;

const judgePublic = ({ crypto, keyBook, view, now }: JudgeTools, subject: PublicCandidate, index: number): Verdict => {
  const { artifact, joinCode } = subject;
  if (artifact.kind === 'key-effective') {
    const isPending = keyBook.pending().some((one) => one.hash === artifact.value.event);
    return isPending ? { kind: 'append' } : { kind: 'refused', code: 'entry-refused', reason: 'nothing waits for it' };
  }
  if (artifact.kind !== 'key-event') return { kind: 'append' };
  const hash = toBase64Url(crypto.sha256(artifact.bytes));
  const expires = joinCode === null ? undefined : view.joinCodes.get(joinCode);
  const history = keyBook.historyOf(artifact.value.did);
  const verdict = decideKeyEvent(history, { value: artifact.value, hash }, { expires, now });
  if (verdict.kind !== 'append') return verdict;
  const accepted = keyBook.accepts(artifact, index);
  return accepted.ok ? verdict : { kind: 'refused', code: 'entry-refused', reason: accepted.reason };
};

const judge = (tools: JudgeTools, candidate: Candidate, index: number): Verdict => {
  const { subject, leaf, keys } = candidate;
  const registered = tools.view.leaves.get(leaf);
  if (registered !== undefined) return { kind: 'duplicate', index: registered };
  if (subject.kind === 'public') return judgePublic(tools, subject, index);
  if (!keysStillCount(tools.keyBook, keys, index))
    return { kind: 'refused', code: 'entry-refused', reason: 'a key that signed has ended' };
  return decide(tools.view, subject, tools.now);
};

const subjectRow = (view: View, { subject, artifact }: Candidate, { index, at }: EntryRow): SubjectRow => {
  if (subject.kind !== 'public') return appendTo(view, subject, index);
  const row: PublicRow = { index, kind: subject.artifact.kind, text: artifact.text, at };
  return { kind: 'public', row, joinCode: subject.joinCode };
};

/** Judges all of a batch behind `head`; the new entries get the next indexes without a gap. */
export const judgeBatch = (
  tools: JudgeTools,
  head: LogHead,
  candidates: readonly Candidate[],
): { readonly judged: readonly Judged[]; readonly entries: readonly NewEntry[]; readonly head: LogHead } => {
  const entries: NewEntry[] = [];
  let stack: readonly Peak[] = peaksOf(head.stack);
  const judged = candidates.map((candidate): Judged => {
    const index = head.size + entries.length;
    const verdict = judge(tools, candidate, index);
    if (verdict.kind !== 'append') return verdict;
    const { leaf, entry, subject, artifact } = candidate;
    const row: EntryRow = { index, leaf, entry, at: tools.now };
    const agreementDigest = subject.kind === 'public' ? null : subject.agreementDigest;
    tools.view.leaves.set(leaf, index);
    entries.push({
      entry: row,
      subject: subjectRow(tools.view, candidate, row),
      artifact: { ...artifact, index, agreementDigest },
    });
    stack = appendLeaf(tools.crypto, stack, orNothing(fromBase64Url(leaf)));
    return { kind: 'append', row };
  });
  return { judged, entries, head: headOf(tools.crypto, head.size + entries.length, stack) };
};
