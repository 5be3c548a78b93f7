/** Records that are still on their way into the journal: a server that stops waits for them. */
export interface Closings {
  /** Call what is returned when the record is durable, or never will be. */
  readonly begin: () => () => void;
  /** Resolves when none is under way. */
  readonly idle: () => Promise<void>;
}

export const createClosings = (): Closings => {
  let open = 0;
  let waiting: (() => void)[] = [];
  return {
    begin: () => {
      open += 1;
      let isDone = false;
      return () => {
        if (isDone) return;
        isDone = true;
        open -= 1;
        if (open > 0) return;
        for (const resolve of waiting) resolve();
        waiting = [];
      };
    },
    idle: () => (open === 0 ? Promise.resolve() : new Promise((resolve) => waiting.push(resolve))),
  };
};
