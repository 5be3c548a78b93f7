import type { UsageMeter } from '../../connector/data-plane/ports.ts';
import { AppError } from '../../contracts/errors.ts';
import {
  type UsageClose,
  type UsageEntry,
  type UsageOpen,
  usageClose,
  usageOpen,
} from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';

/** A usage meter over arrays that keeps every promise of the port, as long as the program runs; journal and window obey the test. */
export interface ArrayMeter extends UsageMeter {
  readonly entries: UsageEntry[];
  readonly opened: () => readonly UsageOpen[];
  readonly closed: () => readonly UsageClose[];
  /** Nothing becomes durable until what is returned is called. */
  readonly hold: () => () => void;
  /** The journal refuses from now on, or takes entries again. */
  readonly fail: (isFailing: boolean) => void;
}

export interface ArrayMeterOptions {
  readonly clock: Clock;
  /** Window of each agreement. */
  readonly requests?: number;
  readonly bytes?: number;
  /** What a journal held before. */
  readonly entries?: readonly UsageEntry[];
}

interface Account {
  count: number;
  requests: number;
  bytes: number;
}

const keyOf = ({ agreement, request, part }: Pick<UsageOpen, 'agreement' | 'request' | 'part'>): string =>
  JSON.stringify([agreement, request, part]);

export const createArrayMeter = (options: ArrayMeterOptions): ArrayMeter => {
  const { clock, requests = 100_000, bytes = 16 * 2 ** 30 } = options;
  const entries: UsageEntry[] = [];
  const accounts = new Map<string, Account>();
  const reserved = new Map<string, number>();
  const seen = new Set<string>();
  let held: (() => void)[] | null = null;
  let isFailing = false;

  const accountOf = (agreement: string): Account => {
    const account = accounts.get(agreement) ?? { count: 0, requests: 0, bytes: 0 };
    accounts.set(agreement, account);
    return account;
  };
  const soon = (work: () => void): void => {
    if (held === null) setImmediate(work);
    else held.push(work);
  };
  const refusalOf = (entry: UsageOpen, account: Account): AppError | null => {
    if (isFailing) return new AppError('journal-unavailable', { retryAfterSeconds: 5 });
    if (seen.has(keyOf(entry))) return new AppError('request-repeated');
    const isFull = account.requests + (entry.part === 1 ? 1 : 0) > requests || account.bytes + entry.reserved > bytes;
    return isFull ? new AppError('window-exhausted', { retryAfterSeconds: 1 }) : null;
  };
  const enter = (entry: UsageOpen): void => {
    const account = accountOf(entry.agreement);
    const first = entry.part === 1 ? 1 : 0;
    account.count += first;
    account.requests += first;
    account.bytes += entry.reserved;
    reserved.set(keyOf(entry), entry.reserved);
    seen.add(keyOf(entry));
  };
  const settle = (entry: UsageClose): void => {
    const account = accountOf(entry.agreement);
    const key = keyOf(entry);
    account.bytes += entry.bytes - (reserved.get(key) ?? 0);
    reserved.delete(key);
  };
  for (const entry of options.entries ?? []) {
    entries.push(entry);
    if (entry.t === 'open') enter(entry);
    else settle(entry);
  }

  return {
    entries,
    opened: () => entries.filter((entry) => entry.t === 'open'),
    closed: () => entries.filter((entry) => entry.t === 'close'),
    hold: () => {
      held = [];
      return () => {
        const waiting = held ?? [];
        held = null;
        for (const work of waiting) work();
      };
    },
    fail: (failing) => {
      isFailing = failing;
    },
    prepare: () => true,
    open: (value, done) => {
      const entry = usageOpen.parse(value);
      const refusal = refusalOf(entry, accountOf(entry.agreement));
      if (refusal === null) enter(entry);
      soon(() => {
        if (refusal === null) entries.push(entry);
        done(refusal);
      });
    },
    extend: (agreement, request, part, more) => {
      const key = keyOf({ agreement, request, part });
      const account = accountOf(agreement);
      const have = reserved.get(key);
      if (have === undefined || account.bytes + more > bytes) return false;
      account.bytes += more;
      reserved.set(key, have + more);
      return true;
    },
    close: (value, done) => {
      const entry = usageClose.parse(value);
      if (!reserved.has(keyOf(entry))) throw new Error(`closed without being open: ${keyOf(entry)}`);
      settle(entry);
      soon(() => {
        if (!isFailing) entries.push(entry);
        done?.(isFailing);
      });
    },
    count: (agreement) => accountOf(agreement).count,
    remaining: (agreement) => {
      const account = accountOf(agreement);
      return { requests: requests - account.requests, bytes: bytes - account.bytes };
    },
    recent: (ms) => entries.filter((entry) => entry.t === 'open').filter(({ at }) => at >= clock.now() - ms),
    isReady: () => !isFailing,
  };
};
