import { describe, expect, test } from 'vitest';
import { systemClock } from '../../kernel/clock.ts';
import { silentLogger } from '../../kernel/log.ts';
import { createWakeups, type Wakeups } from '../../kernel/wakeups.ts';

/** Two programs that can wake each other; where there is only one, it is both. */
interface Pair extends AsyncDisposable {
  readonly here: Wakeups;
  readonly there: Wakeups;
}

const adapters: Readonly<Record<string, () => Promise<Pair>>> = {
  'in process': async () => {
    const here = createWakeups(silentLogger);
    return { here, there: here, [Symbol.asyncDispose]: () => here[Symbol.asyncDispose]() };
  },
};

const until = async (holds: () => boolean) => {
  for (let tries = 0; tries < 2_000 && !holds(); tries += 1) await systemClock.sleep(2);
  expect(holds()).toBe(true);
};

describe.each(Object.entries(adapters))('Wakeups: %s', (_name, create) => {
  test('everybody who listens to the channel hears it, and nobody else', async () => {
    await using pair = await create();
    const heard: string[] = [];
    pair.here.listen('work', (payload) => heard.push(`here ${payload}`));
    pair.there.listen('work', (payload) => heard.push(`there ${payload}`));
    pair.there.listen('rest', (payload) => heard.push(`rest ${payload}`));
    pair.here.notify('work', 'a');
    await until(() => heard.length === 2);
    pair.there.notify('work');
    await until(() => heard.length === 4);
    pair.here.notify('rest', "it's ; -- odd");
    await until(() => heard.length === 5);
    expect(heard.toSorted()).toEqual(['here ', 'here a', "rest it's ; -- odd", 'there ', 'there a']);
  });

  test('whoever stopped listening hears nothing more, and the others still do', async () => {
    await using pair = await create();
    const heard: string[] = [];
    const hear = (payload: string) => heard.push(payload);
    const stop = pair.there.listen('work', hear);
    pair.there.listen('work', hear);
    stop();
    stop();
    pair.here.notify('work', 'a');
    await until(() => heard.length === 1);
    pair.here.notify('work', 'b');
    await until(() => heard.length === 2);
    expect(heard.toSorted()).toEqual(['a', 'b']);
  });

  test('a listener that throws keeps the word from nobody, nor stops who told it', async () => {
    await using pair = await create();
    const heard: string[] = [];
    pair.there.listen('work', () => {
      throw new Error('deaf');
    });
    pair.there.listen('work', (payload) => heard.push(payload));
    pair.here.notify('work', 'a');
    expect(heard).toEqual([]);
    await until(() => heard.length === 1);
  });
});
