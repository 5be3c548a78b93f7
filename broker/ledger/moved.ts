import { AppError, isAppError } from '../../contracts/errors.ts';
import type { Fence } from './ports.ts';

/** When a writer of the log has to end. */

/** Another process has taken the lease: this one writes no more until it has it again. */
export const movedOn = (detail = 'another process writes this log now', cause?: unknown): AppError =>
  new AppError('log-moved', { detail, retryAfterSeconds: 1, cause });

/** Somebody else wrote: alone with a log that must not happen, and stops it; among several processes it is their turn. */
export const lostTo = (fence: Fence, detail: string, cause?: unknown): AppError =>
  fence === null ? new AppError('log-stopped', { detail, cause }) : movedOn(detail, cause);

/** Whether a writer does not go on after this. */
export const endsWriting = (error: AppError): boolean =>
  isAppError(error, 'log-stopped') || isAppError(error, 'log-moved') || isAppError(error, 'invariant-broken');
