import { createPeerRate, type PeerRate, peerLimitsOf, type RateLimits } from '../kernel/rate-limits.ts';

/** All consumers of a participant together may come this many times as often as one of them. */
export const togetherTimes = 10;

/** How often consumers may read data, by whoever counts it. */
export const accessRateOver = (limits: RateLimits, perSecond: number): PeerRate =>
  createPeerRate(limits, 'access', peerLimitsOf(perSecond * 60, perSecond * 60 * togetherTimes));
