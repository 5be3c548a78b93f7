import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { Leases } from './leases.ts';

/** A part of a service that runs in one process at a time, whichever it is. */

/** The time in which this process runs the part. */
export interface Term {
  /** Whether the lease is still ours; it runs on from now. Asked before a step that must not be done twice. */
  readonly isHeld: () => Promise<boolean>;
  /** Gives the part up: it is disposed, and begins anew, here or elsewhere. */
  readonly end: () => void;
}

export interface LeasedPartOptions {
  readonly leases: Leases;
  /** Of the lease: one for each such part. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Begins the part; it is disposed when the lease passes on. The lease is renewed meanwhile. */
  readonly begin: (term: Term) => Promise<AsyncDisposable> | AsyncDisposable;
  /** How long a process that died keeps the part from running elsewhere. */
  readonly leaseMs?: number;
}

const ordinaryLeaseMs = 10_000;
const renewalsPerLease = 4;

/** Runs the part while this process has the lease, and waits for the lease while another has it. */
export const startLeasedPart = (options: LeasedPartOptions): AsyncDisposable => {
  const { leases, name, clock, log, begin, leaseMs = ordinaryLeaseMs } = options;
  const stopped = new AbortController();
  const pause = (signal: AbortSignal) => clock.sleep(leaseMs / renewalsPerLease, signal);

  const keep = async (lease: { readonly fence: number }, signal: AbortSignal): Promise<void> => {
    let until = clock.now() + leaseMs;
    while (!signal.aborted && clock.now() < until) {
      await pause(signal);
      const before = clock.now();
      const isKept = await leases.renew(name, lease, leaseMs).catch((err: unknown) => {
        log.warn({ err, name }, 'a lease was not renewed');
        return undefined; // perhaps it was: until its end nobody else has it
      });
      if (isKept === false) return;
      if (isKept === true) until = before + leaseMs;
    }
  };
  const turn = async (): Promise<void> => {
    const lease = await leases.take(name, leaseMs);
    if (lease === undefined) return;
    const over = new AbortController();
    const keeping = keep(lease, AbortSignal.any([stopped.signal, over.signal]));
    try {
      await using _part = await begin({
        isHeld: () => leases.renew(name, lease, leaseMs).catch(() => false),
        end: () => over.abort(),
      });
      await keeping;
    } finally {
      over.abort();
      await keeping;
      await leases.release(name, lease);
    }
  };
  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      await turn().catch((err: unknown) => log.error({ err, name }, 'a part that one process runs has failed'));
      await pause(stopped.signal);
    }
  };
  const looping = loop();
  return {
    [Symbol.asyncDispose]: async () => {
      stopped.abort();
      await looping;
    },
  };
};
