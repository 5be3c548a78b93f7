/** The one source of time (DESIGN §4). Integer milliseconds since the epoch. */
export interface Clock {
  readonly now: () => number;
  /** Resolves after `ms`, or at once when the signal aborts; never rejects. */
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
}

const sleepOnTimer = (ms: number, signal?: AbortSignal): Promise<void> => {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
};

/** The machine's clock. */
export const systemClock: Clock = {
  // biome-ignore lint/style/noRestrictedGlobals: the one place that reads the time
  now: () => Date.now(),
  sleep: sleepOnTimer,
};

interface ManualClock extends Clock {
  /** Moves time forward (or back, a clock jump) and wakes the sleepers that are due. */
  readonly advance: (ms: number) => void;
}

/** A clock that stands still until it is told to move. */
export const manualClock = (start: number): ManualClock => {
  let time = start;
  const sleepers = new Set<{ readonly at: number; readonly wake: () => void }>();
  return {
    now: () => time,
    sleep: (ms, signal) => {
      if (signal?.aborted) return Promise.resolve();
      return new Promise((resolve) => {
        const sleeper = {
          at: time + ms,
          wake: () => {
            sleepers.delete(sleeper);
            resolve();
          },
        };
        sleepers.add(sleeper);
        signal?.addEventListener('abort', sleeper.wake, { once: true });
      });
    },
    advance: (ms) => {
      time += ms;
      for (const sleeper of [...sleepers]) if (sleeper.at <= time) sleeper.wake();
    },
  };
};
