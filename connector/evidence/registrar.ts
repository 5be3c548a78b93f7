import { fromBase64, orNothing, toBase64Url, toHex, utf8 } from '../../contracts/bytes.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import { isJsonObject, type Json } from '../../contracts/json.ts';
import { buildEntry, entryText } from '../../contracts/ledger/entry.ts';
import { bad, type Checked, good } from '../../contracts/ledger/forms.ts';
import { type GeneralJws, jwsText } from '../../contracts/ledger/jws.ts';
import { verifyPromise } from '../../contracts/ledger/promise.ts';
import { leafHash } from '../../contracts/ledger/tree.ts';
import { type LeafSignature, leafKeyIdOf, signWithLeafKey } from '../../kernel/assertions.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Task, TaskResult } from '../../kernel/sql/outbox.ts';
import type { PeerAnswer, PeerTransport } from '../exchange/ports.ts';
import type { RaiseAlarm } from './alarms.ts';
import type { KnownLog } from './known-log.ts';
import type { InLog, Registration, RegistrationStore, Submission } from './ports.ts';
import { describeArtifact, isLate, isSameSubject, mayFollow, meaningOf, mustComeBefore } from './rules.ts';

/**
 * Brings signed artifacts to the broker's log (ledger §9, wire §6): kept before anything is sent, tried until the log
 * answers for good, and answered for by a promise that was verified. Then the leaf key goes.
 */

export interface Registrar {
  /**
   * Takes an artifact; the same one again changes nothing. Durable when it returns.
   *
   * @throws AppError `entry-refused` for what no log would take: another kind, a leaf key that is not the one it names.
   */
  readonly submit: (submission: Submission) => Promise<void>;
  /** A try now, with what must come before it: somebody waits, or the reason of a refusal was removed. */
  readonly again: (participant: ParticipantId, digest: string) => Promise<void>;
  readonly handlers: { readonly registrations: (task: Task) => Promise<TaskResult> };
}

export interface RegistrarOptions {
  /** Origin of the broker. */
  readonly brokerUrl: string;
  readonly log: () => Promise<KnownLog>;
  readonly store: RegistrationStore;
  readonly transport: PeerTransport;
  readonly clock: Clock;
  readonly alarm: RaiseAlarm;
  /** After a task was added: wake the worker. */
  readonly wake: () => void;
  readonly logger: Logger;
}

const submit = async ({ store, clock, wake }: RegistrarOptions, submission: Submission): Promise<void> => {
  const { participant, kind, artifact, leafKey, sums = null, notBefore } = submission;
  const described = describeArtifact(nodeCrypto, kind, artifact);
  if (!described.ok) throw new AppError('entry-refused', { detail: `the ${kind} ${described.reason}` });
  if (leafKeyIdOf(leafKey) !== described.value.leafKey)
    throw new AppError('entry-refused', { detail: `the ${kind} names another leaf key` });
  const { agreementDigest, subject } = described.value;
  const registration: Registration = {
    participant,
    digest: toHex(nodeCrypto.sha256(utf8(jwsText(artifact)))),
    kind,
    agreementDigest,
    subject,
    artifact,
    sums,
    leafKey,
    createdAt: clock.now(),
    outcome: { state: 'waiting' },
  };
  if (await store.add(registration, notBefore)) wake();
};

/** Whether something that must stand in the log before this one is still on its way there. */
const mustWait = async ({ store }: RegistrarOptions, row: Registration): Promise<boolean> => {
  for (const subject of mustComeBefore(row)) {
    const before = await store.bySubject(row.participant, subject);
    if (before?.outcome.state === 'waiting') return true;
  }
  return false;
};

/** Whether something that must stand in the log before this one is not known here: rows that came from a backup lost it. */
const mayComeFromOther = async ({ store }: RegistrarOptions, row: Registration): Promise<boolean> => {
  for (const subject of mustComeBefore(row))
    if ((await store.bySubject(row.participant, subject)) === undefined) return true;
  return false;
};

const leafHashOf = (row: Registration, { leafSignature, spki }: LeafSignature): string => {
  const entry = buildEntry({
    digest: nodeCrypto.sha256(utf8(jwsText(row.artifact))),
    signature: orNothing(fromBase64(leafSignature)),
    spki: orNothing(fromBase64(spki)),
  });
  return toBase64Url(leafHash(nodeCrypto, utf8(entryText(entry))));
};

/** What a duplicate is answered with: the artifact that stands in the log, which must be the one we brought. */
const registeredBefore = (row: Registration, artifact: unknown): Checked<GeneralJws | null> => {
  if (artifact === null) return good(null);
  const ours = describeArtifact(nodeCrypto, row.kind, row.artifact);
  const theirs = describeArtifact(nodeCrypto, row.kind, artifact);
  if (!ours.ok) return ours;
  if (!theirs.ok) return bad(`the artifact that is said to be registered ${theirs.reason}`);
  return isSameSubject(ours.value, theirs.value)
    ? good(artifact as GeneralJws) // its form was read just now
    : bad('another artifact is said to be registered in its place');
};

const member = (body: Json | undefined, name: string): Json | undefined =>
  isJsonObject(body) ? body[name] : undefined;

/** Reads what the log answered to a submission, and believes only what it signed. */
const readAnswer = (
  { key, origin }: KnownLog,
  row: Registration,
  answer: { readonly isDuplicate: boolean; readonly body: Json | undefined; readonly sentLeaf: string },
): Checked<InLog> => {
  const promise = answer.isDuplicate ? member(answer.body, 'promise') : answer.body;
  const promised = verifyPromise(nodeCrypto, promise, key);
  if (!promised.ok) return bad(`the promise ${promised.reason}`);
  const { index: text, leafHash: leaf } = promised.value;
  const index = Number(text);
  if (!Number.isSafeInteger(index)) return bad('the promise names an index that no log has');
  const found = { origin, index, promise: promise as GeneralJws, leafHash: leaf };
  if (!answer.isDuplicate)
    return leaf === answer.sentLeaf
      ? good({ ...found, artifact: row.artifact })
      : bad('the promise is about another entry than the one that was sent');
  const artifact = registeredBefore(row, member(answer.body, 'artifact'));
  return artifact.ok ? good({ ...found, artifact: artifact.value }) : artifact;
};

const settleAs = async (
  { store, clock, wake }: RegistrarOptions,
  row: Registration,
  outcome: Registration['outcome'],
): Promise<void> => {
  const leafKey = outcome.state === 'registered' ? null : row.leafKey;
  const next = mayFollow(row);
  const follower = next === undefined ? undefined : await store.bySubject(row.participant, next);
  const waits = follower?.outcome.state === 'waiting' ? [{ digest: follower.digest, dueAt: clock.now() }] : [];
  await store.settle({ ...row, leafKey, outcome }, waits);
  if (waits.length > 0) wake();
};

const refuse = async (its: RegistrarOptions, row: Registration, reason: string): Promise<TaskResult> => {
  const { participant, digest, kind, agreementDigest, subject } = row;
  await its.alarm({
    code: 'registration-refused',
    participant,
    detail: `the log refuses the ${kind} ${digest}: ${reason}`,
    evidence: { digest, kind, agreementDigest, subject, reason },
  });
  await settleAs(its, row, { state: 'refused', at: its.clock.now(), reason });
  return 'done';
};

const reasonOf = ({ status, body }: PeerAnswer): string => {
  const said = member(body, 'detail') ?? member(body, 'title');
  return `${status} ${typeof said === 'string' ? said : ''}`.trim();
};

const conclude = async (
  its: RegistrarOptions,
  row: Registration,
  got: { readonly known: KnownLog; readonly answer: PeerAnswer; readonly sentLeaf: string },
): Promise<TaskResult> => {
  const { known, answer, sentLeaf } = got;
  const meaning = meaningOf(answer.status);
  if (meaning === 'later') return 'later';
  if (meaning === 'refused') return (await mayComeFromOther(its, row)) ? 'later' : refuse(its, row, reasonOf(answer)); // the other party brings it
  const read = readAnswer(known, row, { isDuplicate: meaning === 'duplicate', body: answer.body, sentLeaf });
  if (!read.ok) {
    const { participant, digest, kind } = row;
    await its.alarm({
      code: 'promise-not-believed',
      participant,
      detail: `the log's answer to the ${kind} ${digest} is not believed: ${read.reason}`,
      evidence: { digest, answer: answer.body ?? null },
    });
    return 'later';
  }
  await settleAs(its, row, { state: 'registered', at: its.clock.now(), ...read.value });
  its.logger.info({ participant: row.participant, kind: row.kind, index: read.value.index }, 'registered in the log');
  return 'done';
};

const send = async (its: RegistrarOptions, row: Registration, leaf: LeafSignature): Promise<TaskResult> => {
  const known = await its.log();
  const { kind, artifact, sums, participant, digest } = row;
  const answer = await its.transport.post({
    participant,
    peer: known.broker,
    url: `${its.brokerUrl}/log/entries`,
    id: digest,
    body: { kind, artifact, leafSignature: leaf.leafSignature, spki: leaf.spki, ...(sums === null ? {} : { sums }) },
  });
  return conclude(its, row, { known, answer, sentLeaf: leafHashOf(row, leaf) });
};

const tellLate = async ({ alarm }: RegistrarOptions, row: Registration, attempts: number): Promise<void> => {
  if (!isLate(attempts)) return;
  const { participant, digest, kind } = row;
  const detail = `the ${kind} ${digest} is not in the log after ${attempts + 1} tries`;
  await alarm({ code: 'registration-late', participant, detail, evidence: { digest, kind } });
};

const register = async (its: RegistrarOptions, task: Task): Promise<TaskResult> => {
  const row = await its.store.find(task.participant as ParticipantId, task.subject);
  if (row === undefined || row.outcome.state !== 'waiting') return 'done';
  await tellLate(its, row, task.attempts);
  if (await mustWait(its, row)) return 'later';
  const leaf = row.leafKey === null ? undefined : signWithLeafKey(row.leafKey, utf8(jwsText(row.artifact)));
  if (leaf === undefined) return refuse(its, row, 'its leaf key is gone');
  return send(its, row, leaf);
};

/** A chain of statements longer than this catches up by itself. */
const maxChain = 64;

/** The registration and everything that it waits for, the first that must come first. */
const chainOf = async ({ store }: RegistrarOptions, row: Registration): Promise<readonly Registration[]> => {
  const chain = [row];
  for (let at = 0; at < chain.length && chain.length < maxChain; at += 1) {
    for (const subject of mustComeBefore(chain[at] ?? row)) {
      const before = await store.bySubject(row.participant, subject);
      const isNew = before !== undefined && chain.every(({ digest }) => digest !== before.digest);
      if (isNew && before.outcome.state === 'waiting') chain.push(before);
    }
  }
  return chain.toReversed();
};

const again = async (its: RegistrarOptions, participant: ParticipantId, digest: string): Promise<void> => {
  const row = await its.store.find(participant, digest);
  if (row === undefined) throw new AppError('not-found');
  if (row.outcome.state === 'registered') return;
  for (const one of await chainOf(its, row)) await its.store.again(participant, one.digest, its.clock.now());
  its.wake();
};

export const createRegistrar = (options: RegistrarOptions): Registrar => ({
  submit: (submission) => submit(options, submission),
  again: (participant, digest) => again(options, participant, digest),
  handlers: { registrations: (task) => register(options, task) },
});
