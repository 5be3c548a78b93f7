import { describe, expect, test } from 'vitest';
import { formatTime, parsePeerTime, parseTime } from './time.ts';

describe('time', () => {
  test('own times come back', () => {
    const text = '2026-11-23T11:00:00.000Z';
    expect(parseTime(text)).toBe(1_795_431_600_000);
    expect(formatTime(1_795_431_600_000)).toBe(text);
  });

  test.each([
    '2026-11-23T11:00:00Z',
    '2026-02-30T11:00:00.000Z',
    '2026-11-23T24:00:00.000Z',
    '2026-11-23T11:00:00.000+00:00',
    '+02026-11-23T11:00:00.000Z',
    '',
  ])('refuses %j as one of ours', (text) => expect(parseTime(text)).toBeUndefined());

  test('peers may write any fraction and zone', () => {
    expect(parsePeerTime('2026-11-23T12:00:00.123456789+01:00')).toBe(1_795_431_600_123);
    expect(parsePeerTime('2026-11-23T11:00:00Z')).toBe(1_795_431_600_000);
    expect(parsePeerTime('2026-11-23T11:00:00')).toBeUndefined();
    expect(parsePeerTime('2026-13-23T11:00:00Z')).toBeUndefined();
  });
});
