/** Single use of what is good for a short time: proofs of possession (wire §5 "Replay"). */

/** Repeats cannot be ruled out: nothing may be served on it. */
export interface Unknown {
  /** When asking again with a new key makes sense. */
  readonly retryAfterSeconds: number;
  readonly cause?: unknown;
}

export type Claim = 'fresh' | 'seen' | Unknown;

export interface ReplayStore {
  /**
   * Claims a key of 16 bytes, drawn evenly. `at` is the time that the key itself carries, ms: whoever asks has checked
   * that it is within `replayClockMs` of now. Of all that claim one key, in whatever process, at most one gets `fresh`;
   * what is not known to be fresh is `seen` or unknown. `owner` is whose room the key takes.
   *
   * In process the answer is there at once; a shared store promises it, and its promise is never rejected.
   */
  readonly claim: (key: Uint8Array, at: number, owner: string) => Claim | Promise<Claim>;
}

/** What carries a time may differ from the clock of whoever checks it by this much, to both sides. */
export const replayClockMs = 60_000;
