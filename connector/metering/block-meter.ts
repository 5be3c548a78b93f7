import { AppError } from '../../contracts/errors.ts';
import type { UsageClose, UsageOpen } from '../../contracts/ledger/usage-entry.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { keyOf, unknownClose } from './account.ts';
import { Journal, type JournalOptions } from './journal.ts';
import type { Lease, Recall, ShippedAccess, WindowLine } from './lender.ts';
import type { Load, MeterRole } from './ports.ts';
import {
  createLateSegments,
  createRecentRequests,
  generationMs,
  isRepeat,
  type LateSegments,
  type RecentRequest,
  type RecentRequests,
} from './recent-requests.ts';
import { createReplayed } from './replayed.ts';
import { segmentOf } from './segments.ts';
import { leastBytes, loadOf, minus, nothing, plus, type Rates, reservation, roomFor } from './window.pure.ts';

/**
 * The meter of a data-plane worker: opens accesses out of blocks that it leased, records them in a journal of its own, and
 * hands them over when they are complete. Nothing on the way of a request waits for another thread while the block holds.
 */

type OpenDone = (refusal: AppError | null) => void;

export interface BlockMeter {
  /** Whether an access can be judged at once; if not, `done` is called when it can: it is counted, or more is leased first. */
  readonly prepare: (agreement: string, done: () => void, isCounted?: boolean) => boolean;
  readonly open: (entry: UsageOpen, done: OpenDone) => void;
  readonly extend: (agreement: string, request: string, part: number, bytes: number) => boolean;
  readonly close: (entry: UsageClose, done?: (failed: boolean) => void) => void;
  /** In the `done` of `prepare`, for an access that is counted; whatever else asks hears that there were too many. */
  readonly count: (agreement: string) => number;
  readonly remaining: (agreement: string) => { readonly requests: number; readonly bytes: number };
  readonly recent: (ms: number) => readonly RecentRequest[];
  readonly isReady: () => boolean;
}

export interface BlockMeterOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly line: WindowLine;
}

interface Running {
  readonly open: UsageOpen;
  openPlace: number;
  /** What it took of the block; null for one that was read from the journal: the lender counts it as open. */
  reserved: Load | null;
  readonly isCounted: boolean;
  /** `lost`: it ended, and the journal did not take its close. */
  standing: 'open' | 'closing' | 'lost';
}

interface Desk {
  readonly agreement: string;
  rates: Rates;
  role: MeterRole;
  left: Load;
  /** Half of the block as it came last: below it more is leased. */
  low: Load;
  /** How many were opened before the access that is judged now; null when none is, or it was opened. */
  counted: number | null;
  /** Accesses that wait to be counted. */
  counting: number;
  until: number;
  free: Pick<Load, 'requests' | 'bytes'>;
  readonly running: Map<string, Running>;
  /** Complete, and not handed over yet. */
  waiting: number;
  asking: Promise<void> | undefined;
  refusal: AppError | undefined;
  /** After a refusal nothing is asked for before this time. */
  askAgainAt: number;
  isEnded: boolean;
  isUsed: boolean;
}

interface Waiting extends ShippedAccess {
  readonly desk: Desk;
}

interface State extends BlockMeterOptions {
  readonly desks: Map<string, Desk>;
  /** In the order of their closes. */
  readonly waiting: Map<string, Waiting>;
  /** Of agreements that nobody knows: asked again from time to time. */
  readonly parked: Map<string, Waiting>;
  readonly recent: RecentRequests;
  readonly late: LateSegments;
  journal: Journal | undefined;
  marked: number;
  /** Something waits to be handed over. */
  readonly wake: () => void;
}

const retrySeconds = 5;
const askAgainMs = 250;
/** A lease that ends sooner is renewed. */
const renewMs = 5_000;

const createDesk = (state: State, agreement: string): Desk => {
  const desk: Desk = {
    agreement,
    rates: {},
    role: 'provider',
    left: nothing,
    low: nothing,
    counted: null,
    counting: 0,
    until: 0,
    free: nothing,
    running: new Map(),
    waiting: 0,
    asking: undefined,
    refusal: undefined,
    askAgainAt: 0,
    isEnded: false,
    isUsed: false,
  };
  state.desks.set(agreement, desk);
  return desk;
};

const deskOf = (state: State, agreement: string): Desk => state.desks.get(agreement) ?? createDesk(state, agreement);

const isPriced = ({ rates }: Desk): boolean => Object.keys(rates).length > 0;

/** Whether the block holds one more access of the least size. */
const holdsOne = (desk: Desk, now: number): boolean =>
  now < desk.until && roomFor(desk.left, reservation(desk.rates, 1, leastBytes), isPriced(desk));

const isLow = (desk: Desk, now: number): boolean => {
  const { left, low, until } = desk;
  const isShort = left.requests < low.requests || left.bytes < low.bytes || (isPriced(desk) && left.cost < low.cost);
  return isShort || until - now < renewMs;
};

const takeLease = (desk: Desk, lease: Lease): void => {
  if (lease.kind === 'refused') {
    desk.refusal = new AppError(lease.code, { retryAfterSeconds: retrySeconds });
    desk.isEnded ||= lease.code === 'agreement-ended';
    return;
  }
  desk.refusal = undefined;
  desk.rates = lease.rates;
  desk.role = lease.role;
  desk.left = plus(desk.left, lease.load);
  desk.low = { requests: desk.left.requests / 2, bytes: desk.left.bytes / 2, cost: desk.left.cost / 2 };
  desk.until = lease.until;
  desk.free = lease.free;
};

const unavailable = (): AppError => new AppError('window-exhausted', { retryAfterSeconds: retrySeconds });

/** Asks for more, once at a time. */
const ask = (state: State, desk: Desk): Promise<void> => {
  const { line, clock, log } = state;
  desk.asking ??= line
    .lease(desk.agreement, desk.left)
    .then((lease) => takeLease(desk, lease))
    .catch((error: unknown) => {
      log.warn({ error, agreement: desk.agreement }, 'nothing could be leased of a window');
      desk.refusal = unavailable();
    })
    .finally(() => {
      desk.asking = undefined;
      if (desk.refusal !== undefined) desk.askAgainAt = clock.now() + askAgainMs;
      if (desk.isEnded) giveBackUnused(state, desk);
    });
  return desk.asking;
};

const mayAsk = ({ clock }: State, { isEnded, askAgainAt }: Desk): boolean => {
  const wait = askAgainAt - clock.now();
  return !isEnded && (wait <= 0 || wait > askAgainMs); // a longer wait than we ever set: our clock jumped back
};

/** Gives back what no access uses; when nothing is under way the block ends, and the desk is forgotten. */
const giveBackUnused = (state: State, desk: Desk): void => {
  const { left: load, running, waiting, counting } = desk;
  const isAll = running.size + waiting + counting === 0 && desk.asking === undefined; // what was asked for may come
  desk.left = nothing;
  state.line.giveBack(desk.agreement, { load, isAll });
  if (isAll) state.desks.delete(desk.agreement);
};

const refusalOf = (state: State, desk: Desk, entry: UsageOpen): AppError | undefined => {
  const { recent, clock, journal } = state;
  if (desk.isEnded) return new AppError('agreement-ended');
  const isRunning = (part: number) => desk.running.has(keyOf(entry.request, part));
  if (isRepeat(recent, entry, { now: clock.now(), isRunning })) return new AppError('request-repeated');
  const need = reservation(desk.rates, entry.part, entry.reserved);
  if (clock.now() >= desk.until || !roomFor(desk.left, need, isPriced(desk))) return desk.refusal ?? unavailable();
  return journal?.isReady() === true
    ? undefined
    : new AppError('journal-unavailable', { retryAfterSeconds: retrySeconds });
};

/** Takes what an access reserves out of the block. */
const take = (desk: Desk, entry: UsageOpen): Running => {
  const reserved = reservation(desk.rates, entry.part, entry.reserved);
  desk.left = minus(desk.left, reserved);
  desk.isUsed = true;
  const isCounted = entry.part === 1 && desk.counted !== null;
  if (isCounted) desk.counted = null;
  return { open: { ...entry, proof: '' }, openPlace: 0, reserved, isCounted, standing: 'open' };
};

const putBack = ({ line }: State, desk: Desk, { reserved, isCounted }: Running): void => {
  if (reserved !== null) desk.left = plus(desk.left, reserved);
  if (isCounted) line.uncount(desk.agreement);
};

const askIfLow = (state: State, desk: Desk): void => {
  if (isLow(desk, state.clock.now()) && mayAsk(state, desk)) void ask(state, desk);
};

const open = (state: State, entry: UsageOpen, done: OpenDone): void => {
  const { journal, recent, late, clock } = state;
  const desk = deskOf(state, entry.agreement);
  const refusal = refusalOf(state, desk, entry);
  if (refusal !== undefined || journal === undefined) {
    askIfLow(state, desk);
    done(refusal ?? new AppError('journal-unavailable'));
    return;
  }
  const access = take(desk, entry);
  const key = keyOf(entry.request, entry.part);
  desk.running.set(key, access);
  recent.remember(entry, clock.now());
  askIfLow(state, desk);
  journal.append(JSON.stringify(entry), (place) => {
    if (place === undefined) {
      desk.running.delete(key);
      putBack(state, desk, access);
      done(new AppError('journal-unavailable', { retryAfterSeconds: retrySeconds }));
      return;
    }
    access.openPlace = place;
    late.note(segmentOf(place), clock.now());
    done(null);
  });
};

/** What an access takes of the block in the end: what it used, or what there is of it. */
const drawnBy = (desk: Desk, reserved: Load, close: UsageClose): Load => {
  const used = loadOf(desk.role, desk.rates, close);
  const most = plus(reserved, desk.left);
  const within = (name: keyof Load) => Math.min(used[name], Math.max(reserved[name], most[name]));
  return { requests: within('requests'), bytes: within('bytes'), cost: within('cost') };
};

/** A close stands in the journal: the access waits to be handed over. */
const enterClosed = (state: State, desk: Desk, key: string, close: UsageClose): void => {
  const access = desk.running.get(key);
  if (access === undefined) return;
  desk.running.delete(key);
  const { open: opened, openPlace, reserved, isCounted } = access;
  const drawn = reserved === null ? nothing : drawnBy(desk, reserved, close);
  if (reserved !== null) desk.left = minus(plus(desk.left, reserved), drawn);
  desk.waiting += 1;
  const closedAt = state.clock.now();
  const name = `${desk.agreement} ${key}`;
  state.waiting.set(name, { desk, open: opened, close, closedAt, openPlace, drawn, isCounted });
  state.wake();
};

const close = (state: State, entry: UsageClose, done: (failed: boolean) => void): void => {
  const { journal } = state;
  const desk = state.desks.get(entry.agreement);
  const key = keyOf(entry.request, entry.part);
  const access = desk?.running.get(key);
  if (desk === undefined || access?.standing !== 'open' || journal === undefined) {
    done(true);
    return;
  }
  access.standing = 'closing';
  journal.append(JSON.stringify(entry), (place) => {
    if (place === undefined) access.standing = 'lost';
    else enterClosed(state, desk, key, entry);
    done(place === undefined);
  });
};

const extend = (state: State, agreement: string, key: string, bytes: number): boolean => {
  const desk = state.desks.get(agreement);
  const access = desk?.running.get(key);
  if (desk === undefined || access?.standing !== 'open' || access.reserved === null) return false;
  const more = reservation(desk.rates, 0, bytes);
  const isIn = state.clock.now() < desk.until && roomFor(desk.left, more, isPriced(desk));
  if (isIn) {
    desk.left = minus(desk.left, more);
    access.reserved = plus(access.reserved, more);
    desk.isUsed = true;
  }
  askIfLow(state, desk);
  return isIn;
};

/** Closes as `unknown` what ended without a close in the journal. */
const closeLost = (state: State): void => {
  for (const desk of state.desks.values())
    for (const [key, access] of desk.running) {
      if (access.standing !== 'lost') continue;
      const entry = unknownClose(desk.agreement, access.open);
      access.standing = 'closing';
      state.journal?.append(JSON.stringify(entry), (place) => {
        if (place === undefined) access.standing = 'lost';
        else enterClosed(state, desk, key, entry);
      });
    }
};

/** The first segment of the journal that is needed at the next start: for repeats, or for what was not handed over. */
const lowestSegment = ({ desks, waiting, parked, late, journal, clock }: State): number => {
  late.note(journal?.segment ?? 0, clock.now());
  let lowest = late.oldest(clock.now());
  const see = ({ openPlace }: { readonly openPlace: number }): void => {
    if (openPlace > 0) lowest = Math.min(lowest, segmentOf(openPlace));
  };
  for (const { running } of desks.values()) for (const access of running.values()) see(access);
  for (const one of waiting.values()) see(one);
  for (const one of parked.values()) see(one);
  return lowest;
};

const moveMark = async (state: State): Promise<void> => {
  const lowest = lowestSegment(state);
  if (lowest <= state.marked) return;
  await state.line.mark(lowest);
  state.marked = lowest;
};

const batchSize = 512;

/** Hands over what waits, a batch at a time. What is handed over stands in rows; only then the mark may pass it. */
const shipAll = async (state: State): Promise<void> => {
  const { waiting, parked, line } = state;
  while (waiting.size > 0) {
    const batch = [...waiting].slice(0, batchSize);
    const unknown = new Set(await line.ship(batch.map(([, { desk: _desk, ...access }]) => access)));
    for (const [name, one] of batch) {
      waiting.delete(name);
      one.desk.waiting -= 1;
      if (unknown.has(name)) parked.set(name, one);
      else if (one.desk.isEnded && one.desk.waiting === 0) giveBackUnused(state, one.desk); // a final statement may wait for it
    }
    await moveMark(state);
  }
};

/** What was parked is tried again, behind everything else. */
const unpark = ({ waiting, parked }: State): void => {
  for (const [name, one] of parked) {
    one.desk.waiting += 1;
    waiting.set(name, one);
  }
  parked.clear();
};

/** Leases first where the block does not hold one more access. */
const leaseFirst = (state: State, desk: Desk): Promise<void> | undefined =>
  desk.isEnded || holdsOne(desk, state.clock.now()) || !mayAsk(state, desk) ? undefined : ask(state, desk);

/** Counts an access for the time of `done`; if it was not opened then, it was none. */
const countFirst = async (state: State, desk: Desk, done: () => void): Promise<void> => {
  const { line, log } = state;
  desk.counting += 1;
  await leaseFirst(state, desk);
  const counted = await line.count(desk.agreement).catch((error: unknown) => {
    log.warn({ error, agreement: desk.agreement }, 'an access could not be counted');
    return undefined;
  });
  desk.counting -= 1;
  desk.counted = counted ?? null;
  try {
    done();
  } finally {
    if (desk.counted !== null) line.uncount(desk.agreement);
    desk.counted = null;
  }
};

const prepare = (state: State, agreement: string, done: () => void, isCounted: boolean): boolean => {
  const desk = deskOf(state, agreement);
  if (isCounted) {
    void countFirst(state, desk, done);
    return false;
  }
  const leased = leaseFirst(state, desk);
  void leased?.then(done);
  return leased === undefined;
};

const meterOf = (state: State): BlockMeter => {
  const { desks, recent, clock } = state;
  return {
    prepare: (agreement, done, isCounted = false) => prepare(state, agreement, done, isCounted),
    open: (entry, done) => open(state, entry, done),
    extend: (agreement, request, part, bytes) => extend(state, agreement, keyOf(request, part), bytes),
    close: (entry, done = () => undefined) => close(state, entry, done),
    count: (agreement) => desks.get(agreement)?.counted ?? Number.MAX_SAFE_INTEGER,
    remaining: (agreement) => {
      const { left, free } = desks.get(agreement) ?? { left: nothing, free: nothing };
      return {
        requests: Math.max(0, Math.floor(left.requests + free.requests)),
        bytes: Math.max(0, Math.floor(left.bytes + free.bytes)),
      };
    },
    recent: (ms) => recent.list(clock.now() - ms),
    isReady: () => state.journal?.isReady() ?? false,
  };
};

/** What was read from the journal: what closed is handed over, what did not is told, and closed as `unknown`. */
const recover = async (state: State, replayed: ReturnType<typeof createReplayed>): Promise<void> => {
  const lost: UsageOpen[] = [];
  for (const agreement of replayed.agreements()) {
    const desk = deskOf(state, agreement);
    for (const [key, { open: opened, openPlace, close: end }] of replayed.take(agreement)) {
      desk.running.set(key, { open: opened, openPlace, reserved: null, isCounted: false, standing: 'lost' });
      if (end === undefined) lost.push(opened);
      else enterClosed(state, desk, key, end);
    }
  }
  await shipAll(state);
  await state.line.recovered(lost);
};

const sweepMs = 1_000;
const shipAfterMs = 20;
const sweepsPerUnpark = 60;

/** Renews what is used, and gives back what is not. */
const sweep = (state: State): void => {
  const now = state.clock.now();
  for (const desk of [...state.desks.values()]) {
    if (!desk.isUsed && desk.running.size === 0) giveBackUnused(state, desk);
    else if (desk.running.size > 0) askIfLow(state, desk);
    if (now >= desk.until) giveBackUnused(state, desk);
    desk.isUsed = false;
  }
};

export interface OpenedBlockMeter extends AsyncDisposable {
  readonly meter: BlockMeter;
  readonly recall: Recall;
}

export interface OpenBlockMeterOptions
  extends Pick<JournalOptions, 'files' | 'folder' | 'clock' | 'log' | 'from' | 'segmentBytes'> {
  /** Opens the line to the lender. */
  readonly connect: (recall: Recall) => WindowLine;
}

const createState = (options: BlockMeterOptions, wake: () => void): State => ({
  ...options,
  desks: new Map(),
  waiting: new Map(),
  parked: new Map(),
  recent: createRecentRequests(generationMs),
  late: createLateSegments(),
  journal: undefined,
  marked: 0,
  wake,
});

/** Hands over soon after something closed, and looks after the blocks once a second, until it is stopped. */
const startWork = (state: State, signal: AbortSignal, hasWork: () => Promise<void>): Promise<void> => {
  const { clock, log } = state;
  const ship = async (): Promise<void> => {
    for (;;) {
      await hasWork();
      if (signal.aborted) return;
      await clock.sleep(shipAfterMs, signal);
      await shipAll(state).catch(async (error: unknown) => {
        log.warn({ error }, 'complete accesses are handed over later');
        await clock.sleep(sweepMs, signal);
      });
    }
  };
  const look = async (): Promise<void> => {
    for (let count = 1; !signal.aborted; count += 1) {
      await clock.sleep(sweepMs, signal);
      sweep(state);
      if (count % sweepsPerUnpark === 0) unpark(state);
    }
  };
  return Promise.all([ship(), look()]).then(() => undefined);
};

/**
 * Opens the journal of a worker and its meter. What the journal holds is handed over first: nothing is leased before.
 *
 * @throws AppError `data-damaged`, and whatever handing over throws.
 */
export const openBlockMeter = async (options: OpenBlockMeterOptions): Promise<OpenedBlockMeter> => {
  const { clock, log, connect } = options;
  const stopped = new AbortController();
  let awake = Promise.withResolvers<void>();
  const recall: Recall = async (agreement, isEnded) => {
    const desk = state.desks.get(agreement);
    if (desk === undefined) return;
    desk.isEnded ||= isEnded;
    giveBackUnused(state, desk);
  };
  const state = createState({ clock, log, line: connect(recall) }, () => awake.resolve());
  const replayed = createReplayed((entry, place) => {
    state.late.note(segmentOf(place), clock.now());
    state.recent.remember(entry, entry.at);
  });
  const { files, folder, from, segmentBytes } = options;
  const journal = await Journal.open({
    ...{ files, folder, clock, log, from },
    replay: replayed.visit,
    onRecovered: () => closeLost(state),
    ...(segmentBytes === undefined ? {} : { segmentBytes }),
  });
  state.journal = journal;
  state.marked = from ?? 0;
  await recover(state, replayed);
  closeLost(state);
  const working = startWork(state, stopped.signal, async () => {
    if (state.waiting.size === 0 && !stopped.signal.aborted) await awake.promise;
    awake = Promise.withResolvers();
  });
  return {
    meter: meterOf(state),
    recall,
    [Symbol.asyncDispose]: async () => {
      try {
        await journal[Symbol.asyncDispose]();
      } finally {
        stopped.abort();
        awake.resolve();
        await working;
      }
      await shipAll(state).catch((error: unknown) =>
        log.warn({ error }, 'complete accesses are handed over at the next start'),
      );
      for (const desk of [...state.desks.values()]) giveBackUnused(state, desk);
    },
  };
};
