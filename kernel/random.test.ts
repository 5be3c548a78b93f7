import { describe, expect, test } from 'vitest';
import { isUuidV7, uuidV7Time } from '../contracts/ids.ts';
import { manualClock } from './clock.ts';
import { createIds, seededRandom, systemRandom, uuidV7 } from './random.ts';

describe('ids', () => {
  test('carry their time and are UUIDv7', () => {
    const id = uuidV7(1_795_431_600_123, seededRandom('a'));
    expect(isUuidV7(id)).toBe(true);
    expect(uuidV7Time(id)).toBe(1_795_431_600_123);
  });

  test('only grow, within a millisecond and when the clock jumps back', () => {
    const clock = manualClock(1_795_431_600_000);
    const next = createIds(clock, seededRandom('b'));
    const ids = Array.from({ length: 10_000 }, (_, index) => {
      if (index === 9_000) clock.advance(-60_000);
      return next();
    });
    expect(ids.every((id) => isUuidV7(id))).toBe(true);
    expect(ids.toSorted()).toEqual(ids);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('bytes of the system are given out once, few or many at a time', () => {
    const seen = new Set<string>();
    for (let each = 0; each < 5_000; each += 1) seen.add(Buffer.from(systemRandom.bytes(16)).toString('hex'));
    expect(seen.size).toBe(5_000);
    expect([...seen].every((hex) => /^[0-9a-f]{32}$/.test(hex) && !/^0+$/.test(hex))).toBe(true);
    for (const length of [0, 1, 64, 65, 10_000]) expect(systemRandom.bytes(length)).toHaveLength(length);
    const first = systemRandom.bytes(32);
    const kept = first.slice();
    systemRandom.bytes(4_096);
    for (let each = 0; each < 200; each += 1) systemRandom.bytes(64);
    expect(first).toEqual(kept); // what was given is nobody else's
  });

  test('seeded bytes are the same for the same seed', () => {
    expect(seededRandom('x').bytes(40)).toEqual(seededRandom('x').bytes(40));
    expect(seededRandom('x').bytes(40)).not.toEqual(seededRandom('y').bytes(40));
  });
});
