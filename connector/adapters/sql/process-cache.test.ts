import { describe, expect, test } from 'vitest';
import { manualClock } from '../../../kernel/clock.ts';
import { createProcessCache } from './process-cache.ts';

interface Row {
  readonly participant: string;
  readonly pid: string;
  readonly version: number;
}

const row = (version: number, pid = 'p'): Row => ({ participant: 'us', pid, version });

/** A change that ends when it is told to. */
const slow = (cache: ReturnType<typeof createProcessCache<Row>>, its: Row) => {
  const { promise, resolve, reject } = Promise.withResolvers<'saved' | 'conflict'>();
  const done = cache.changing(
    its,
    () => promise,
    (result) => (result === 'saved' ? its : undefined),
  );
  return { resolve, reject, done };
};

describe('processes that were saved last', () => {
  test('are given back as they were saved, and not while they change', async () => {
    const cache = createProcessCache<Row>(manualClock(0));
    const first = slow(cache, row(1));
    expect(cache.find('us', 'p')).toBeUndefined();
    first.resolve('saved');
    expect(await first.done).toBe('saved');
    expect(cache.find('us', 'p')).toEqual(row(1));
    expect(cache.find('others', 'p')).toBeUndefined();
    const second = slow(cache, row(2));
    expect(cache.find('us', 'p')).toBeUndefined();
    second.resolve('saved');
    await second.done;
    expect(cache.find('us', 'p')).toEqual(row(2));
  });

  test('are forgotten when a change met another, or failed', async () => {
    const cache = createProcessCache<Row>(manualClock(0));
    const first = slow(cache, row(1));
    first.resolve('saved');
    await first.done;
    const refused = slow(cache, row(2));
    refused.resolve('conflict');
    await refused.done;
    expect(cache.find('us', 'p')).toBeUndefined();
    const failed = slow(cache, row(2));
    failed.reject(new Error('no disk'));
    await expect(failed.done).rejects.toThrow('no disk');
    expect(cache.find('us', 'p')).toBeUndefined();
  });

  test('of two changes at once neither leaves anything behind, in whatever order they end', async () => {
    const cache = createProcessCache<Row>(manualClock(0));
    const [first, second] = [slow(cache, row(1)), slow(cache, row(2))];
    first.resolve('saved');
    await first.done;
    expect(cache.find('us', 'p')).toBeUndefined();
    second.resolve('saved');
    await second.done;
    expect(cache.find('us', 'p')).toBeUndefined();
    const third = slow(cache, row(3));
    third.resolve('saved');
    await third.done;
    expect(cache.find('us', 'p')).toEqual(row(3));
  });

  test('are not kept for long: the rows may be forgotten', async () => {
    const clock = manualClock(0);
    const cache = createProcessCache<Row>(clock);
    const one = slow(cache, row(1));
    one.resolve('saved');
    await one.done;
    clock.advance(59_999);
    expect(cache.find('us', 'p')).toEqual(row(1));
    clock.advance(1);
    expect(cache.find('us', 'p')).toBeUndefined();
    clock.advance(-1);
    expect(cache.find('us', 'p')).toBeUndefined();
  });

  test('are not kept without end', async () => {
    const cache = createProcessCache<Row>(manualClock(0));
    for (let n = 0; n < 600; n += 1) {
      const one = slow(cache, row(1, `p${n}`));
      one.resolve('saved');
      await one.done;
    }
    expect(cache.find('us', 'p99')).toBeUndefined();
    expect(cache.find('us', 'p100')).toEqual(row(1, 'p100'));
  });
});
