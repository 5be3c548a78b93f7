import type { Clock } from './clock.ts';
import type { Logger } from './log.ts';
import { createRateLimits, limitOf, type RateLimits } from './rate-limits.ts';
import type { RedisUrls } from './redis/urls.ts';
import type { ReplayStore } from './replay.ts';
import type { Wakeups } from './wakeups.ts';

/** What the processes of one deployment share besides their rows: over Redis when there is one, else each for itself. */
export interface Shared extends AsyncDisposable {
  readonly limits: RateLimits;
  readonly redis:
    | { readonly replay: ReplayStore; readonly wakeups: Wakeups; readonly isReachable: () => boolean }
    | undefined;
}

export interface SharedOptions {
  readonly urls: RedisUrls | undefined;
  /** Of the deployment: others may use the same Redis. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Opens what is shared; the driver of Redis is loaded only when there is one. */
export const openShared = async ({ urls, ...options }: SharedOptions): Promise<Shared> => {
  if (urls === undefined) {
    const limits = createRateLimits(options.clock);
    return { limits, redis: undefined, [Symbol.asyncDispose]: async () => undefined };
  }
  const { shareOverRedis } = await import('./redis/shared.ts');
  const redis = await shareOverRedis({ ...options, urls });
  return { limits: redis.limits, redis, [Symbol.asyncDispose]: () => redis[Symbol.asyncDispose]() };
};

/** How often the operator's API may be called. */
export const operatorRate = ({ limits }: Pick<Shared, 'limits'>, perMinute: number) => {
  const limit = limitOf(perMinute);
  return () => limits.take('operator', limit);
};
