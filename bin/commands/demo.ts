import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../contracts/errors.ts';
import type { Command } from '../command.ts';

/** Beside this file, in the form in which this file itself runs. */
const program = fileURLToPath(
  new URL(`../../demo/main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
);

/** The whole chain on real data; a program of its own, because it starts and stops everything else. */
export const demo: Command = {
  name: 'demo',
  summary: 'Run the whole chain on real data, in separate processes.',
  usage: '[--keep] [--data FOLDER]',
  about: `Starts a broker, an accreditor, three data holders and one application runtime on this machine, lets the application
find, negotiate and fetch, shows what is refused, stops everything, and verifies every receipt from files alone.
It ends by itself and leaves nothing but its data folder.`,
  examples: ['stekker demo', 'stekker demo --json', 'stekker demo --keep'],
  options: {
    keep: { type: 'boolean', about: 'Leave it running, with the addresses printed.' },
    data: { type: 'string', value: 'FOLDER', about: 'Where it leaves its data; default .demo.' },
  },
  run: async (parsed, terminal) => {
    if (!existsSync(program))
      throw new AppError('not-found', {
        detail: 'the demo is not part of this installation; run it from the source: npm run demo',
      });
    const flags = ['json', 'keep'].filter((flag) => parsed.flag(flag)).map((flag) => `--${flag}`);
    const data = parsed.text('data');
    const args = [program, ...flags, ...(data === undefined ? [] : ['--data', data])];
    const child = spawn(process.execPath, args, { stdio: 'inherit', env: terminal.env });
    const stop = () => void child.kill('SIGTERM');
    terminal.signal.addEventListener('abort', stop, { once: true });
    try {
      return await new Promise<number>((resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (code) => resolve(code ?? 1));
      });
    } finally {
      terminal.signal.removeEventListener('abort', stop);
    }
  },
};
