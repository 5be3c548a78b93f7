import { fromBase64, fromBase64Url, orNothing, sameBytes, utf8 } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { canonicalize, isCanonical, type Json } from '../json.ts';
import { parsePeerTime, parseTime } from '../time.ts';
import {
  type AgreementPayload,
  agreementDigestOf,
  checkRoles,
  readAgreementArtifact,
  type SignedBy,
} from './agreement.ts';
import { checkEntry, type LogEntry, leafKeyId } from './entry.ts';
import { bad, type Checked, check, good } from './forms.ts';
import { jwsText, verifySignature } from './jws.ts';
import { type KeyOrder, type PlacedArtifact, readKeyOrder } from './key-order.ts';
import { type Checkpoint, type Policy, readNote, readPolicy, verifyNote } from './note.ts';
import { createPathMemo, type PathMemo } from './path-memo.ts';
import { readPublicArtifact } from './public-entries.ts';
import {
  type EvmAnchor,
  type InclusionProof,
  type PackedReceipts,
  packedReceipts,
  type Receipt,
  receipt,
  type TrustedLog,
  type TrustFile,
} from './receipt.ts';
import { contextDigest, recordLeaf, type UsageContext, type UsageRecord } from './record.ts';
import { readStatementArtifact, sumsDigest, type UsageStatement } from './statement.ts';
import { isConsistent, isIncluded, leafHash } from './tree.ts';

/** The offline verification of receipts, step by step (ledger §11). Pure: files in, a verdict out. */

export type StepState = 'ok' | 'failed' | 'untrusted' | 'withheld' | 'none';

/** One of the six steps, with what was found. `none`: there is nothing to check, such as an anchor. */
export interface Step {
  readonly step: 0 | 1 | 2 | 3 | 4 | 5 | 6;
  readonly state: StepState;
  readonly detail: string;
}

/** What a receipt cannot show, always told (ledger §11). */
export const notCheckedCodes = [
  'omitted-key-events',
  'other-statements',
  'later-statements',
  'unrecorded-accesses',
  'consumer-counted',
  'leaf-key-holder',
  'split-view',
  'anchor-block',
  'possession',
] as const;
export type NotChecked = (typeof notCheckedCodes)[number];

/** 0 valid, 1 failed, 2 cannot evaluate, 3 untrusted, 4 valid with withheld parts (ledger §10). */
export type ExitCode = 0 | 1 | 2 | 3 | 4;

export interface ReceiptFacts {
  readonly provider: string;
  readonly consumer: string;
  readonly agreement: string;
  readonly asset: string;
  readonly assurance: string;
  readonly statement: string;
  readonly records: number;
  readonly checkpoint: { readonly origin: string; readonly size: number };
  readonly anchored: readonly string[];
}

export interface Verdict {
  readonly code: ExitCode;
  readonly steps: readonly Step[];
  readonly notChecked: readonly NotChecked[];
  readonly facts: ReceiptFacts | undefined;
}

/** What the anchor check says: `consistent` fits, but nobody the reader trusts vouches for its block. */
export interface AnchorVerdict {
  readonly state: 'authenticated' | 'consistent' | 'failed';
  readonly reason: string;
}

export interface VerifyTools {
  readonly crypto: Crypto;
  /** Checks one anchor against the checkpoint it is said to anchor (anchoring §6). */
  readonly verifyAnchor: (anchor: EvmAnchor, checkpoint: Checkpoint, chains: TrustFile['chains']) => AnchorVerdict;
}

type AnyReceipt = Receipt | PackedReceipts;

interface Item {
  readonly record: UsageRecord;
  readonly context: UsageContext | null;
  readonly path: readonly string[];
}

const itemsOf = (file: AnyReceipt): readonly Item[] =>
  file.type === 'receipts' ? file.records : [{ record: file.record, context: file.context, path: file.recordPath }];

const typeOf = (value: Json | undefined): unknown =>
  typeof value === 'object' && value !== null && 'type' in value && 'v' in value && value.v === 1
    ? value.type
    : undefined;

const parseLoosely = (text: string): Json | undefined => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const verdict = (code: ExitCode, steps: readonly Step[], rest: Partial<Verdict> = {}): Verdict => ({
  code,
  steps,
  notChecked: rest.notChecked ?? notCheckedCodes.slice(0, 6),
  facts: rest.facts,
});

const readFile = (text: string): { readonly file: AnyReceipt } | { readonly refused: Verdict } => {
  const refuse = (code: 1 | 2, detail: string) => ({ refused: verdict(code, [{ step: 0, state: 'failed', detail }]) });
  const value = parseLoosely(text);
  const type = typeOf(value);
  if (value === undefined || (type !== 'receipt' && type !== 'receipts'))
    return refuse(2, 'this is no receipt that this program knows');
  if (!isCanonical(value, text)) return refuse(1, 'the file is not in canonical form: something was changed or added');
  const parsed = type === 'receipt' ? check(receipt, value) : check(packedReceipts, value);
  return parsed.ok ? { file: parsed.value } : refuse(1, parsed.reason);
};

/** What the steps work on, read once. */
interface Case {
  readonly tools: VerifyTools;
  readonly trust: TrustFile;
  readonly file: AnyReceipt;
  readonly statement: SignedBy<UsageStatement>;
  readonly agreement: SignedBy<AgreementPayload>;
  readonly keys: readonly PlacedArtifact[];
  readonly checkpoint: Checkpoint;
  readonly log: { readonly trusted: TrustedLog; readonly policy: Policy; readonly registryKey: Uint8Array } | undefined;
}

const readKeys = (file: AnyReceipt): Checked<PlacedArtifact[]> => {
  const placed: PlacedArtifact[] = [];
  for (const key of file.keys) {
    const artifact = readPublicArtifact(key.artifact);
    if (!artifact.ok) return bad(`a key entry ${artifact.reason}`);
    placed.push({ index: Number(key.proof.index), artifact: artifact.value });
  }
  return good(placed);
};

const trustedLog = (tools: VerifyTools, trust: TrustFile, origin: string): Checked<Case['log']> => {
  const trusted = trust.logs.find((log) => log.vkey.startsWith(`${origin}+`));
  if (trusted === undefined) return good(undefined);
  const policy = readPolicy(tools.crypto, trusted.policy);
  const registryKey = fromBase64(trusted.registryKey);
  if (!policy.ok || registryKey === undefined) return bad('the trust file has no usable policy for this log');
  if (policy.value.log.text !== trusted.vkey) return bad('the trust file names two keys for one log');
  return good({ trusted, policy: policy.value, registryKey });
};

const readCase = (tools: VerifyTools, trust: TrustFile, file: AnyReceipt): Checked<Case> => {
  const statement = readStatementArtifact(file.statement.artifact);
  if (!statement.ok) return bad(`the statement: ${statement.reason}`);
  const agreement = readAgreementArtifact(file.agreement.artifact);
  if (!agreement.ok) return bad(`the agreement: ${agreement.reason}`);
  const keys = readKeys(file);
  if (!keys.ok) return keys;
  const note = readNote(file.checkpoint);
  if (!note.ok) return bad(`the checkpoint: ${note.reason}`);
  const { origin } = note.value.checkpoint;
  if (note.value.lines.every((line) => line.name !== origin))
    return bad(`the checkpoint: ${origin} itself has not signed`);
  const log = trustedLog(tools, trust, origin);
  if (!log.ok) return log;
  return good({
    tools,
    trust,
    file,
    keys: keys.value,
    log: log.value,
    statement: statement.value,
    agreement: agreement.value,
    checkpoint: note.value.checkpoint,
  });
};

/** More records than any interval holds; beyond it, indexes would no longer be exact. */
const maxInterval = 2n ** 40n;

const decodePath = (path: readonly string[]): Uint8Array[] => path.map((hash) => orNothing(fromBase64Url(hash)));

/** What is wrong with one record, or undefined. `place` is its index in the interval. */
const recordFault = (
  crypto: Crypto,
  { record, context, path }: Item,
  memo: PathMemo,
  place: bigint,
): string | undefined => {
  const index = place >= 0n && place < maxInterval ? Number(place) : -1;
  if (!memo.includes(recordLeaf(crypto, record), index, path)) {
    return 'does not stand in the interval of the statement, or its path does not lead to the root';
  }
  return context === null || contextDigest(crypto, context) === record.context
    ? undefined
    : 'its context is not the one that was recorded';
};

/** Step 1: every record stands in the statement's interval, its path leads to the root, its context fits. */
const checkRecords = ({ tools: { crypto }, file, statement }: Case): Step => {
  const first = BigInt(statement.value.first);
  const count = BigInt(statement.value.last) - first + 1n;
  if (count > maxInterval) return { step: 1, state: 'failed', detail: `no interval has ${count} records` };
  const memo = createPathMemo(crypto, Number(count), orNothing(fromBase64Url(statement.value.root)));
  const items = itemsOf(file);
  const seen = new Set<string>();
  for (const item of items) {
    const access = `${item.record.request}/${item.record.part}`;
    const fault = seen.has(access)
      ? 'its request stands twice, and cannot be counted more than once'
      : recordFault(crypto, item, memo, BigInt(item.record.n) - first);
    if (fault !== undefined) return { step: 1, state: 'failed', detail: `record ${item.record.n}: ${fault}` };
    seen.add(access);
  }
  const withheld = items.filter((item) => item.context === null).length;
  const found = `${seen.size} ${seen.size === 1 ? 'record' : 'records'} in the statement`;
  return withheld === 0
    ? { step: 1, state: 'ok', detail: `${found}, with application and purpose` }
    : { step: 1, state: 'withheld', detail: `${found}; application and purpose of ${withheld} are withheld` };
};

const keyOrder = ({ tools, keys, log, checkpoint }: Case): Checked<KeyOrder> =>
  readKeyOrder(tools.crypto, keys, { origin: checkpoint.origin, registryKey: orNothing(log?.registryKey) });

const checkSigners = (
  crypto: Crypto,
  signed: SignedBy<unknown>,
  at: { readonly index: number; readonly order: KeyOrder; readonly what: string },
): string | undefined => {
  for (const signature of signed.signatures) {
    const spki = at.order.keyAt(signature.kid, at.index, 'assertionMethod');
    if (spki === undefined) return `${at.what}: no key ${signature.kid} counts for entry ${at.index}`;
    if (!verifySignature(crypto, signature, spki)) return `${at.what}: the signature of ${signature.kid} does not hold`;
  }
  return undefined;
};

/** Step 2: both signatures of statement and agreement, by role, under keys that count by log order. */
const checkSignatures = (one: Case): Step => {
  const fail = (detail: string): Step => ({ step: 2, state: 'failed', detail });
  const { assurance } = one.agreement.value;
  const statementRoles = checkRoles(one.statement.signatures, one.statement.value, assurance);
  if (!statementRoles.ok) return fail(`the statement: ${statementRoles.reason}`);
  const agreementRoles = checkRoles(one.agreement.signatures, one.agreement.value, assurance);
  if (!agreementRoles.ok) return fail(`the agreement: ${agreementRoles.reason}`);
  const order = keyOrder(one);
  if (!order.ok) return fail(order.reason);
  const places = [
    { signed: one.statement, index: Number(one.file.statement.proof.index), what: 'the statement' },
    { signed: one.agreement, index: Number(one.file.agreement.proof.index), what: 'the agreement' },
  ];
  for (const { signed, index, what } of places) {
    const fault = checkSigners(one.tools.crypto, signed, { index, order: order.value, what });
    if (fault !== undefined) return fail(fault);
  }
  if (assurance === 'cosigned')
    return { step: 2, state: 'ok', detail: 'provider and consumer signed statement and agreement' };
  const detail = "possession: not proven; consumer's signature: none";
  return one.trust.oneSided === true ? { step: 2, state: 'ok', detail } : { step: 2, state: 'untrusted', detail };
};

const strangeRecord = (items: readonly Item[], said: UsageStatement, asset: string): string | undefined => {
  for (const { record } of items) {
    if (record.agreement !== said.agreement) return `record ${record.n} is of another agreement`;
    if (record.price !== said.price) return `record ${record.n} has another price plan`;
    if (record.asset !== asset) return `record ${record.n} is of another asset`;
  }
  return undefined;
};

/** Step 3: record, statement and agreement speak of the same agreement, parties, price and asset. */
const checkAgreement = ({ tools: { crypto }, file, statement, agreement }: Case): Step => {
  const fail = (detail: string): Step => ({ step: 3, state: 'failed', detail });
  const said = statement.value;
  const agreed = agreement.value;
  if (agreementDigestOf(crypto, agreement.payload) !== said.agreementDigest)
    return fail('the statement is of another agreement');
  if (said.agreement !== agreed.agreement['@id']) return fail('the statement names another agreement');
  if (said.provider !== agreed.provider || said.consumer !== agreed.consumer)
    return fail('the parties are not those of the agreement');
  if (said.price !== agreed.price) return fail('the price plan is not the agreed one');
  if (said.seq === '1' && parseTime(said.from) !== parsePeerTime(agreed.agreement.timestamp)) {
    return fail('the first statement does not begin with the agreement');
  }
  const stranger = strangeRecord(itemsOf(file), said, agreed.agreement.target);
  if (stranger !== undefined) return fail(stranger);
  if (file.sums === null) return { step: 3, state: 'withheld', detail: 'all agree; totals and amount are withheld' };
  return sumsDigest(crypto, file.sums) === said.sums
    ? { step: 3, state: 'ok', detail: 'record, statement and agreement agree on parties, asset and price' }
    : fail('totals and amount are not those of the statement');
};

/** Step 4: each entry commits to its artifact, under the leaf key that the artifact names, or the registry key. */
const checkEntries = ({ tools: { crypto }, file, statement, agreement, keys, log }: Case): Step => {
  const fail = (detail: string): Step => ({ step: 4, state: 'failed', detail });
  const leaves = [
    {
      entry: file.statement.entry,
      bytes: utf8(jwsText(statement.jws)),
      leafKey: statement.value.leafKey,
      what: 'statement',
    },
    {
      entry: file.agreement.entry,
      bytes: utf8(jwsText(agreement.jws)),
      leafKey: agreement.value.leafKey,
      what: 'agreement',
    },
  ];
  for (const { entry, bytes, leafKey, what } of leaves) {
    const parts = checkEntry(crypto, entry, bytes);
    if (!parts.ok) return fail(`${what}: ${parts.reason}`);
    if (leafKeyId(crypto, parts.value.spki) !== leafKey)
      return fail(`${what}: the entry has another leaf key than the artifact names`);
  }
  for (const [position, { entry }] of file.keys.entries()) {
    const parts = checkEntry(crypto, entry, orNothing(keys[position]?.artifact.bytes));
    if (!parts.ok) return fail(`key entry ${position + 1}: ${parts.reason}`);
    if (log !== undefined && !sameBytes(parts.value.spki, log.registryKey))
      return fail(`key entry ${position + 1} is not by the registry`);
  }
  return log === undefined
    ? {
        step: 4,
        state: 'untrusted',
        detail: 'entries fit; whose registry introduced the keys is not known to the trust file',
      }
    : { step: 4, state: 'ok', detail: `${leaves.length + file.keys.length} entries commit to their artifacts` };
};

const isInTree = (crypto: Crypto, entry: LogEntry, proof: InclusionProof, { size, root }: Checkpoint): boolean =>
  isIncluded(crypto, leafHash(crypto, utf8(canonicalize(entry))), {
    index: Number(proof.index),
    size,
    root,
    path: decodePath(proof.path),
  });

/** Step 5: every entry is in the tree of the checkpoint, which the log signed, with the quorum that the reader asks for. */
const checkLog = ({ tools: { crypto }, file, checkpoint, log }: Case): Step => {
  const leaves = [file.statement, file.agreement, ...file.keys];
  const missing = leaves.find((leaf) => !isInTree(crypto, leaf.entry, leaf.proof, checkpoint));
  if (missing !== undefined)
    return { step: 5, state: 'failed', detail: `entry ${missing.proof.index} is not in the tree of the checkpoint` };
  if (log === undefined)
    return { step: 5, state: 'untrusted', detail: `the trust file does not name the log ${checkpoint.origin}` };
  const signed = verifyNote(crypto, file.checkpoint, log.policy);
  return signed.ok
    ? {
        step: 5,
        state: 'ok',
        detail: `${leaves.length} entries are in the tree of ${checkpoint.size} that ${checkpoint.origin} signed`,
      }
    : { step: 5, state: 'failed', detail: signed.reason };
};

/** The checkpoint that an anchor is about: the receipt's own, or a later one that extends it. */
const anchoredCheckpoint = ({ tools: { crypto }, checkpoint, log }: Case, anchor: EvmAnchor): Checked<Checkpoint> => {
  if (anchor.later === null) return good(checkpoint);
  const note = readNote(anchor.later.checkpoint);
  if (!note.ok) return note;
  const later = note.value.checkpoint;
  if (later.origin !== checkpoint.origin) return bad('the later checkpoint is of another log');
  if (log !== undefined) {
    const signed = verifyNote(crypto, anchor.later.checkpoint, log.policy);
    if (!signed.ok) return bad(`the later checkpoint: ${signed.reason}`);
  }
  return isConsistent(crypto, checkpoint, later, decodePath(anchor.later.consistency))
    ? good(later)
    : bad('the later checkpoint does not extend this one');
};

interface AnchorOutcome {
  readonly step: Step;
  readonly anchored: readonly string[];
  readonly doubtful: boolean;
}

/** Step 6: a block that the reader trusts holds the root of this checkpoint, or of a later one that extends it. */
const checkAnchors = (one: Case): AnchorOutcome => {
  const anchored: string[] = [];
  let doubtful = false;
  for (const anchor of one.file.anchors) {
    const target = anchoredCheckpoint(one, anchor);
    const found = target.ok
      ? one.tools.verifyAnchor(anchor, target.value, one.trust.chains)
      : { state: 'failed' as const, reason: target.reason };
    if (found.state === 'failed')
      return { step: { step: 6, state: 'failed', detail: found.reason }, anchored, doubtful };
    if (found.state === 'authenticated') anchored.push(`chain ${anchor.chainId}: ${found.reason}`);
    else doubtful = true;
  }
  if (anchored.length > 0) return { step: { step: 6, state: 'ok', detail: anchored.join('; ') }, anchored, doubtful };
  const detail = doubtful
    ? 'an anchor fits, but nobody in the trust file vouches for its block: it does not count'
    : 'the receipt has no anchor; the log alone vouches for it';
  return { step: { step: 6, state: 'none', detail }, anchored, doubtful };
};

const codeOf = (steps: readonly Step[]): ExitCode => {
  const has = (state: StepState) => steps.some((step) => step.state === state);
  if (has('failed')) return 1;
  if (has('untrusted')) return 3;
  return has('withheld') ? 4 : 0;
};

const notCheckedIn = (one: Case, doubtful: boolean): NotChecked[] => [
  ...notCheckedCodes.slice(0, 6),
  ...(one.log === undefined || one.log.policy.quorum.kind === 'none' ? (['split-view'] as const) : []),
  ...(doubtful ? (['anchor-block'] as const) : []),
  ...(one.agreement.value.assurance === 'plain-dsp' ? (['possession'] as const) : []),
];

/**
 * Verifies the text of one receipt file, single or packed, with nothing but the reader's trust file.
 *
 * @returns the verdict: exit code of ledger §10, the steps of §11, and what was not checked. Never throws for bad input.
 */
export const verifyReceipt = (tools: VerifyTools, trust: TrustFile, text: string): Verdict => {
  const read = readFile(text);
  if ('refused' in read) return read.refused;
  const one = readCase(tools, trust, read.file);
  if (!one.ok) return verdict(1, [{ step: 0, state: 'failed', detail: one.reason }]);
  const anchors = checkAnchors(one.value);
  const steps = [
    checkRecords(one.value),
    checkSignatures(one.value),
    checkAgreement(one.value),
    checkEntries(one.value),
    checkLog(one.value),
    anchors.step,
  ];
  const { statement, agreement, checkpoint, file } = one.value;
  return verdict(codeOf(steps), steps, {
    notChecked: notCheckedIn(one.value, anchors.doubtful),
    facts: {
      provider: statement.value.provider,
      consumer: statement.value.consumer,
      agreement: statement.value.agreement,
      asset: agreement.value.agreement.target,
      assurance: agreement.value.assurance,
      statement: statement.value.seq,
      records: itemsOf(file).length,
      checkpoint: { origin: checkpoint.origin, size: checkpoint.size },
      anchored: anchors.anchored,
    },
  });
};
