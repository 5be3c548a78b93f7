import type { Clock } from '../clock.ts';
import { createBoundedMap, createRateLimits, type Limit, type RateLimits } from '../rate-limits.ts';
import { type RedisConnection, script } from './connection.ts';

/**
 * Limits that all processes share. A process takes a block of them at a time and gives from it without asking; what is left
 * of a block after a second is lost. Without Redis each process keeps the limits alone: the worst is that many processes
 * let through many times as much.
 */

const blockMs = 1_000;
/** A block is this part of what may come at once. */
const share = 20;

/**
 * Takes up to so many. KEYS: the key. ARGV: ms for each, how many may come at once, how many are wanted. The answer: how many
 * were taken, or the wait in ms as a negative number.
 */
const takeScript = script(`
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local each, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local taken = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') - now, 0)
local room = math.floor(burst - taken / each + 0.000001)
if room < 1 then return -math.ceil(taken - (burst - 1) * each) end
local given = math.min(room, wanted)
local used = taken + given * each
redis.call('SET', KEYS[1], string.format('%.3f', now + used), 'PX', math.ceil(used) + 1000)
return given
`);

interface Block {
  left: number;
  readonly until: number;
  /** There was none: until then the answer is the same. */
  readonly isRefusal: boolean;
}

export interface RedisRateLimitsOptions {
  readonly redis: Pick<RedisConnection, 'run'>;
  /** Of the deployment: others may use the same Redis. */
  readonly name: string;
  readonly clock: Clock;
}

export const createRedisRateLimits = ({ redis, name, clock }: RedisRateLimitsOptions): RateLimits => {
  const alone = createRateLimits(clock);
  const blocks = createBoundedMap<Block>();
  const asked = new Map<string, Promise<boolean>>();

  /** A new block, or the time until there is one. False when Redis does not say. */
  const ask = async (key: string, { perMinute, burst }: Limit): Promise<boolean> => {
    const wanted = Math.max(1, Math.floor(burst / share));
    try {
      const reply = await redis.run(takeScript, [`stekker:${name}:rate:${key}`], [60_000 / perMinute, burst, wanted]);
      const given = Number(reply);
      if (!Number.isSafeInteger(given) || given === 0) return false;
      const isRefusal = given < 0;
      blocks.set(key, { left: Math.max(0, given), until: clock.now() + (isRefusal ? -given : blockMs), isRefusal });
      return true;
    } catch {
      return false;
    }
  };

  const once = (key: string, limit: Limit): Promise<boolean> => {
    const running = asked.get(key);
    if (running !== undefined) return running;
    const started = ask(key, limit).finally(() => asked.delete(key));
    asked.set(key, started);
    return started;
  };

  /** From the block at hand: 0, or the wait, or undefined when there is none. */
  const fromBlock = (key: string): number | undefined => {
    const block = blocks.get(key);
    const now = clock.now();
    if (block === undefined || now >= block.until) return undefined;
    if (block.left === 0) return block.isRefusal ? block.until - now : undefined;
    block.left -= 1;
    return 0;
  };

  const later = async (key: string, limit: Limit): Promise<number> => {
    // Many may wait for one block; whoever finds it empty asks for the next.
    while (await once(key, limit)) {
      const wait = fromBlock(key);
      if (wait !== undefined) return wait;
    }
    return alone.take(key, limit);
  };

  return { take: (key, limit) => fromBlock(key) ?? later(key, limit) };
};
