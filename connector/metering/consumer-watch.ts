import { parseTime } from '../../contracts/time.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import type { Random } from '../../kernel/random.ts';
import { type Account, isInUse } from './account.ts';
import type { Completion } from './completion.ts';
import { inOrder, pauseBefore } from './cut.pure.ts';
import type { PeerCalls } from './peer-calls.ts';
import { buildDraft, rowOfAccess } from './statements.ts';
import { isHalfFull, type Limits } from './window.pure.ts';

/**
 * What a consumer does on its own: asks which statement is the newest before it signs anything, asks for a statement at half
 * of its window, and keeps the intervals of `plain-dsp` agreements, about which nobody sends it anything.
 */

export interface WatchOptions {
  readonly calls: PeerCalls;
  readonly askNewest: (account: Account) => Promise<boolean>;
  readonly completion: Completion;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
  readonly window: Limits;
  readonly intervalMs: number;
  readonly pace: { readonly firstMs: number; readonly longestMs: number };
}

export interface ConsumerWatch extends AsyncDisposable {
  /** Whether the newest statement is known; when not, it is asked for. */
  readonly isAsked: (account: Account) => boolean;
  /** Something changed: looks at once. */
  readonly touch: (account: Account) => void;
}

interface Watched {
  readonly account: Account;
  isAsked: boolean;
  /** The provider speaks of a statement: what is the newest must be known now. */
  isWanted: boolean;
  isRunning: boolean;
  attempts: number;
  dueAt: number;
}

const pollMs = 1_000;
/** A provider answers 429 to more (wire §6). */
const requestAgainMs = 10_000;

/** An interval that only we keep: the records of it, with a seq and sums of our own, and no signature. */
const keepInterval = async (its: WatchOptions, account: Account): Promise<void> => {
  const closed = inOrder([...account.accesses.values()].filter(({ standing }) => standing === 'closed'));
  const isFinal = account.isEnded && account.counts.open + account.counts.lost + account.blocks.size === 0;
  const rows = closed.map(rowOfAccess);
  if (rows.length === 0 && !isFinal) return;
  const draft = await buildDraft({ account, rows, to: its.clock.now(), isFinal, random: its.random });
  await its.completion.complete(account, { ...draft, leafKey: null, artifact: null, state: 'complete' }, draft.rows);
};

const isIntervalOver = (its: WatchOptions, account: Account): boolean => {
  if (account.chain.isFinal) return false;
  const isOver = its.clock.now() - (parseTime(account.chain.to) ?? 0) >= its.intervalMs;
  return account.isEnded || (account.counts.closed > 0 && isOver);
};

/** One look at one account: true when it went well, and there is nothing to hurry about. */
const look = async (its: WatchOptions, account: Account, watched: Watched): Promise<boolean> => {
  if (account.info.assurance === 'plain-dsp') {
    if (isIntervalOver(its, account)) await keepInterval(its, account);
    return true;
  }
  if (!watched.isAsked) {
    watched.isAsked = await its.askNewest(account);
    return watched.isAsked;
  }
  await its.calls.request(account.info);
  watched.dueAt = its.clock.now() + requestAgainMs;
  return true;
};

/** What was never used is asked about when the provider speaks of a statement. */
const mustAsk = (account: Account, { isWanted }: Watched): boolean =>
  isWanted || (!account.chain.isFinal && isInUse(account));

const isDue = (its: WatchOptions, account: Account, watched: Watched): boolean => {
  const wait = watched.dueAt - its.clock.now();
  // A longer wait than we ever set: our clock jumped back.
  if (watched.isRunning || (wait > 0 && wait <= Math.max(its.pace.longestMs, requestAgainMs))) return false;
  if (account.info.assurance === 'plain-dsp') return isIntervalOver(its, account);
  if (!watched.isAsked) return mustAsk(account, watched);
  return !account.chain.isFinal && isHalfFull(account.exposed, account.oldestAt, its.clock.now(), its.window);
};

/** Whether it may become due by time alone; all others are left in peace until they are touched. */
const mayBecomeDue = (account: Account, watched: Watched): boolean => {
  const isOver = account.chain.isFinal;
  if (watched.isRunning) return true;
  if (account.info.assurance === 'plain-dsp') return !isOver && (account.isEnded || account.counts.closed > 0);
  return watched.isAsked ? !isOver && account.exposed.requests > 0 : mustAsk(account, watched);
};

export const startConsumerWatch = (its: WatchOptions): ConsumerWatch => {
  const { clock, log, pace } = its;
  const all = new Map<string, Watched>();
  const active = new Set<Watched>();
  const stopped = new AbortController();
  const running = new Set<Promise<void>>();
  let awake = Promise.withResolvers<void>();

  const watchedOf = (account: Account): Watched => {
    const known = all.get(account.info.agreement);
    if (known !== undefined) return known;
    const made = { account, isAsked: false, isWanted: false, isRunning: false, attempts: 0, dueAt: 0 };
    all.set(account.info.agreement, made);
    return made;
  };

  const run = async (account: Account, watched: Watched): Promise<void> => {
    try {
      const isWell = await look(its, account, watched);
      watched.attempts = isWell ? 0 : watched.attempts + 1;
    } catch (error) {
      watched.attempts += 1;
      log.error({ error, agreement: account.info.agreement }, 'an agreement could not be looked after');
    }
    if (watched.attempts > 0) watched.dueAt = clock.now() + pauseBefore(watched.attempts - 1, pace);
  };

  const start = (account: Account, watched: Watched): void => {
    watched.isRunning = true;
    const tracked: Promise<void> = run(account, watched).finally(() => {
      watched.isRunning = false;
      running.delete(tracked);
    });
    running.add(tracked);
  };

  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      awake = Promise.withResolvers<void>();
      for (const watched of active) {
        const { account } = watched;
        if (isDue(its, account, watched)) start(account, watched);
        else if (!mayBecomeDue(account, watched)) active.delete(watched);
      }
      const slept = new AbortController();
      await Promise.race([awake.promise, clock.sleep(Math.min(pollMs, pace.firstMs), slept.signal)]);
      slept.abort();
    }
  };
  const looping = loop().catch((error: unknown) => log.error({ error }, 'the consumer of statements stopped looking'));

  const touch = (account: Account): void => {
    const watched = watchedOf(account);
    if (mayBecomeDue(account, watched)) active.add(watched);
    if (isDue(its, account, watched)) awake.resolve();
  };
  return {
    isAsked: (account) => {
      const watched = watchedOf(account);
      watched.isWanted ||= !watched.isAsked;
      touch(account);
      return watched.isAsked;
    },
    touch,
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      awake.resolve();
      await looping;
      await Promise.all(running);
    },
  };
};
