/** Work that must not overlap. A turn that fails is told to whoever asked for it; the next one begins all the same. */

/** Runs one piece of work after the other. */
export const createTurns = () => {
  let last: Promise<unknown> = Promise.resolve();
  return <Value>(work: () => Promise<Value>): Promise<Value> => {
    const turn = last.then(work, work);
    last = turn;
    return turn;
  };
};

/** Runs the work for one key one after the other, and for different keys side by side; a key at rest takes no memory. */
export const createTurnsByKey = () => {
  const last = new Map<string, Promise<unknown>>();
  return <Value>(key: string, work: () => Promise<Value>): Promise<Value> => {
    const turn = (last.get(key) ?? Promise.resolve()).then(work, work);
    last.set(key, turn);
    const clear = () => {
      if (last.get(key) === turn) last.delete(key);
    };
    turn.then(clear, clear);
    return turn;
  };
};
