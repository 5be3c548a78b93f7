import { AppError } from '../../contracts/errors.ts';
import type { Command } from '../command.ts';

const timeoutMs = 3_000;

/** Asks a running service whether it is ready; used by container health checks. */
export const health: Command = {
  name: 'health',
  summary: 'Ask a running service whether it is ready.',
  usage: 'URL',
  about: 'Exit code 0 when the service at URL answers that it is ready, 1 when not.',
  examples: ['stekker health http://127.0.0.1:8080'],
  options: {},
  run: async ({ positionals }, terminal) => {
    const [url] = positionals;
    if (url === undefined)
      throw new AppError('invalid-request', { detail: 'an address is needed. See: stekker health --help' });
    const response = await fetch(new URL('/health', url), { signal: AbortSignal.timeout(timeoutMs) }).catch(
      (cause: unknown) => {
        throw new AppError('fetch-failed', { detail: `nothing answers at ${url}`, cause });
      },
    );
    terminal.out(response.ok ? 'ready' : `not ready (${response.status})`);
    return response.ok ? 0 : 1;
  },
};
