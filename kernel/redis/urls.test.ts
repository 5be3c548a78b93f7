import { describe, expect, test } from 'vitest';
import { placeCount, placeTags, slotOf } from './places.ts';
import { readRedisUrls } from './urls.ts';

describe('addresses of Redis', () => {
  test('one is a server, several or a scheme that says so are a Cluster', () => {
    expect(readRedisUrls('redis://a')).toMatchObject({ isCluster: false });
    expect(readRedisUrls('rediss://name:word@a:6380/3')).toMatchObject({ isCluster: false });
    expect(readRedisUrls('rediss+cluster://name:word@a')).toMatchObject({ isCluster: true });
    expect(readRedisUrls('redis://:word@a, redis://:word@b:1')).toMatchObject({ isCluster: true });
    expect(readRedisUrls('redis://[::1]:6379')).toMatchObject({ isCluster: false });
  });

  test('what could mean two things is none', () => {
    const wrong = [
      ...['', 'a', 'http://a', 'redis://', 'redis://a?db=1', 'redis://a/db', 'redis://a,', 'unix:///tmp/redis.sock'],
      'redis://a,rediss://b',
      'redis://:one@a,redis://:two@b',
      'redis+cluster://a/1',
      'redis://a/1,redis://b/1',
    ];
    for (const text of wrong) expect([text, readRedisUrls(text)]).toEqual([text, undefined]);
  });
});

test('places lie evenly over the slots of a Cluster, which are counted as its specification has them', () => {
  expect(slotOf('123456789')).toBe(0x31c3 % 16_384);
  expect(placeTags.map((tag) => Math.floor(slotOf(tag) / 256))).toEqual(
    Array.from({ length: placeCount }, (_, n) => n),
  );
});
