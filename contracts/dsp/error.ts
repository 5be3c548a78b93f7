import type { z } from 'zod';
import type { AppError } from '../errors.ts';
import { code, dspaceContext, message, pid, reason } from './common.ts';

/** Typed errors of DSP 2025-1 (dsp §7): one encoder for every fault of the table. */

export const catalogError = message('CatalogError', { code: code.optional(), reason: reason.optional() });
export const contractNegotiationError = message('ContractNegotiationError', {
  providerPid: pid,
  consumerPid: pid,
  code: code.optional(),
  reason: reason.optional(),
});
export const transferError = message('TransferError', {
  providerPid: pid,
  consumerPid: pid,
  code: code.optional(),
  reason: reason.optional(),
});
export type DspError =
  | z.infer<typeof catalogError>
  | z.infer<typeof contractNegotiationError>
  | z.infer<typeof transferError>;

interface Pids {
  readonly providerPid: string;
  readonly consumerPid: string;
}

/** Sentences that are safe to show: never the inside of a fault of ours. */
const reasonsOf = (error: AppError): string[] => {
  if (!error.expose) return [error.title];
  const faults = error.faults.map((fault) => `${fault.path === '' ? '/' : fault.path} ${fault.message}`);
  return [error.detail ?? error.title, ...faults];
};

/** The status of an answer: what somebody may not know of looks as if it were not there (dsp §7, §8). */
export const statusOf = (error: AppError, surface: 'catalog' | 'process'): number => {
  if (error.status >= 500 || error.status === 429) return error.status;
  if (error.code === 'unauthenticated') return surface === 'catalog' ? 401 : 404;
  return error.status === 404 ? 404 : 400;
};

export const buildCatalogError = (error: AppError): z.infer<typeof catalogError> => ({
  '@context': [dspaceContext],
  '@type': 'CatalogError',
  code: error.code,
  reason: reasonsOf(error),
});

/** Strangers and unknown pids get the same body, whatever the cause. */
const hiddenBody = { code: 'not-found', reason: ['There is nothing here for this caller.'] };

const body = (error: AppError) =>
  statusOf(error, 'process') === 404 ? hiddenBody : { code: error.code, reason: reasonsOf(error) };

export const buildNegotiationError = (error: AppError, pids: Pids): z.infer<typeof contractNegotiationError> => ({
  '@context': [dspaceContext],
  '@type': 'ContractNegotiationError',
  ...pids,
  ...body(error),
});

export const buildTransferError = (error: AppError, pids: Pids): z.infer<typeof transferError> => ({
  '@context': [dspaceContext],
  '@type': 'TransferError',
  ...pids,
  ...body(error),
});
