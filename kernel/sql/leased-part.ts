import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import type { Leases } from './leases.ts';

/** A part of a service that runs in one process at a time, whichever it is. */

export interface LeasedPartOptions {
  readonly leases: Leases;
  /** Of the lease: one for each such part. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Begins the part; it is disposed when the lease passes on. */
  readonly begin: () => Promise<AsyncDisposable> | AsyncDisposable;
  /** How long a process that died keeps the part from running elsewhere. */
  readonly leaseMs?: number;
}

const ordinaryLeaseMs = 10_000;
const renewalsPerLease = 4;

/** Runs the part while this process has the lease, and waits for the lease while another has it. */
export const startLeasedPart = (options: LeasedPartOptions): AsyncDisposable => {
  const { leases, name, clock, log, begin, leaseMs = ordinaryLeaseMs } = options;
  const stopped = new AbortController();
  const pause = () => clock.sleep(leaseMs / renewalsPerLease, stopped.signal);

  const keep = async (lease: { readonly fence: number }): Promise<void> => {
    let until = clock.now() + leaseMs;
    while (!stopped.signal.aborted && clock.now() < until) {
      await pause();
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
    try {
      await using _part = await begin();
      await keep(lease);
    } finally {
      await leases.release(name, lease);
    }
  };
  const loop = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      await turn().catch((err: unknown) => log.error({ err, name }, 'a part that one process runs has failed'));
      await pause();
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
