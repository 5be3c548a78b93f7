import type { Clock } from '../clock.ts';
import { startRepeating } from '../lifecycle.ts';
import type { Logger } from '../log.ts';
import type { RateLimits } from '../rate-limits.ts';
import type { ReplayStore } from '../replay.ts';
import type { Wakeups } from '../wakeups.ts';
import { connectRedis } from './connection.ts';
import { createRedisRateLimits } from './rate-limits.ts';
import { createRedisReplay } from './replay.ts';
import type { RedisUrls } from './urls.ts';
import { createRedisWakeups } from './wakeups.ts';

/** What the processes of one deployment share over Redis, and whether it can be asked. */
export interface SharedOverRedis extends AsyncDisposable {
  readonly replay: ReplayStore;
  readonly limits: RateLimits;
  readonly wakeups: Wakeups;
  readonly isReachable: () => boolean;
}

export interface SharedOptions {
  readonly urls: RedisUrls;
  /** Of the deployment: others may use the same Redis. */
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
}

const watchMs = 2_000;
/** A start waits this long for Redis, and then goes on without. */
const firstMs = 2_000;
const firstTryMs = 50;

/** Connects; Redis may come later, and may go. */
export const shareOverRedis = async ({ urls, name, clock, log }: SharedOptions): Promise<SharedOverRedis> => {
  const redis = connectRedis(urls);
  const replay = createRedisReplay({ redis, name, clock });
  const wakeups = createRedisWakeups({ redis, name, clock, log });
  let reachable: boolean | undefined;
  const visited = (fault?: unknown): void => {
    const is = fault === undefined;
    if (is === reachable) return;
    reachable = is;
    if (is) log.info({ redis: redis.address }, 'Redis can be asked');
    else log.error({ err: fault, redis: redis.address }, 'Redis cannot be asked');
  };
  const visit = (): Promise<void> => replay.visit().then(() => visited(), visited);
  const latest = clock.now() + firstMs;
  const isThere = () =>
    replay.visit().then(
      () => true,
      () => false,
    );
  while (clock.now() < latest && !(await isThere())) await clock.sleep(firstTryMs);
  await visit();
  const watching = startRepeating({ everyMs: watchMs, work: visit, clock, log });
  return {
    replay,
    limits: createRedisRateLimits({ redis, name, clock }),
    wakeups,
    isReachable: () => reachable === true,
    [Symbol.asyncDispose]: async () => {
      await watching[Symbol.asyncDispose]();
      await wakeups[Symbol.asyncDispose]();
      await redis[Symbol.asyncDispose]();
    },
  };
};
