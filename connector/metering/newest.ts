import type { z } from 'zod';
import { fromBase64Url, orNothing } from '../../contracts/bytes.ts';
import { checkRoles } from '../../contracts/ledger/agreement.ts';
import { heldStatement } from '../../contracts/ledger/draft.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import {
  readStatementArtifact,
  type StatementSums,
  statementDigest,
  sumsDigest,
  type UsageStatement,
} from '../../contracts/ledger/statement.ts';
import type { Clock } from '../../kernel/clock.ts';
import { nodeCrypto } from '../../kernel/crypto.ts';
import type { Logger } from '../../kernel/log.ts';
import type { PeerAnswer } from '../exchange/ports.ts';
import { type Account, keyOf } from './account.ts';
import type { Completion } from './completion.ts';
import { counterpartyOf, type PeerCalls } from './peer-calls.ts';
import type {
  DisputeStore,
  KeptStatement,
  MeterAccountStore,
  SignedSeqs,
  StatedRow,
  StatementSigner,
  StatementStore,
  UnstatedStore,
  UsageStore,
} from './ports.ts';
import { rootOfLeaves } from './statements.ts';

/**
 * Before it signs anything a connector asks its counterparty and the broker for the newest statement they hold, and goes on
 * from there (ledger §8 "Never twice"): rows that come from a backup must not convict their owner.
 */

const statementTyp = 'stekker-usage-statement+jws';

export interface NewestOptions {
  readonly calls: PeerCalls;
  readonly signer: StatementSigner;
  readonly seqs: SignedSeqs;
  readonly statements: StatementStore;
  readonly usage: Pick<UsageStore, 'ofStatement'>;
  readonly disputes: DisputeStore;
  readonly accounts: Pick<MeterAccountStore, 'change'>;
  readonly unstated: Pick<UnstatedStore, 'settle'>;
  readonly completion: Completion;
  readonly clock: Clock;
  readonly log: Logger;
}

interface Held {
  readonly artifact: GeneralJws;
  readonly payload: UsageStatement;
  readonly digest: string;
  readonly sums: StatementSums;
  readonly K: string | null;
  readonly records: z.infer<typeof heldStatement>['records'];
}

const ownIndex = (account: Account): number => (account.info.role === 'provider' ? 0 : 1);

/** Whether both signatures (the one, for `plain-dsp`) stand in their roles and hold; ours among them. */
const isSigned = async ({ signer }: NewestOptions, account: Account, artifact: GeneralJws, kids: readonly string[]) => {
  const { provider, consumer, assurance } = account.info;
  const roles = checkRoles(
    kids.map((kid) => ({ kid })),
    account.info,
    assurance,
  );
  if (!roles.ok) return false;
  for (const [index, did] of [provider, consumer].slice(0, kids.length).entries())
    if (!(await signer.verify(artifact, { index, did, typ: statementTyp }))) return false;
  return true;
};

/** What somebody says is the newest; undefined when it is not a complete statement of this agreement with our signature. */
const readHeld = async (its: NewestOptions, account: Account, answer: PeerAnswer): Promise<Held | undefined> => {
  const body = heldStatement.safeParse(answer.body);
  const artifact = body.success ? readStatementArtifact(body.data.artifact) : undefined;
  if (!body.success || artifact?.ok !== true) return undefined;
  const { value, jws, payload, signatures } = artifact.value;
  const { agreement, provider, consumer } = account.info;
  if (value.agreementDigest !== agreement || value.provider !== provider || value.consumer !== consumer)
    return undefined;
  if (sumsDigest(nodeCrypto, body.data.sums) !== value.sums) return undefined;
  const kids = signatures.map(({ kid }) => kid);
  if (kids[ownIndex(account)] === undefined || !(await isSigned(its, account, jws, kids))) return undefined;
  const { sums, K = null, records = null } = body.data;
  return { artifact: jws, payload: value, digest: statementDigest(nodeCrypto, payload), sums, K, records };
};

/** Rows as we would have kept them, when they come to the root that was signed. */
const rowsOf = async (account: Account, held: Held): Promise<readonly StatedRow[] | undefined> => {
  const { records, payload, K } = held;
  const count = BigInt(payload.last) + 1n - BigInt(payload.first);
  if (records == null || K === null || BigInt(records.length) !== count) return undefined;
  const root = await rootOfLeaves(records.map(({ leaf }) => orNothing(fromBase64Url(leaf))));
  if (root !== payload.root) return undefined;
  return records.map((row) => {
    const access = account.accesses.get(keyOf(row.request, Number(row.part)));
    const nobody = { asset: '', transfer: '', application: '', method: '', purpose: '', run: '', target: row.digest };
    return { ...row, facts: access?.facts ?? nobody, place: access?.closePlace ?? 0, refusals: 0 };
  });
};

/** Rows of a statement that stands here: those kept with it or, once they are in the usage store, all of them there. */
const ownRows = async (
  { usage }: NewestOptions,
  { info }: Account,
  { rows, payload }: KeptStatement,
): Promise<readonly StatedRow[] | undefined> => {
  if (rows !== null) return rows;
  const stated = await usage.ofStatement(info, Number(payload.seq));
  return BigInt(stated.length) === BigInt(payload.last) + 1n - BigInt(payload.first) ? stated : undefined;
};

/** Goes on from a statement that we signed and lost. Where rows are missing nobody knows what was stated: then none of it is again. */
const adopt = async (its: NewestOptions, account: Account, held: Held, isGap: boolean): Promise<void> => {
  const { info } = account;
  const own = await its.statements.find(info, Number(held.payload.seq));
  const isOurs = own?.digest === held.digest;
  const rows = isOurs ? await ownRows(its, account, own) : await rowsOf(account, held);
  const statement: KeptStatement = {
    digest: held.digest,
    payload: held.payload,
    sums: held.sums,
    K: held.K ?? (isOurs ? own.K : null),
    leafKey: isOurs ? own.leafKey : null,
    artifact: held.artifact,
    state: 'complete',
    rows: rows ?? null,
  };
  if (!isOurs) its.log.error({ agreement: info.agreement, seq: held.payload.seq }, 'a statement of ours was lost here');
  await its.seqs.claim(info, Number(held.payload.seq), held.digest);
  const isUnsure = isGap || rows == null;
  const covered = isUnsure ? [...everythingClosed(account), ...(rows ?? [])] : rows;
  if (isUnsure) {
    const settledBefore = covered.reduce((last, { place }) => Math.max(last, place), 0);
    await its.accounts.change(info, { settledBefore });
    await its.unstated.settle(
      info,
      covered.map(({ request, part }) => ({ request, part: Number(part) })),
    );
  }
  await its.completion.complete(account, statement, covered);
};

/** When it is not known what a statement covers, all that is closed counts as stated, and is never billed again. */
const everythingClosed = (account: Account): StatedRow[] =>
  [...account.accesses.values()].flatMap((access) =>
    access.close === null
      ? []
      : [
          {
            n: '1',
            request: access.request,
            part: String(access.part),
            at: '',
            bytes: String(access.close.bytes),
            digest: access.close.digest,
            outcome: access.close.outcome,
            status: access.close.status,
            units: access.close.units,
            ext: null,
            leaf: '',
            facts: access.facts,
            place: access.closePlace,
            refusals: 0,
          },
        ],
  );

/** Whether whoever was asked could not answer now, and may later. */
const isForNow = (answer: PeerAnswer | undefined): boolean =>
  answer === undefined || answer.status === 429 || answer.status >= 500;

/**
 * Fetches what lies between ours and theirs, one by one. What cannot be had now is asked for again: only a counterparty that
 * does not have it leaves a gap.
 */
const closeGap = async (its: NewestOptions, account: Account, upTo: number): Promise<'closed' | 'gap' | 'later'> => {
  for (let seq = account.chain.seq + 1; seq < upTo; seq += 1) {
    const answer = await its.calls.held(account.info, seq);
    if (isForNow(answer)) return 'later';
    const held = answer?.status === 200 ? await readHeld(its, account, answer) : undefined;
    if (held === undefined || Number(held.payload.seq) !== seq) return 'gap';
    await adopt(its, account, held, false);
  }
  return 'closed';
};

/** Two statements for one number, signed by the same party: kept as proof against it. */
export const keepEquivocation = async (
  { disputes, clock, log }: Pick<NewestOptions, 'disputes' | 'clock' | 'log'>,
  account: Account,
  seq: number,
  [a, b]: readonly [GeneralJws, GeneralJws],
): Promise<void> => {
  const { info } = account;
  log.error({ agreement: info.agreement, seq, against: counterpartyOf(info) }, 'two statements for one number');
  await disputes.saveEquivocation(info, seq, { type: 'equivocation-proof', a, b }, clock.now());
};

/** Goes on from what somebody holds. @returns false when that must wait for what lies before it. */
const consider = async (its: NewestOptions, account: Account, answer: PeerAnswer): Promise<boolean> => {
  const held = answer.status === 200 ? await readHeld(its, account, answer) : undefined;
  if (held === undefined) return true;
  const seq = Number(held.payload.seq);
  if (seq > account.chain.seq) {
    const before = await closeGap(its, account, seq);
    if (before === 'later') return false;
    await adopt(its, account, held, before === 'gap');
    return true;
  }
  const own = await its.statements.find(account.info, seq);
  if (own?.artifact != null && own.digest !== held.digest)
    await keepEquivocation(its, account, seq, [own.artifact, held.artifact]);
  return true;
};

/** Whether the file of what was signed knows at least what the rows know: then it vouches for them without the broker. */
const isFileTrusted = ({ seqs }: NewestOptions, { info, chain }: Account): boolean =>
  chain.seq > 0 && (seqs.newest(info)?.seq ?? 0) >= chain.seq;

/**
 * Asks both, and goes on from what they hold.
 *
 * @returns false while nobody can be asked: nothing may be signed yet.
 */
export const askNewest = async (its: NewestOptions, account: Account): Promise<boolean> => {
  const peers = account.info.assurance === 'cosigned' ? await its.calls.held(account.info, 'newest') : 'none';
  if (peers === undefined || (peers !== 'none' && peers.status !== 200 && peers.status !== 404)) return false;
  if (peers !== 'none' && !(await consider(its, account, peers))) return false;
  const logged = await its.calls.logged(account.info);
  if (logged === 'none') return true;
  if (logged?.status === 200 && !(await consider(its, account, logged))) return false;
  return logged?.status === 200 || logged?.status === 404 || isFileTrusted(its, account);
};
