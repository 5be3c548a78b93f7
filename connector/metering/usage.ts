import { AppError } from '../../contracts/errors.ts';
import type { ParticipantId } from '../../contracts/ids.ts';
import type { Units } from '../../contracts/ledger/forms.ts';
import type { GeneralJws } from '../../contracts/ledger/jws.ts';
import { addUnits } from '../../contracts/ledger/price-plan.ts';
import type { UsageContext, UsageRecord } from '../../contracts/ledger/record.ts';
import type { StatementSums } from '../../contracts/ledger/statement.ts';
import { formatTime } from '../../contracts/time.ts';
import type { Account } from './account.ts';
import { counterpartyOf } from './peer-calls.ts';
import type {
  AccountKey,
  MeterAccountStore,
  MeteredAgreement,
  MeterRole,
  StatedRecord,
  StatementStore,
  UsageGroup,
  UsageStore,
} from './ports.ts';
import { amountUnder, recordsOf } from './statements.ts';

/** What was used, for people (`stekker usage`), and what receipts are made of. */

/** One side of one agreement, in numbers. */
export interface UsageSummary {
  readonly role: MeterRole;
  readonly agreement: string;
  readonly agreementId: string;
  readonly counterparty: string;
  readonly assurance: MeteredAgreement['assurance'];
  readonly isEnded: boolean;
  /** In complete statements: totals since the first, and their amount. */
  readonly stated: { readonly seq: number; readonly to: string; readonly totals: Units; readonly amount: Amount };
  /** Closed and not stated yet, by our own count. */
  readonly unstated: { readonly accesses: number; readonly totals: Units };
  readonly open: number;
  readonly disputed: number;
  /** By application and purpose, stated and not; each amount rounded down on its own, so they may come to less than the whole. */
  readonly groups: readonly (UsageGroup & { readonly amount: Amount })[];
}

type Amount = StatementSums['amount'];

/** One access as a person reads it. */
export interface UsageLine {
  /** `''` while it is not stated. */
  readonly n: string;
  readonly seq: number | null;
  readonly request: string;
  readonly part: string;
  readonly at: string;
  readonly application: string;
  readonly purpose: string;
  readonly run: string;
  readonly method: string;
  readonly asset: string;
  readonly bytes: string;
  readonly outcome: string;
  readonly status: string;
  readonly units: Units;
}

/** A statement and every record of its interval, with the contexts opened (ledger §11). */
export interface StatedInterval {
  readonly role: MeterRole;
  readonly agreement: string;
  readonly seq: number;
  readonly artifact: GeneralJws;
  readonly sums: StatementSums;
  readonly records: readonly { readonly record: UsageRecord; readonly context: UsageContext }[];
}

export interface UsageQueries {
  readonly list: (participant: ParticipantId) => Promise<readonly UsageSummary[]>;
  /** Stated records in order of `n` behind `after`; at the end of them those that are not stated. */
  readonly lines: (
    key: AccountKey,
    page: { readonly after: number; readonly limit: number },
  ) => Promise<readonly UsageLine[]>;
  /** The intervals that the parts of a request were stated in; none while there is none. */
  readonly ofRequest: (
    participant: ParticipantId,
    agreement: string,
    request: string,
  ) => Promise<readonly StatedInterval[]>;
  readonly ofSeq: (participant: ParticipantId, agreement: string, seq: number) => Promise<StatedInterval | undefined>;
}

export interface UsageOptions {
  readonly accounts: Pick<MeterAccountStore, 'list'>;
  readonly statements: Pick<StatementStore, 'find' | 'index'>;
  readonly usage: UsageStore;
  readonly account: (key: AccountKey) => Promise<Account | undefined>;
}

const roles = ['provider', 'consumer'] as const;

const closedOf = (account: Account) => [...account.accesses.values()].filter(({ close }) => close !== null);

const unstatedGroups = (account: Account): UsageGroup[] => {
  const groups = new Map<string, UsageGroup>();
  for (const { facts, close, part } of closedOf(account)) {
    if (close === null) continue;
    const { application, purpose } = facts;
    const key = JSON.stringify([application, purpose]);
    const before = groups.get(key) ?? { application, purpose, accesses: 0, bytes: 0, units: {} };
    groups.set(key, {
      ...before,
      accesses: before.accesses + (part === 1 ? 1 : 0),
      bytes: before.bytes + close.bytes,
      units: addUnits(before.units, close.units),
    });
  }
  return [...groups.values()];
};

const mergeGroups = (groups: readonly UsageGroup[]): UsageGroup[] =>
  [...Map.groupBy(groups, ({ application, purpose }) => JSON.stringify([application, purpose])).values()].map((same) =>
    same.reduce((sum, one) => ({
      application: one.application,
      purpose: one.purpose,
      accesses: sum.accesses + one.accesses,
      bytes: sum.bytes + one.bytes,
      units: addUnits(sum.units, one.units),
    })),
  );

const summaryOf = (account: Account, statedGroups: readonly UsageGroup[]): UsageSummary => {
  const { info, chain, counts, isEnded } = account;
  const closed = closedOf(account);
  const groups = mergeGroups([...statedGroups, ...unstatedGroups(account)]);
  return {
    role: info.role,
    agreement: info.agreement,
    agreementId: info.agreementId,
    counterparty: counterpartyOf(info),
    assurance: info.assurance,
    isEnded,
    stated: {
      seq: chain.seq,
      to: chain.to,
      totals: chain.totals,
      amount: amountUnder(info.pricePlan, chain.totals),
    },
    unstated: {
      accesses: closed.filter(({ part }) => part === 1).length,
      totals: closed.reduce<Units>((sum, { close }) => addUnits(sum, close?.units ?? {}), {}),
    },
    open: counts.open + counts.lost,
    disputed: counts.held,
    groups: groups.map((group) => ({ ...group, amount: amountUnder(info.pricePlan, group.units) })),
  };
};

const lineOf = (row: StatedRecord): UsageLine => ({
  n: row.n,
  seq: row.seq,
  request: row.request,
  part: row.part,
  at: row.at,
  application: row.facts.application,
  purpose: row.facts.purpose,
  run: row.facts.run,
  method: row.facts.method,
  asset: row.facts.asset,
  bytes: row.bytes,
  outcome: row.outcome,
  status: row.status,
  units: row.units,
});

const unstatedLines = (account: Account | undefined): UsageLine[] =>
  (account === undefined ? [] : [...account.accesses.values()]).map(({ request, part, at, facts, close }) => ({
    n: '',
    seq: null,
    request,
    part: String(part),
    at: formatTime(at),
    application: facts.application,
    purpose: facts.purpose,
    run: facts.run,
    method: facts.method,
    asset: facts.asset,
    bytes: String(close?.bytes ?? 0),
    outcome: close?.outcome ?? 'open',
    status: close?.status ?? '',
    units: close?.units ?? {},
  }));

const intervalOf = async (its: UsageOptions, key: AccountKey, seq: number): Promise<StatedInterval | undefined> => {
  await its.statements.index(key, seq);
  const statement = await its.statements.find(key, seq);
  if (statement?.state !== 'complete' || statement.artifact === null || statement.K === null) return undefined;
  const account = await its.account(key);
  if (account === undefined) throw new AppError('invariant-broken', { detail: 'a statement without its agreement' });
  const rows = await its.usage.ofStatement(key, seq);
  return {
    role: key.role,
    agreement: key.agreement,
    seq,
    artifact: statement.artifact,
    sums: statement.sums,
    records: recordsOf(account.info, statement.K, rows),
  };
};

export const createUsageQueries = (its: UsageOptions): UsageQueries => {
  return {
    list: async (participant) => {
      const summaries: UsageSummary[] = [];
      for (const { info } of await its.accounts.list(participant)) {
        const account = await its.account(info);
        if (account !== undefined) summaries.push(summaryOf(account, await its.usage.groups(info)));
      }
      return summaries;
    },
    lines: async (key, page) => {
      const stated = (await its.usage.page(key, page)).map(lineOf);
      if (stated.length === page.limit) return stated;
      return [...stated, ...unstatedLines(await its.account(key)).slice(0, page.limit - stated.length)];
    },
    ofRequest: async (participant, agreement, request) => {
      const intervals: StatedInterval[] = [];
      for (const role of roles) {
        const key = { participant, role, agreement };
        const seqs = new Set((await its.usage.ofRequest(key, request)).map(({ seq }) => seq));
        for (const seq of seqs) {
          const interval = await intervalOf(its, key, seq);
          if (interval !== undefined) intervals.push(interval);
        }
      }
      return intervals;
    },
    ofSeq: async (participant, agreement, seq) =>
      (await intervalOf(its, { participant, role: 'provider', agreement }, seq)) ??
      (await intervalOf(its, { participant, role: 'consumer', agreement }, seq)),
  };
};
