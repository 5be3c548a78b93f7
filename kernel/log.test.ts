import { describe, expect, test } from 'vitest';
import { AppError } from '../contracts/errors.ts';
import { createLogger, silentLogger } from './log.ts';

const collect = () => {
  const lines: string[] = [];
  const log = createLogger({ name: 'probe', level: 'info', destination: { write: (line) => void lines.push(line) } });
  return { log, lines, text: () => lines.join('') };
};

describe('log', () => {
  test('writes JSON lines with name, level, time and the fields of its parents', () => {
    const { log, lines } = collect();
    log.child({ participant: 'p1' }).info({ pid: 'urn:uuid:1' }, 'something happened');
    log.debug({}, 'below the level');
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      name: 'probe',
      participant: 'p1',
      pid: 'urn:uuid:1',
      msg: 'something happened',
      time: expect.stringMatching(/^\d{4}-/),
    });
  });

  test('never prints members that hold secrets', () => {
    const { log, text } = collect();
    log.warn({ authorization: 'MARKER', headers: { dpop: 'MARKER', host: 'a.example' } }, 'refused');
    log.error({ jwk: { d: 'MARKER' }, token: 'MARKER', joinCode: 'MARKER' }, 'refused');
    expect(text()).not.toContain('MARKER');
    expect(text()).toContain('a.example');
  });

  test('prints the code and the causes of an error, not the stack of an expected one', () => {
    const { log, lines } = collect();
    const cause = new Error('the socket closed');
    log.error({ err: new AppError('fetch-failed', { detail: 'no answer', cause }) }, 'failed');
    log.error({ err: 'only text' }, 'failed');
    const first: { err: object } = JSON.parse(lines[0] ?? '');
    expect(first.err).toMatchObject({ code: 'fetch-failed', cause: { message: 'the socket closed' } });
    expect(first.err).not.toHaveProperty('stack');
    expect(lines[1]).toContain('only text');
  });

  test('a silent logger says nothing, nor do its children', () => {
    silentLogger.child({ a: 1 }).error({}, 'x');
    silentLogger.warn({}, 'x');
    silentLogger.info({}, 'x');
    silentLogger.debug({}, 'x');
  });
});
