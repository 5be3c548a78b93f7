import { setFlagsFromString } from 'node:v8';
import { AppError } from '../contracts/errors.ts';
import type { RunningService } from '../kernel/lifecycle.ts';
import { createLogger, type Logger } from '../kernel/log.ts';
import type { Terminal } from './command.ts';

/** Runs one of the two programs until it is told to stop. */

/**
 * How fast V8's young generation grows. What a start makes stays for good: a generation that grew to hold it on its way
 * would be kept, some 15 MB of nothing. Afterwards it grows with the traffic as usual.
 */
const youngGenerationGrowth = (factor: 1 | 2): void => setFlagsFromString(`--semi-space-growth-factor=${factor}`);

type Start<Config> = (
  config: Config,
  options: { readonly log: Logger; readonly signal: AbortSignal },
) => Promise<RunningService>;

/** One line of JSON for whoever started the program: `{"ready":"connector","publicPort":8080,…}`. */
const readyLine = (name: string, service: object): string => {
  const ports = Object.entries(service).filter(([key, value]) => key.endsWith('Port') && typeof value === 'number');
  return JSON.stringify({ ready: name, ...Object.fromEntries(ports) });
};

/**
 * Starts a service, says when it is ready, and lets what is under way end when the signal comes. One that stopped by itself
 * had a fault, which its log tells: exit code 1, so that whoever runs it starts it anew.
 */
export const runService = async <Config>(
  name: string,
  config: Config & { readonly STEKKER_LOG_LEVEL: Parameters<typeof createLogger>[0]['level'] },
  load: () => Promise<Start<Config>>,
  terminal: Terminal,
): Promise<number> => {
  const log = createLogger({ name, level: config.STEKKER_LOG_LEVEL });
  youngGenerationGrowth(1);
  const start = await load();
  await using service = await start(config, { log, signal: terminal.signal });
  youngGenerationGrowth(2);
  terminal.out(readyLine(name, service));
  await service.stopped;
  return terminal.signal.aborted ? 0 : 1;
};

/**
 * The start of a program, loaded only when a service is started: the other commands need neither its code nor its memory.
 *
 * @throws AppError `invariant-broken` when the module has no such function.
 */
export const loadStart = async <Config>(
  place: '../broker/main.ts' | '../connector/main.ts',
  name: string,
): Promise<Start<Config>> => {
  const path: string = place;
  const loaded: unknown = await import(path);
  const found: unknown = typeof loaded === 'object' && loaded !== null ? Reflect.get(loaded, name) : undefined;
  if (typeof found !== 'function') throw new AppError('invariant-broken', { detail: `${place} has no ${name}` });
  return found as Start<Config>; // a module of our own; its declaration says what it takes
};
