import { isAppError } from '../../contracts/errors.ts';
import type { TaskResult } from '../../kernel/sql/outbox.ts';
import { type Amendment, amendProcess } from '../exchange/send.ts';
import type { Action } from './deciding.ts';
import type { PushResult, TransferData, TransferRow } from './ports.ts';
import type { Exchanged, TransferOptions } from './process.ts';
import { pushFormat, sinkOf } from './rules.ts';

/**
 * A provider brings the data of a started push, and completes the transfer when it is there. One process at a time does it; a
 * process that dies leaves it to the next look. What fails is tried again a few times from the beginning, then the transfer
 * is terminated with the reason, so that both operators see it.
 */

export interface Pushing {
  /** Called from the outbox after each change: `later` as long as something is to be brought. */
  readonly look: (row: TransferRow) => TaskResult;
}

/** The pauses between them are the outbox's, and grow. */
const maxAttempts = 8;
/** So long a claim counts; it is renewed each third of it, and what the row says then stops the push. */
const claimMs = 15_000;

type Amended = Amendment<TransferData> | undefined;

const isToPush = ({ process, data }: TransferRow): boolean =>
  process.role === 'provider' && process.state === 'STARTED' && data.format === pushFormat;

/** Claims the push for this process, or makes the claim longer; false when it is not ours to do. */
const claim = async (its: Exchanged, { holder }: TransferOptions, row: TransferRow): Promise<boolean> => {
  const now = its.clock.now();
  const kept = await amendProcess(its, row, ({ process, data }): Amended => {
    const isTaken = data.pushing != null && data.pushing.by !== holder && data.pushing.until > now;
    if (process.state !== 'STARTED' || process.pending !== null || isTaken) return undefined;
    return { data: { ...data, pushing: { by: holder, until: now + claimMs } }, work: false };
  });
  return kept.process.state === 'STARTED' && kept.process.pending === null && kept.data.pushing?.by === holder;
};

/** Pushes once; a transfer that is no longer ours to push stops it. */
const pushOnce = async (its: Exchanged, options: TransferOptions, row: TransferRow): Promise<PushResult> => {
  const sink = sinkOf(row.data.dataAddress);
  if ('fault' in sink) return { state: 'failed', reason: `The data address ${sink.fault}.`, isFinal: true };
  const over = new AbortController();
  const watch = async (): Promise<void> => {
    for (;;) {
      await its.clock.sleep(claimMs / 3, over.signal);
      if (over.signal.aborted) return;
      if (!(await claim(its, options, row))) options.pusher.stop(row);
    }
  };
  const watching = watch().catch((error: unknown) => {
    its.log.warn({ error, pid: row.pid }, 'a push lost its claim');
    options.pusher.stop(row);
  });
  try {
    return await options.pusher.push(row, sink);
  } catch (error) {
    if (!isAppError(error)) throw error;
    return { state: 'failed', reason: error.detail ?? error.title, isFinal: error.status < 500 };
  } finally {
    over.abort();
    await watching;
  }
};

export const createPushing = (
  its: Exchanged,
  options: TransferOptions,
  perform: (row: TransferRow, action: Action) => Promise<TransferRow>,
): Pushing => {
  const running = new Set<string>();
  const attempts = new Map<string, number>();

  /** The transfer may have been ended or suspended meanwhile: then there is nothing more to say. */
  const conclude = async (row: TransferRow, action: Action): Promise<void> => {
    try {
      await perform(row, action);
    } catch (error) {
      if (!isAppError(error, 'illegal-transition')) throw error;
    }
  };

  const run = async (row: TransferRow, attempt: number): Promise<void> => {
    if (!(await claim(its, options, row))) return;
    const result = await pushOnce(its, options, row);
    if (result.state !== 'failed') {
      if (result.state === 'delivered') await conclude(row, { do: 'complete' });
      return;
    }
    its.log.warn({ pid: row.pid, attempt, reason: result.reason }, 'a push failed');
    if (result.isFinal || attempt >= maxAttempts)
      await conclude(row, { do: 'terminate', code: 'push-failed', reason: [result.reason] });
  };

  return {
    look: (row) => {
      const key = `${row.participant} ${row.pid}`;
      if (!isToPush(row)) {
        attempts.delete(key);
        return 'done';
      }
      if (running.has(key)) return 'later';
      const attempt = (attempts.get(key) ?? 0) + 1;
      attempts.set(key, attempt);
      running.add(key);
      run(row, attempt)
        .catch((error: unknown) => its.log.error({ error, pid: row.pid }, 'a push could not be carried out'))
        .finally(() => running.delete(key));
      return 'later';
    },
  };
};
