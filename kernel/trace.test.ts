import { describe, expect, test } from 'vitest';
import { seededRandom } from './random.ts';
import { readTraceId, traceIdOf, writeTraceparent } from './trace.ts';

const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
const span = '00f067aa0ba902b7';

describe('trace context', () => {
  test.each([
    ['the form of today', `00-${trace}-${span}-01`],
    ['flags that are not known', `00-${trace}-${span}-ff`],
    ['a later version with more behind it', `01-${trace}-${span}-01-more`],
  ])('reads %s', (_what, header) => {
    expect(readTraceId(header)).toBe(trace);
  });

  test.each([
    ['nothing', null],
    ['an empty header', ''],
    ['capital letters', `00-${trace.toUpperCase()}-${span}-01`],
    ['a trace of zeros', `00-${'0'.repeat(32)}-${span}-01`],
    ['a span of zeros', `00-${trace}-${'0'.repeat(16)}-01`],
    ['the version that is none', `ff-${trace}-${span}-01`],
    ['more than version 00 has', `00-${trace}-${span}-01-more`],
    ['two of them', `00-${trace}-${span}-01, 00-${trace}-${span}-01`],
    ['a line break', `00-${trace}-${span}-01\n`],
  ])('begins anew with %s', (_what, header) => {
    expect(readTraceId(header)).toBeUndefined();
  });

  test('writes what it reads, with a new span each time', () => {
    const random = seededRandom('spans');
    const [first, second] = [writeTraceparent(trace, random), writeTraceparent(trace, random)];
    expect([first, second].map(readTraceId)).toEqual([trace, trace]);
    expect(first).not.toBe(second);
    expect(readTraceId(writeTraceparent(undefined, random))).toMatch(/^[\da-f]{32}$/);
  });

  test('a trace that begins with a process is found by its id', () => {
    const id = traceIdOf('urn:uuid:0199B0A0-7d5e-7f00-8000-00000000000a');
    expect(id).toBe('0199b0a07d5e7f00800000000000000a');
    expect(readTraceId(writeTraceparent(id, seededRandom('x')))).toBe(id);
  });
});
