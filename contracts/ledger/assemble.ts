import { fromBase64Url, orNothing, toBase64Url } from '../bytes.ts';
import type { Crypto } from '../crypto.ts';
import { type Followed, type FollowTools, keyEntriesOf, proveEntry } from './follow.ts';
import { bad, type Checked, good } from './forms.ts';
import type { GeneralJws } from './jws.ts';
import type { EvmAnchor, PackedReceipts, Receipt } from './receipt.ts';
import { recordLeaf, type UsageContext, type UsageRecord } from './record.ts';
import { readStatementArtifact, type StatementSums } from './statement.ts';
import { inclusionPath, isIncluded, subtreesOf } from './tree.ts';

/** Putting a receipt together (ledger §11) out of what a party holds and what the log serves. */

/** An artifact that a party holds, and the index that the log promised for it. */
export interface Registered {
  readonly artifact: GeneralJws;
  readonly index: number;
}

/** What all receipts of one statement share: everything but the records. */
export type ReceiptFrame = Omit<PackedReceipts, 'type' | 'records'>;

interface FrameParts {
  readonly statement: Registered;
  readonly agreement: Registered;
  /** Null withholds totals and amount. */
  readonly sums: StatementSums | null;
  readonly anchors: readonly EvmAnchor[];
}

/** A checkpoint, and the public entries below it. */
export type FollowedTo = Pick<Followed, 'checkpoint' | 'note' | 'publics'>;

/**
 * The shared part of all receipts of a statement, under the checkpoint that was followed to: both entries, and every key
 * entry of both parties.
 *
 * @returns or why not yet: an entry that no checkpoint covers, a tile that is missing.
 */
export const frameOf = async (
  tools: Pick<FollowTools, 'crypto' | 'fetch'>,
  followed: FollowedTo,
  { statement, agreement, sums, anchors }: FrameParts,
): Promise<Checked<ReceiptFrame>> => {
  const read = readStatementArtifact(statement.artifact);
  if (!read.ok) return read;
  const { provider, consumer } = read.value.value;
  const prove = (index: number) => proveEntry(tools, index, followed.checkpoint);
  const provenStatement = await prove(statement.index);
  if (!provenStatement.ok) return provenStatement;
  const provenAgreement = await prove(agreement.index);
  if (!provenAgreement.ok) return provenAgreement;
  const keys: ReceiptFrame['keys'] = [];
  for (const { index, value } of keyEntriesOf(tools.crypto, followed, [provider, consumer])) {
    const proven = await prove(index);
    if (!proven.ok) return proven;
    keys.push({ artifact: { ...value }, ...proven.value } as ReceiptFrame['keys'][number]);
  }
  return good({
    v: 1,
    statement: { artifact: statement.artifact, ...provenStatement.value },
    agreement: { artifact: agreement.artifact, ...provenAgreement.value },
    keys,
    sums,
    checkpoint: followed.note,
    anchors: [...anchors],
  });
};

/** One access as a party keeps it; `context` null withholds what it was used for. */
export interface Access {
  readonly record: UsageRecord;
  readonly context: UsageContext | null;
}

/** The path of each chosen record to the root of its statement. `records` are all of the interval, in order of `n`. */
const pathsOf = (
  crypto: Pick<Crypto, 'sha256'>,
  frame: ReceiptFrame,
  records: readonly UsageRecord[],
): Checked<(record: UsageRecord) => string[]> => {
  const statement = readStatementArtifact(frame.statement.artifact);
  if (!statement.ok) return statement;
  const leaves = records.map((record) => recordLeaf(crypto, record));
  const subtree = subtreesOf(crypto, leaves);
  const root = orNothing(fromBase64Url(statement.value.value.root));
  const first = Number(statement.value.value.first);
  const [leaf] = leaves;
  const fits =
    leaf !== undefined &&
    isIncluded(crypto, leaf, { index: 0, size: leaves.length, root, path: inclusionPath(subtree, 0, leaves.length) });
  if (!fits) return bad('the records are not those of the statement');
  return good((record) => inclusionPath(subtree, Number(record.n) - first, leaves.length).map(toBase64Url));
};

/** The receipt of one access. `records` are all records of the statement's interval, in order. */
export const receiptOf = (
  crypto: Pick<Crypto, 'sha256'>,
  frame: ReceiptFrame,
  access: Access,
  records: readonly UsageRecord[],
): Checked<Receipt> => {
  const paths = pathsOf(crypto, frame, records);
  if (!paths.ok) return paths;
  const recordPath = paths.value(access.record);
  return good({ ...frame, type: 'receipt', record: access.record, context: access.context, recordPath });
};

/** Many accesses of one statement in one file. */
export const packedReceiptsOf = (
  crypto: Pick<Crypto, 'sha256'>,
  frame: ReceiptFrame,
  accesses: readonly Access[],
  records: readonly UsageRecord[],
): Checked<PackedReceipts> => {
  const paths = pathsOf(crypto, frame, records);
  if (!paths.ok) return paths;
  return good({
    ...frame,
    type: 'receipts',
    records: accesses.map(({ record, context }) => ({ record, context, path: paths.value(record) })),
  });
};
