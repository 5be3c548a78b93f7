import { endingOf } from '../exchange/refusal.ts';
import { createDeciding, type Deciding } from './deciding.ts';
import { isFinal, maySend, transition } from './machine.ts';
import { type Exchanged, readState, show, type TransferOptions, termination } from './process.ts';
import { createReceiving, type Receiving } from './receiving.ts';

/** Transfers in both roles (dsp §6): messages that arrive, and decisions that are sent. */
export interface TransferService extends Receiving, Deciding {}

const lost = 'The two sides could not be brought to the same state.';

export const createTransfers = (options: TransferOptions): TransferService => {
  const its: Exchanged = {
    ...options,
    protocol: 'transfers',
    machine: { transition, isFinal, maySend },
    show,
    readState,
    refusedWith: (data, refusal) => (data.ending === null ? { ...data, ending: endingOf(refusal) } : data),
    about: ({ agreementId }) => ({ agreement: agreementId }),
    terminationFor: (row, code) => termination(row, code, [lost]),
  };
  return { ...createReceiving(its, options), ...createDeciding(its, options) };
};
