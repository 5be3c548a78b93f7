import type { ErrorCode } from '../../contracts/errors.ts';
import { type AgreementEvent, type AgreementPayload, checkRoles } from '../../contracts/ledger/agreement.ts';
import type { KeyEvent } from '../../contracts/ledger/public-entries.ts';
import { checkSumsGrow, type StatementSums, type UsageStatement } from '../../contracts/ledger/statement.ts';
import { formatTime, parsePeerTime, parseTime } from '../../contracts/time.ts';
import type { AgreementEventRow, AgreementRow, Known, StatementRow } from './ports.ts';

/**
 * What the log registers (ledger §8, §9; wire §3). Pure: an artifact whose form, keys and signatures were already found
 * good is judged against the rows it depends on, in the order in which it will stand in the log.
 */

export type Subject =
  | {
      readonly kind: 'agreement';
      readonly agreementDigest: string;
      readonly value: AgreementPayload;
      readonly kids: readonly string[];
    }
  | {
      readonly kind: 'agreement-event';
      readonly agreementDigest: string;
      readonly value: AgreementEvent;
      readonly signers: readonly string[];
    }
  | {
      readonly kind: 'statement';
      readonly agreementDigest: string;
      readonly value: UsageStatement;
      /** `b64u H(P)` */
      readonly digest: string;
      readonly sums: StatementSums;
      readonly kids: readonly string[];
    };

export type Verdict =
  | { readonly kind: 'append' }
  /** Registered before, at this index. */
  | { readonly kind: 'duplicate'; readonly index: number }
  /** Another statement of the same number stands at this index, signed by the same parties. */
  | { readonly kind: 'equivocation'; readonly index: number }
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly reason: string };

const append: Verdict = { kind: 'append' };
const refused = (reason: string, code: ErrorCode = 'entry-refused'): Verdict => ({ kind: 'refused', code, reason });

/** The rows that a batch depends on, kept up to date while it is judged. */
export interface View {
  readonly leaves: Map<string, number>;
  readonly agreements: Map<string, AgreementRow>;
  /** Agreement digest by provider and providerPid: unique in every store (wire §3). */
  readonly pids: Map<string, string>;
  readonly events: Map<string, readonly AgreementEventRow[]>;
  readonly newest: Map<string, StatementRow>;
  readonly statements: Map<string, StatementRow>;
  /** Expiry of join codes that were not used yet, by hash. */
  readonly joinCodes: Map<string, number>;
}

const pidKey = (provider: string, providerPid: string): string => `${provider} ${providerPid}`;
const statementKey = (agreementDigest: string, seq: string): string => `${agreementDigest} ${seq}`;

const addStatement = (view: View, row: StatementRow): void => {
  view.statements.set(statementKey(row.agreementDigest, row.seq), row);
  const newest = view.newest.get(row.agreementDigest);
  if (newest === undefined || BigInt(newest.seq) < BigInt(row.seq)) view.newest.set(row.agreementDigest, row);
};

const addAgreement = (view: View, row: AgreementRow): void => {
  view.agreements.set(row.agreementDigest, row);
  view.pids.set(pidKey(row.provider, row.providerPid), row.agreementDigest);
};

const addEvent = (view: View, row: AgreementEventRow): void => {
  view.events.set(row.agreementDigest, [...(view.events.get(row.agreementDigest) ?? []), row]);
};

export const viewOf = (known: Known): View => {
  const view: View = {
    leaves: new Map(known.leaves.map(({ leaf, index }) => [leaf, index])),
    agreements: new Map(),
    pids: new Map(),
    events: new Map(),
    newest: new Map(),
    statements: new Map(),
    joinCodes: new Map(known.joinCodes.map(({ hash, expires }) => [hash, expires])),
  };
  for (const row of known.agreements) addAgreement(view, row);
  for (const row of known.events) addEvent(view, row);
  for (const row of known.statements) addStatement(view, row);
  return view;
};

/** The row of a subject that gets this index, and the view with it. */
export const appendTo = (
  view: View,
  subject: Subject,
  index: number,
):
  | { readonly kind: 'agreement'; readonly row: AgreementRow }
  | { readonly kind: 'agreement-event'; readonly row: AgreementEventRow }
  | { readonly kind: 'statement'; readonly row: StatementRow } => {
  const { agreementDigest } = subject;
  switch (subject.kind) {
    case 'agreement': {
      const { agreement, provider, providerPid, consumer, assurance, price } = subject.value;
      const timestamp = Number(parsePeerTime(agreement.timestamp)); // `decide` refused what is no time
      const row = { agreementDigest, index, agreement: agreement['@id'], provider, providerPid, consumer };
      const whole: AgreementRow = { ...row, assurance, price, timestamp };
      addAgreement(view, whole);
      return { kind: 'agreement', row: whole };
    }
    case 'agreement-event': {
      const row: AgreementEventRow = {
        agreementDigest,
        index,
        event: subject.value.event,
        signers: subject.signers,
      };
      addEvent(view, row);
      return { kind: 'agreement-event', row };
    }
    case 'statement': {
      const { seq, last, to, final } = subject.value;
      const row = { agreementDigest, index, seq, digest: subject.digest, last, to, final, sums: subject.sums };
      addStatement(view, row);
      return { kind: 'statement', row };
    }
  }
};

const isParty = (signer: string, parties: { readonly provider: string; readonly consumer: string }): boolean =>
  signer === parties.provider || signer === parties.consumer;

const decideAgreement = (view: View, subject: Extract<Subject, { kind: 'agreement' }>): Verdict => {
  const { value, agreementDigest, kids } = subject;
  const registered = view.agreements.get(agreementDigest);
  if (registered !== undefined) return { kind: 'duplicate', index: registered.index };
  const roles = checkRolesOf(kids, value);
  if (roles !== undefined) return roles;
  if (parsePeerTime(value.agreement.timestamp) === undefined) return refused('the agreement has no time');
  if (view.pids.has(pidKey(value.provider, value.providerPid)))
    return refused('another agreement stands for this providerPid', 'statement-conflict');
  const isVoid = (view.events.get(agreementDigest) ?? []).some(
    (row) => row.event === 'void' && row.signers.some((signer) => isParty(signer, value)),
  );
  return isVoid ? refused('the agreement was declared void') : append;
};

/**
 * A `void` may come before its agreement, or without it: either side may hold a complete artifact (wire §3, step 4). It
 * counts only against an agreement of its signer; one of a stranger has no effect.
 */
const decideAgreementEvent = (view: View, subject: Extract<Subject, { kind: 'agreement-event' }>): Verdict => {
  const { value, agreementDigest, signers } = subject;
  const same = (view.events.get(agreementDigest) ?? []).find(
    (row) => row.event === value.event && row.signers.join(' ') === signers.join(' '),
  );
  if (same !== undefined) return { kind: 'duplicate', index: same.index };
  if (new Set(signers).size !== signers.length) return refused('one party signed twice');
  const agreement = view.agreements.get(agreementDigest);
  if (agreement === undefined) return value.event === 'void' ? append : refused('the agreement is not registered');
  if (!signers.every((signer) => isParty(signer, agreement))) return refused('a signer is no party of the agreement');
  if (value.event === 'void' && view.newest.has(agreementDigest))
    return refused('an agreement that was used cannot be void');
  return append;
};

const checkRolesOf = (
  kids: readonly string[],
  parties: { readonly provider: string; readonly consumer: string; readonly assurance: AgreementRow['assurance'] },
): Verdict | undefined => {
  const roles = checkRoles(
    kids.map((kid) => ({ kid })),
    parties,
    parties.assurance,
  );
  return roles.ok ? undefined : refused(roles.reason);
};

type Rule = readonly [holds: boolean, otherwise: string];

const firstBroken = (rules: readonly Rule[]): Verdict | undefined => {
  const broken = rules.find(([holds]) => !holds);
  return broken && refused(broken[1]);
};

/** Where the next statement of an agreement must begin, and what it must name (ledger §8 rules). */
const followsFrom = (agreement: AgreementRow, newest: StatementRow | undefined) =>
  newest === undefined
    ? { seq: 1n, first: 1n, from: formatTime(agreement.timestamp), prev: null }
    : { seq: BigInt(newest.seq) + 1n, first: BigInt(newest.last) + 1n, from: newest.to, prev: newest.digest };

const checkOrder = (value: UsageStatement, agreement: AgreementRow, newest: StatementRow | undefined) => {
  const next = followsFrom(agreement, newest);
  return firstBroken([
    [newest?.final !== true, 'the last statement was final'],
    [BigInt(value.seq) === next.seq, `the next statement has seq ${next.seq}`],
    [BigInt(value.first) === next.first, `the next statement begins at record ${next.first}`],
    [value.from === next.from, `the next statement begins at ${next.from}`],
    [value.prev === next.prev, 'prev is not the hash of the last statement'],
  ]);
};

/** How far ahead of our clock a statement may end. */
const maxAheadMs = 60_000;

const decideStatement = (view: View, subject: Extract<Subject, { kind: 'statement' }>, now: number): Verdict => {
  const { value, agreementDigest, digest, sums, kids } = subject;
  const agreement = view.agreements.get(agreementDigest);
  if (agreement === undefined) return refused('the agreement is not registered');
  const newest = view.newest.get(agreementDigest);
  const wrong =
    firstBroken([
      [value.provider === agreement.provider && value.consumer === agreement.consumer, 'the parties are others'],
      [value.agreement === agreement.agreement, 'the agreement has another id'],
      [value.price === agreement.price, 'the price plan is not the one of the agreement'],
    ]) ?? checkRolesOf(kids, agreement);
  if (wrong !== undefined) return wrong;
  const same = view.statements.get(statementKey(agreementDigest, value.seq));
  if (same !== undefined)
    return same.digest === digest
      ? { kind: 'duplicate', index: same.index }
      : { kind: 'equivocation', index: same.index };
  if ((view.events.get(agreementDigest) ?? []).some((row) => row.event === 'void'))
    return refused('the agreement was declared void');
  const order = checkOrder(value, agreement, newest);
  if (order !== undefined) return order;
  if (Number(parseTime(value.to)) > now + maxAheadMs) return refused('it ends in the future');
  if (newest === undefined) return append;
  const grows = checkSumsGrow(newest.sums, sums);
  return grows.ok ? append : refused(grows.reason);
};

/** Judges one subject against the view. `now` is the log's clock, ms. */
export const decide = (view: View, subject: Subject, now: number): Verdict => {
  switch (subject.kind) {
    case 'agreement':
      return decideAgreement(view, subject);
    case 'agreement-event':
      return decideAgreementEvent(view, subject);
    case 'statement':
      return decideStatement(view, subject, now);
  }
};

/**
 * Key events of one DID in one log. A receipt carries all of both parties, with what made them effective, and must stay
 * readable: 2 × (64 + 63) entries. The last ones are kept for the operator's `recover`.
 */
const maxKeyEventsPerDid = 64;
const keptForRecovery = 4;

/** What is known of a DID's key events when the next one is judged. */
export interface KeyHistory {
  /** In order of seq: `b64u H(A)` and index. */
  readonly events: readonly { readonly hash: string; readonly index: number }[];
}

/**
 * Judges a key event (ledger §4), apart from its signature and order of keys, which the key book checks.
 *
 * @param expires of the join code that came with it, ms; undefined when there is none that may be used.
 */
export const decideKeyEvent = (
  history: KeyHistory,
  event: { readonly value: KeyEvent; readonly hash: string },
  join: { readonly expires: number | undefined; readonly now: number },
): Verdict => {
  const { value, hash } = event;
  const same = history.events[Number(value.seq) - 1];
  if (same !== undefined)
    return same.hash === hash
      ? { kind: 'duplicate', index: same.index }
      : refused(`another key event has seq ${value.seq}`, 'statement-conflict');
  const last = history.events.at(-1);
  if (value.seq !== String(history.events.length + 1)) return refused(`the next seq is ${history.events.length + 1}`);
  if (value.prev !== (last?.hash ?? null)) return refused('prev is not the hash of the last key event');
  const most = value.event === 'recover' ? maxKeyEventsPerDid : maxKeyEventsPerDid - keptForRecovery;
  if (history.events.length >= most) return refused(`a DID has at most ${most} key events in one log`);
  if (last !== undefined) return append;
  if (join.expires === undefined) return refused('the join code is not one that may be used', 'forbidden');
  return join.expires < join.now ? refused('the join code has expired', 'forbidden') : append;
};

/** How long a later `introduce` or an orderly `end` waits before it takes effect (ledger §4). */
export const effectDelayMs = 24 * 60 * 60 * 1000;

/** A key event that is not in effect yet. */
export interface PendingEffect {
  readonly did: string;
  readonly hash: string;
  readonly index: number;
  /** When it was sequenced, ms. */
  readonly at: number;
}

/** Whether an event waits for a `key-effective` entry: seq 1, `compromise` and `recover` take effect at once. */
export const waitsForEffect = (value: KeyEvent): boolean =>
  value.seq !== '1' && (value.event === 'introduce' || value.event === 'end');

/** The pending effects that a later event leaves: a compromise stops everything that waits for the same DID. */
export const pendingAfter = (
  pending: readonly PendingEffect[],
  event: { readonly value: KeyEvent; readonly effect: PendingEffect },
): readonly PendingEffect[] => {
  const { value, effect } = event;
  if (waitsForEffect(value)) return [...pending, effect];
  const stops = value.event === 'compromise' || value.event === 'recover';
  return stops ? pending.filter((one) => one.did !== value.did) : pending;
};

export const dueEffects = (pending: readonly PendingEffect[], now: number): readonly PendingEffect[] =>
  pending.filter((one) => one.at + effectDelayMs <= now);
