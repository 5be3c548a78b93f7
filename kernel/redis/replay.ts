import type { Clock } from '../clock.ts';
import { type Claim, type ReplayStore, replayClockMs, type Unknown } from '../replay.ts';
import { type RedisConnection, script } from './connection.ts';
import { partnerOf, placeCount, placeTags } from './places.ts';

/**
 * Claims that all processes share (wire §5 "Replay"). Redis answers before anything is on a disk or on a replica, so no
 * server is believed about the time before it began to keep claims: each place (`places.ts`) says when that was and under
 * which run of the server, and a server that was started again, took over from another or lost its keys begins anew. What
 * could have been used before is then not known there. In a Cluster each claim stands in two places on two masters: the
 * other one still knows. docs/decisions/2026-11-26-replay-in-redis.md has the reasons.
 */

/** Clocks of our own processes, and of Redis, may differ by this much; a claim outlives its proof by it. */
const marginMs = 60_000;
const seenReply = -1;

/**
 * Claims in one place. KEYS: the place, the claim. ARGV: now, ms; how long the claim is kept, ms. The answer: when the
 * place began, ms; -1 when the claim is there.
 */
const claimScript = script(`
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local place = redis.call('HMGET', KEYS[1], 'run', 'began')
local began = place[2]
if not run or place[1] ~= run or not began then
  began = ARGV[1]
  redis.call('HSET', KEYS[1], 'run', run or '', 'began', began)
end
if #KEYS == 1 then return tonumber(began) end
if redis.call('SET', KEYS[2], '', 'NX', 'PX', ARGV[2]) then return tonumber(began) end
return ${seenReply}
`);

export interface RedisReplayOptions {
  readonly redis: Pick<RedisConnection, 'run' | 'info' | 'isCluster'>;
  /** Of the deployment: others may use the same Redis. */
  readonly name: string;
  readonly clock: Clock;
}

export interface RedisReplay extends ReplayStore {
  /**
   * Visits every place, so that it begins now and not with its first claim. @throws when a place cannot be reached, or a
   * server drops keys when it is full.
   */
  readonly visit: () => Promise<void>;
}

/** Of a server that may drop a claim to make room, no claim is believed. */
const dropsKeys = (memory: string): boolean => {
  const limit = /^maxmemory:(\d+)/m.exec(memory)?.[1];
  const policy = /^maxmemory_policy:([a-z-]+)/m.exec(memory)?.[1];
  return limit !== '0' && policy !== 'noeviction';
};

export const createRedisReplay = ({ redis, name, clock }: RedisReplayOptions): RedisReplay => {
  const keysOf = (place: number, key?: string): readonly string[] => {
    const prefix = `stekker:${name}:replay:{${placeTags[place] ?? ''}}`;
    return key === undefined ? [prefix] : [prefix, `${prefix}:${key}`];
  };
  let drops = false;

  /** When the place began; `seen` when the claim stands there. */
  const ask = async (place: number, key: string, keepMs: number): Promise<number | 'seen'> => {
    const began = await redis.run(claimScript, keysOf(place, key), [clock.now(), keepMs]);
    if (typeof began !== 'number') throw new TypeError('Redis answered a claim with something else');
    return began === seenReply ? 'seen' : began;
  };

  const claim = async (key: string, place: number, at: number): Promise<Claim> => {
    const keepMs = Math.max(0, at + replayClockMs - clock.now()) + marginMs;
    const first = await ask(place, key, keepMs);
    if (first === 'seen') return 'seen';
    const second = redis.isCluster ? await ask(partnerOf(place), key, keepMs) : first;
    if (second === 'seen') return 'seen';
    const couldBeUsedSince = at - replayClockMs;
    const missingMs = Math.min(first, second) + marginMs - couldBeUsedSince;
    return missingMs <= 0 ? 'fresh' : { retryAfterSeconds: Math.ceil(missingMs / 1_000) };
  };

  return {
    claim: (key, at) => {
      if (drops) return { retryAfterSeconds: 60 };
      const place = (key[0] ?? 0) % placeCount;
      return claim(Buffer.from(key).toString('base64url'), place, at).catch(
        (cause: unknown): Unknown => ({ retryAfterSeconds: 2, cause }),
      );
    },
    visit: async () => {
      const memory = await redis.info('memory');
      drops = memory.some(dropsKeys);
      if (drops) throw new Error('Redis drops keys when it is full: set maxmemory-policy to noeviction');
      await Promise.all(placeTags.map((_, place) => redis.run(claimScript, keysOf(place), [clock.now()])));
    },
  };
};
