import { describe, expect, test } from 'vitest';
import { type Command, helpOf, parseCommandLine, required } from './command.ts';
import { main } from './stekker.ts';

const terminal = () => {
  const lines: string[] = [];
  const errors: string[] = [];
  return {
    lines,
    errors,
    out: (line: string) => void lines.push(line),
    err: (line: string) => void errors.push(line),
    env: {},
    signal: new AbortController().signal,
  };
};

const probe: Command = {
  name: 'probe',
  summary: 'A probe.',
  usage: 'FILE --out FILE',
  about: 'For this test.',
  examples: ['stekker probe a --out b'],
  options: {
    out: { type: 'string', value: 'FILE', about: 'Where to.' },
    tag: { type: 'string', about: 'Tags.', multiple: true },
  },
  run: async () => 0,
};

describe('command line', () => {
  test('without a command it lists all of them', async () => {
    const at = terminal();
    expect(await main([], at)).toBe(0);
    expect(at.lines.join('\n')).toContain('health');
  });

  test('an unknown command is exit code 2 and says where to look', async () => {
    const at = terminal();
    expect(await main(['fetsh'], at)).toBe(2);
    expect(at.errors.join('\n')).toContain('no command "fetsh". See: stekker --help');
  });

  test('an unknown option is exit code 2 and names it', async () => {
    const at = terminal();
    expect(await main(['health', '--fast'], at)).toBe(2);
    expect(at.errors.join('\n')).toContain("'--fast'");
    expect(at.errors.join('\n')).toContain('stekker health --help');
  });

  test('with --json a fault is one JSON value', async () => {
    const at = terminal();
    expect(await main(['health', '--json'], at)).toBe(2);
    expect(JSON.parse(at.errors[0] ?? '').error.code).toBe('invalid-request');
  });

  test('a service that is not there is exit code 1', async () => {
    const at = terminal();
    expect(await main(['health', 'http://127.0.0.1:1'], at)).toBe(1);
    expect(at.errors[0]).toBe('stekker: nothing answers at http://127.0.0.1:1 (fetch-failed)');
  });

  test('help names every option and an example', () => {
    const text = helpOf(probe);
    for (const part of ['stekker probe FILE --out FILE', '--out FILE', '--tag', '--json', 'stekker probe a --out b']) {
      expect(text).toContain(part);
    }
  });

  test('parses options, lists and positionals', () => {
    const parsed = parseCommandLine(probe, ['a', '--tag', 'x', '--tag', 'y']);
    expect(parsed.positionals).toEqual(['a']);
    expect(parsed.list('tag')).toEqual(['x', 'y']);
    expect(parsed.flag('json')).toBe(false);
    expect(() => required(parsed, 'out', probe)).toThrow('--out is needed. See: stekker probe --help');
  });
});
