import type { Did } from '../../contracts/ids.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { Logger } from '../../kernel/log.ts';
import { createBook } from './book.ts';
import type { Notice } from './ports.ts';
import { type Elapsed, elapse, judgeSilence, silenceAfterMs } from './rules.ts';
import { createListeners, type StandingAnswer } from './service.ts';

/**
 * What is known of standing, once more: for a thread that serves data on its own (wire §7). It hears of each change, and four
 * times a second how long the broker has been silent; when it hears nothing, silence goes on by its own clock.
 */

/** What a mirror is told. */
export type StatusNews =
  | { readonly kind: 'put' | 'remove'; readonly notice: Notice }
  /** Without a broker nobody is missed: `silentMs` is null. */
  | { readonly kind: 'pulse'; readonly silentMs: number | null; readonly isWhole: boolean };

export interface StatusMirror extends AsyncDisposable {
  readonly take: (news: StatusNews) => void;
  /** Who issued a credential: then nobody else's word about it counts. */
  readonly learn: (subject: string, issuer: Did) => void;
  readonly check: (subjects: readonly string[], silence: 'strict' | number) => StandingAnswer;
  /** Calls back at once after every change, and about every 250 ms during silence. */
  readonly onChange: (listener: () => void) => void;
}

const tickMs = 250;
const maxIssuers = 100_000;

export const createStatusMirror = ({ clock, log }: { readonly clock: Clock; readonly log: Logger }): StatusMirror => {
  const issuers = new Map<string, Did>();
  const book = createBook([], (subject) => issuers.get(subject));
  const changes = createListeners<void>(log);
  const stopped = new AbortController();
  let time: Elapsed = { seen: clock.now(), total: 0 };
  let latest = time.seen;
  /** As far as was told: how long it was silent, and when that was, on the clock of `total`. */
  let pulse = { silentMs: Number.POSITIVE_INFINITY as number | null, at: 0, isWhole: false };

  const total = (): number => {
    time = elapse(time, clock.now());
    latest = Math.max(latest, time.seen);
    return time.total;
  };
  const silentMs = (): number => {
    const now = total();
    return pulse.silentMs === null ? 0 : pulse.silentMs + now - pulse.at;
  };
  const loop = async (): Promise<void> => {
    for (let wasSilent = false, last = latest; !stopped.signal.aborted; ) {
      await clock.sleep(tickMs, stopped.signal);
      const isSilent = silentMs() > silenceAfterMs;
      if (isSilent || wasSilent || book.hasFallenDue(last, latest)) changes.tell();
      wasSilent = isSilent;
      last = latest;
    }
  };
  const looping = loop();
  return {
    take: (news) => {
      if (news.kind === 'pulse') {
        pulse = { silentMs: news.silentMs, at: total(), isWhole: news.isWhole };
        return;
      }
      book[news.kind](news.notice);
      changes.tell();
    },
    learn: (subject, issuer) => {
      if (issuers.size >= maxIssuers) issuers.clear();
      issuers.set(subject, issuer);
    },
    check: (subjects, allowed) => {
      const silent = silentMs();
      for (const subject of subjects) if (book.isOut(subject, latest)) return { state: 'revoked' };
      return pulse.isWhole ? judgeSilence(silent, allowed) : { state: 'unknown' };
    },
    onChange: (listener) => changes.add(listener),
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await looping;
    },
  };
};
