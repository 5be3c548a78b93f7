import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { replayKey } from '../../../contracts/ledger/record.ts';
import { nodeCrypto } from '../../../kernel/crypto.ts';
import { createReplayMemory, createSharedReplay, readySpans } from './shared-replay.ts';

const now = 1_795_000_000_000;
const keyOf = (name: string) => replayKey(nodeCrypto, 'agreement', name);

describe('replay set in shared memory', () => {
  test('a key is fresh once, whichever view of the memory is asked', () => {
    const memory = createReplayMemory(1_024);
    readySpans(memory, now);
    const [one, two] = [createSharedReplay(memory), createSharedReplay(memory)];
    for (let count = 0; count < 100; count += 1) {
      const [first, second] = count % 2 === 0 ? [one, two] : [two, one];
      expect(first.claim(keyOf(`${count}`), now, 'a')).toBe('fresh');
      expect(second.claim(keyOf(`${count}`), now, 'a')).toBe('seen');
    }
    expect(one.claim(new Uint8Array(16), now, 'a')).toBe('fresh');
    expect(two.claim(new Uint8Array(16), now, 'a')).toBe('seen');
  });

  test('keys of a minute before and after have their place; others cannot be told', () => {
    const memory = createReplayMemory(1_024);
    const set = createSharedReplay(memory);
    expect(set.claim(keyOf('early'), now, 'a')).toEqual({ retryAfterSeconds: 60 });
    readySpans(memory, now);
    for (const offset of [-60_000, 0, 60_000]) {
      expect(set.claim(keyOf(`${offset}`), now + offset, 'a')).toBe('fresh');
      expect(set.claim(keyOf(`${offset}`), now + offset, 'a')).toBe('seen');
    }
    expect(set.claim(keyOf('old'), now - 600_000, 'a')).toEqual({ retryAfterSeconds: 60 });
    expect(set.claim(keyOf('far'), now + 600_000, 'a')).toEqual({ retryAfterSeconds: 60 });
  });

  test('spans go by, and none that still counts is emptied', () => {
    const memory = createReplayMemory(1_024);
    const set = createSharedReplay(memory);
    for (let time = now; time < now + 1_200_000; time += 5_000) {
      readySpans(memory, time);
      expect(set.claim(keyOf(`${time}`), time, 'a')).toBe('fresh');
      if (time >= now + 120_000) expect(set.claim(keyOf(`${time - 115_000}`), time - 115_000, 'a')).toBe('seen');
    }
    readySpans(memory, now); // the clock went back: what was used then is forgotten
    expect(set.claim(keyOf(`${now}`), now, 'a')).toEqual({ retryAfterSeconds: 60 });
  });

  test('one agreement takes an eighth and no more, and nothing is ever pushed out', () => {
    const memory = createReplayMemory(1_024);
    readySpans(memory, now);
    const set = createSharedReplay(memory);
    for (let count = 0; count < 128; count += 1) expect(set.claim(keyOf(`${count}`), now, 'a')).toBe('fresh');
    expect(set.claim(keyOf('more'), now, 'a')).toEqual({ retryAfterSeconds: 60 });
    expect(set.claim(keyOf('more'), now, 'b')).toBe('fresh');
    for (let count = 0; count < 128; count += 1) expect(set.claim(keyOf(`${count}`), now, 'b')).toBe('seen');
  });

  test('of threads that claim the same keys at once, one gets each', async () => {
    const memory = createReplayMemory(65_536);
    readySpans(memory, now);
    const source = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData.module).then(({ createSharedReplay }) => {
        const set = createSharedReplay(workerData.memory);
        const key = new Uint8Array(16);
        const view = new DataView(key.buffer);
        let fresh = 0;
        for (let count = 0; count < 5000; count += 1) {
          view.setUint32(0, Math.imul(count + 1, 2654435761));
          view.setUint32(8, Math.imul(count + 1, 40503));
          if (set.claim(key, ${now}, String(count)) === 'fresh') fresh += 1;
        }
        parentPort.postMessage(fresh);
      });`;
    const module = new URL('./shared-replay.ts', import.meta.url).href;
    const counts = await Promise.all(
      [1, 2, 3].map(async () => {
        const worker = new Worker(source, { eval: true, workerData: { memory, module } });
        const [fresh] = (await once(worker, 'message')) as [number];
        await worker.terminate();
        return fresh;
      }),
    );
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(5_000);
  });
});
