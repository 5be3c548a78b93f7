import { AppError } from '../../contracts/errors.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { type Account, givenUp, keyOf, type Settled, settle } from './account.ts';
import type { AccountKey, KeptStatement, Load, StatedRow, StatementRegistrar, StatementStore } from './ports.ts';
import { nothing, plus } from './window.pure.ts';

/** What happens when a statement has all its signatures: it is saved, the window opens, the log gets it. */

export interface Completion {
  /** Durable first, then the account goes on from it. */
  readonly complete: (account: Account, statement: KeptStatement, rows: readonly StatedRow[]) => Promise<void>;
  /** What may take its time: records into the usage store, the artifact to the registrar. */
  readonly finish: (key: AccountKey, seq: number) => Promise<void>;
}

export interface CompletionOptions {
  readonly statements: StatementStore;
  readonly registrar: StatementRegistrar;
  readonly clock: Clock;
  readonly log: Logger;
  /** Runs what nobody waits for. */
  readonly later: (work: () => Promise<void>) => void;
  /** The consumer registers when the provider has not (ledger §8, order 5). */
  readonly consumerWaitsMs: number;
  /** Hears of each statement that is taken care of. */
  readonly finished: (key: AccountKey) => Promise<void>;
}

const settledBy = (account: Account, rows: readonly StatedRow[]): Settled[] =>
  rows.map((row) => ({ request: row.request, part: Number(row.part), conceded: concededBy(account, row) }));

/** What a record gives up: less than we counted, or all of it where it stays in dispute; nothing that was written off. */
const concededBy = (account: Account, { request, part, units, bytes, outcome }: StatedRow): Load => {
  const key = keyOf(request, Number(part));
  const access = account.accesses.get(key);
  if (account.info.role === 'consumer' || access === undefined || account.held.get(key)?.isWrittenOff) return nothing;
  return givenUp(account, access, units, outcome === 'disputed' ? '0' : bytes);
};

/**
 * What stays in dispute behind the last statement keeps its place in the counterparty's window: a new agreement is no way
 * around it.
 */
const leftInDispute = (account: Account, isFinal: boolean, stated: ReadonlySet<string>): Load =>
  [...(isFinal ? account.accesses : [])].reduce(
    (sum, [key, access]) => (access.standing === 'held' && !stated.has(key) ? plus(sum, access.exposed) : sum),
    nothing,
  );

const complete = async (
  its: CompletionOptions,
  account: Account,
  statement: KeptStatement,
  rows: readonly StatedRow[],
): Promise<void> => {
  const { info } = account;
  const { statements, log } = its;
  const settled = settledBy(account, rows);
  const gone = new Set(settled.map(({ request, part }) => keyOf(request, part)));
  const left = leftInDispute(account, statement.payload.final, gone);
  const conceded = settled.reduce((sum, one) => plus(sum, one.conceded), plus(account.conceded, left));
  const held = [...account.held.values()].filter(({ request, part }) => !gone.has(keyOf(request, part)));
  const changes = info.role === 'provider' ? { conceded, held } : {};
  const saved = await statements.save(info, { ...statement, state: 'complete' }, changes);
  if (saved === 'conflict')
    throw new AppError('invariant-broken', { detail: `another statement stands for seq ${statement.payload.seq}` });
  settle(account, statement, settled, conceded);
  const { agreement, role } = info;
  const { seq, final } = statement.payload;
  log.info({ agreement, role, seq, final, records: rows.length, digest: statement.digest }, 'a statement is complete');
  its.later(() => finish(its, info, Number(seq)));
};

const finish = async (its: CompletionOptions, key: AccountKey, seq: number): Promise<void> => {
  const { statements, registrar, clock } = its;
  await statements.index(key, seq);
  const statement = await statements.find(key, seq);
  if (statement?.leafKey != null && statement.artifact !== null) {
    await registrar.submit({
      participant: key.participant,
      kind: 'usage-statement',
      artifact: statement.artifact,
      leafKey: statement.leafKey,
      sums: statement.sums,
      notBefore: key.role === 'provider' ? clock.now() : clock.now() + its.consumerWaitsMs,
    });
    await statements.handedOver(key, seq);
  }
  await its.finished(key);
};

export const createCompletion = (options: CompletionOptions): Completion => ({
  complete: (account, statement, rows) => complete(options, account, statement, rows),
  finish: (key, seq) => finish(options, key, seq),
});
