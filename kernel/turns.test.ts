import { describe, expect, test } from 'vitest';
import { createTurns, createTurnsByKey } from './turns.ts';

/** Work that says when it begins, and ends when it is told to. */
const recorded = () => {
  const begun: string[] = [];
  const work = (name: string) => {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    return {
      run: () => {
        begun.push(name);
        return promise;
      },
      end: () => resolve(name),
      fail: () => reject(new Error(name)),
    };
  };
  return { begun, work };
};

const pause = () => new Promise((resolve) => setImmediate(resolve));

describe('turns', () => {
  test('the next begins when the one before has ended, also when that failed, and each hears of its own', async () => {
    const { begun, work } = recorded();
    const [first, second] = [work('first'), work('second')];
    const inTurn = createTurns();
    const failed = expect(inTurn(first.run)).rejects.toThrow('first');
    const answered = inTurn(second.run);
    await pause();
    expect(begun).toEqual(['first']);
    first.fail();
    await failed;
    await pause();
    expect(begun).toEqual(['first', 'second']);
    second.end();
    expect(await answered).toBe('second');
  });

  test('one key waits for itself, and not for another', async () => {
    const { begun, work } = recorded();
    const [first, second, other] = [work('first'), work('second'), work('other')];
    const inTurn = createTurnsByKey();
    const failed = expect(inTurn('a', first.run)).rejects.toThrow('first');
    const answers = [inTurn('a', second.run), inTurn('b', other.run)];
    await pause();
    expect(begun).toEqual(['first', 'other']);
    first.fail();
    await failed;
    await pause();
    expect(begun).toEqual(['first', 'other', 'second']);
    second.end();
    other.end();
    expect(await Promise.all(answers)).toEqual(['second', 'other']);
  });
});
