import { systemClock } from '../clock.ts';
import type { ClientAnswer } from './client.ts';

/**
 * Several processes stand behind one address, and one of them may go away or come up: a connection is lost, or somebody
 * answers that it cannot be now. What may be asked twice is then asked again at once, on a connection of its own.
 */

const pausesMs = [20, 200];
/** Who was slow to say so is not asked again: whoever waits for a decision waits no longer than that. */
const repeatedWithinMs = 1_000;
const lostCodes = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);
const unavailable = new Set([502, 503, 504]);

const isLost = (error: unknown): boolean => {
  for (let one = error; one instanceof Error; one = one.cause)
    if ('code' in one && lostCodes.has(String(one.code))) return true;
  return false;
};

/** The answer of the last attempt, or its fault. `ask` makes a request of its own each time. */
export const repeated = async (ask: () => Promise<ClientAnswer>): Promise<ClientAnswer> => {
  const end = systemClock.now() + repeatedWithinMs;
  for (const pauseMs of pausesMs) {
    try {
      const answer = await ask();
      if (!unavailable.has(answer.status) || systemClock.now() > end) return answer;
    } catch (error) {
      if (!isLost(error) || systemClock.now() > end) throw error;
    }
    await systemClock.sleep(pauseMs);
  }
  return ask();
};
