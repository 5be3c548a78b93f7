import { AppError } from '../../contracts/errors.ts';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import {
  type Account,
  accessOf,
  addAccess,
  closeAccess,
  countedAhead,
  createAccount,
  dropAccess,
  extendAccess,
  keyOf,
  lentOf,
  type OpenedAccount,
  type PeerExposure,
  setStanding,
  unknownClose,
} from './account.ts';
import type { Journal } from './journal.ts';
import type { MeteredAgreement, MeterRole } from './ports.ts';
import {
  createLateSegments,
  createRecentRequests,
  generationMs,
  isRepeat,
  type LateSegments,
  type RecentRequest,
} from './recent-requests.ts';
import { createReplayed, type Replayed } from './replayed.ts';
import { segmentOf, type VisitEntry } from './segments.ts';
import { counterpartyFactor, fits, isTooOld, type Limits, nothing, reservation, times } from './window.pure.ts';

/**
 * The meter of one role (ledger §7, §8): bounds exposure, writes `open` and `close` into the journal before it answers, and
 * knows what waits to be stated. It implements the data plane's `UsageMeter`.
 */

export interface MeterOptions {
  readonly role: MeterRole;
  readonly clock: Clock;
  readonly log: Logger;
  readonly window: Limits;
  /** Of `plain-dsp` agreements, prepaid. */
  readonly quota: { readonly requests: number; readonly bytes: number };
  /** Something closed, or the window is used up: whoever writes statements should look. */
  readonly onChange: (account: Account) => void;
  /** Has workers give back what they do not use of an agreement; without it there are none. */
  readonly reclaim?: (account: Account) => Promise<void>;
}

type OpenDone = (refusal: AppError | null) => void;

export interface Meter {
  /** Everything is here: an access can be judged at once. */
  readonly prepare: (agreement: string, done: () => void) => boolean;
  readonly open: (entry: UsageOpen, done: OpenDone) => void;
  readonly extend: (agreement: string, request: string, part: number, bytes: number) => boolean;
  readonly close: (entry: UsageClose, done?: (failed: boolean) => void) => void;
  readonly count: (agreement: string) => number;
  readonly remaining: (agreement: string) => { readonly requests: number; readonly bytes: number };
  readonly recent: (ms: number) => readonly RecentRequest[];
  readonly isReady: () => boolean;
  /** Takes a line of the journal at start. @throws AppError `data-damaged`. */
  readonly replay: VisitEntry;
  readonly attach: (journal: Journal) => void;
  /** Puts an account to work, with what the journal holds of it apart from what is settled. */
  readonly add: (opened: Omit<OpenedAccount, 'peer'>, settled: ReadonlySet<string>) => Account;
  readonly find: (agreement: string) => Account | undefined;
  readonly accounts: () => Iterable<Account>;
  /**
   * Closes as `unknown` what ended without a close in the journal, of one account or all: after a start, and when a journal
   * takes lines again.
   */
  readonly closeLost: (of?: Account) => void;
  /** The first segment of the journal that still matters. */
  readonly lowestSegment: () => number;
}

const retryWindowSeconds = 5;
const retryQuotaSeconds = 3_600;

const refused = (code: 'window-exhausted' | 'quota-exhausted', retryAfterSeconds: number): AppError =>
  new AppError(code, { retryAfterSeconds });

/** The window of `plain-dsp`: a prepaid quota that never returns. */
const fitsQuota = (
  account: Account,
  ask: { readonly requests: number; readonly bytes: number },
  quota: MeterOptions['quota'],
): boolean =>
  account.opened + lentOf(account).requests + ask.requests <= quota.requests &&
  account.settledBytes + account.exposed.bytes + ask.bytes <= quota.bytes;

/** Whether the exposure of this agreement, and of all with its counterparty, leaves room for more. */
const fitsWindow = (
  account: Account,
  ask: Parameters<typeof fits>[1],
  { window, clock }: Pick<MeterOptions, 'window' | 'clock'>,
): boolean => {
  const { peer, currency } = account;
  const ofPeer = { ...peer.exposed, cost: peer.costs.get(currency) ?? 0 };
  return (
    !isTooOld(account.oldestAt, clock.now(), window) &&
    fits(account.exposed, ask, window) &&
    fits(ofPeer, ask, times(window, counterpartyFactor))
  );
};

const admits = (account: Account, ask: Parameters<typeof fits>[1], options: MeterOptions): AppError | undefined => {
  if (account.info.assurance === 'cosigned')
    return fitsWindow(account, ask, options) ? undefined : refused('window-exhausted', retryWindowSeconds);
  const isBound = account.info.role === 'provider'; // as consumer, the provider's quota bounds us
  return isBound && !fitsQuota(account, ask, options.quota) ? refused('quota-exhausted', retryQuotaSeconds) : undefined;
};

const remainingOf = (account: Account, { window, quota }: MeterOptions) => {
  const atLeastNone = (value: number) => Math.max(0, Math.floor(value));
  if (account.info.assurance !== 'cosigned')
    return {
      requests: atLeastNone(quota.requests - account.opened - lentOf(account).requests),
      bytes: atLeastNone(quota.bytes - account.settledBytes - account.exposed.bytes),
    };
  const { exposed, peer } = account;
  const left = (name: 'requests' | 'bytes') =>
    Math.min(window[name] - exposed[name], window[name] * counterpartyFactor - peer.exposed[name]);
  return { requests: atLeastNone(left('requests')), bytes: atLeastNone(left('bytes')) };
};

const counterparty = ({ participant, role, provider, consumer }: MeteredAgreement): string =>
  `${participant} ${role === 'provider' ? consumer : provider}`;

interface State {
  readonly options: MeterOptions;
  readonly accounts: Map<string, Account>;
  readonly peers: Map<string, PeerExposure>;
  readonly recent: ReturnType<typeof createRecentRequests>;
  /** What the journal held at start, until its account is there. */
  readonly replayed: Replayed;
  readonly late: LateSegments;
  journal: Journal | undefined;
}

const refusalOf = (state: State, account: Account, entry: UsageOpen): AppError | undefined => {
  const { options, journal } = state;
  if (account.isEnded) return new AppError('agreement-ended');
  const isRunning = (part: number) => account.accesses.has(keyOf(entry.request, part));
  if (isRepeat(state.recent, entry, { now: options.clock.now(), isRunning })) return new AppError('request-repeated');
  const full = admits(account, reservation(account.rates, entry.part, entry.reserved), options);
  if (full !== undefined) return full;
  return journal?.isReady() === true
    ? undefined
    : new AppError('journal-unavailable', { retryAfterSeconds: retryWindowSeconds });
};

const isFull = (refusal: AppError | undefined): boolean =>
  refusal?.code === 'window-exhausted' || refusal?.code === 'quota-exhausted';

const open = (state: State, entry: UsageOpen, done: OpenDone, isSecond = false): void => {
  const { options, journal, recent } = state;
  const account = state.accounts.get(entry.agreement);
  const refusal = account === undefined ? new AppError('agreement-ended') : refusalOf(state, account, entry);
  if (account === undefined || refusal !== undefined || journal === undefined) {
    const mayReclaim = account !== undefined && account.blocks.size > 0 && !isSecond && isFull(refusal);
    if (mayReclaim && options.reclaim !== undefined) {
      void options.reclaim(account).finally(() => open(state, entry, done, true));
      return;
    }
    if (account !== undefined && refusal?.code === 'window-exhausted') options.onChange(account);
    done(refusal ?? new AppError('journal-unavailable'));
    return;
  }
  const access = accessOf(entry, 0, reservation(account.rates, entry.part, entry.reserved));
  addAccess(account, access);
  recent.remember(entry, options.clock.now());
  journal.append(JSON.stringify(entry), (place) => {
    if (place === undefined) {
      dropAccess(account, access);
      done(new AppError('journal-unavailable', { retryAfterSeconds: retryWindowSeconds }));
      return;
    }
    access.openPlace = place;
    state.late.note(segmentOf(place), options.clock.now());
    done(null);
  });
};

const close = (state: State, entry: UsageClose, done: (failed: boolean) => void): void => {
  const { options, journal } = state;
  const account = state.accounts.get(entry.agreement);
  const access = account?.accesses.get(keyOf(entry.request, entry.part));
  if (account === undefined || access?.standing !== 'open' || journal === undefined) {
    done(true);
    return;
  }
  journal.append(JSON.stringify(entry), (place) => {
    if (place === undefined) setStanding(account, access, 'lost');
    else closeAccess(account, access, entry, options.clock.now(), place);
    options.onChange(account);
    done(place === undefined);
  });
};

const closeLost = ({ accounts, journal, options }: State, of?: Account): void => {
  for (const account of of === undefined ? accounts.values() : [of])
    for (const access of account.counts.lost > 0 ? account.accesses.values() : []) {
      if (access.standing !== 'lost') continue;
      const entry = unknownClose(account.info.agreement, access);
      journal?.append(JSON.stringify(entry), (place) => {
        if (place === undefined || access.standing !== 'lost') return;
        closeAccess(account, access, entry, options.clock.now(), place);
        options.onChange(account);
      });
    }
};

/** What the journal holds of an account and no statement: closed, or lost when the machine went down. */
const takeReplayed = (state: State, account: Account, settled: ReadonlySet<string>, settledBefore: number): void => {
  const { agreement } = account.info;
  for (const [key, { open: entry, openPlace, close: end, closePlace = 0 }] of state.replayed.take(agreement)) {
    if (settled.has(key) || (end !== undefined && closePlace <= settledBefore)) continue;
    const access = accessOf(entry, openPlace, reservation(account.rates, entry.part, entry.reserved));
    addAccess(account, access);
    if (end === undefined) setStanding(account, access, 'lost');
    else closeAccess(account, access, end, entry.at, closePlace);
  }
};

const add = (state: State, opened: Omit<OpenedAccount, 'peer'>, settled: ReadonlySet<string>): Account => {
  const name = counterparty(opened.stored.info);
  const peer = state.peers.get(name) ?? { exposed: nothing, costs: new Map<string, number>() };
  state.peers.set(name, peer);
  const account = createAccount({ ...opened, peer });
  state.accounts.set(account.info.agreement, account);
  takeReplayed(state, account, settled, opened.stored.settledBefore);
  return account;
};

const lowestSegment = (state: State): number => {
  const { accounts, journal, late, options } = state;
  const now = options.clock.now();
  late.note(journal?.segment ?? 0, now);
  let lowest = late.oldest(now);
  for (const { accesses } of accounts.values())
    for (const { openPlace } of accesses.values()) {
      if (openPlace === 0) continue; // not in this journal, or not yet
      lowest = Math.min(lowest, segmentOf(openPlace));
      break; // in order of opening: the first is the oldest
    }
  return lowest;
};

/** The meter of one role; it takes entries once a journal is attached. */
export const createMeter = (options: MeterOptions): Meter => {
  const recent = createRecentRequests(generationMs);
  const late = createLateSegments();
  const state: State = {
    options,
    accounts: new Map(),
    peers: new Map(),
    recent,
    replayed: createReplayed((entry, place) => {
      late.note(segmentOf(place), options.clock.now());
      recent.remember(entry, entry.at);
    }),
    late,
    journal: undefined,
  };
  const { accounts } = state;
  return {
    prepare: () => true,
    open: (entry, done) => open(state, entry, done),
    extend: (agreement, request, part, bytes) => {
      const account = accounts.get(agreement);
      const access = account?.accesses.get(keyOf(request, part));
      if (account === undefined || access?.standing !== 'open') return false;
      const more = reservation(account.rates, 0, bytes);
      if (admits(account, more, options) !== undefined) {
        options.onChange(account);
        return false;
      }
      extendAccess(account, access, more);
      return true;
    },
    close: (entry, done = () => undefined) => close(state, entry, done),
    count: (agreement) => {
      const account = accounts.get(agreement);
      return account === undefined ? 0 : account.opened + countedAhead(account);
    },
    remaining: (agreement) => {
      const account = accounts.get(agreement);
      return account === undefined ? { requests: 0, bytes: 0 } : remainingOf(account, options);
    },
    recent: (ms) => state.recent.list(options.clock.now() - ms),
    isReady: () => state.journal?.isReady() ?? false,
    replay: state.replayed.visit,
    attach: (journal) => {
      state.journal = journal;
    },
    add: (opened, settled) => add(state, opened, settled),
    find: (agreement) => accounts.get(agreement),
    accounts: () => accounts.values(),
    closeLost: (of) => closeLost(state, of),
    lowestSegment: () => lowestSegment(state),
  };
};
