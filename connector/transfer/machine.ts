import { createMachine, type Process, type Protocol } from '../../contracts/dsp/process.ts';
import type { TransferState } from '../../contracts/dsp/transfer.ts';

/** The messages of a transfer process, by what they do. */
export type TransferKind = 'request' | 'start' | 'suspension' | 'completion' | 'termination';

export type TransferProcess = Process<TransferState, TransferKind>;

const terminates = { termination: 'TERMINATED' } as const;
const whileStarted = { suspension: 'SUSPENDED', completion: 'COMPLETED', ...terminates } as const;

/** The tables of dsp §6.3. Whether a consumer may resume is decided before (it must have suspended itself). */
export const transferProtocol: Protocol<TransferState, TransferKind> = {
  receives: {
    provider: {
      INITIAL: { request: 'REQUESTED' },
      REQUESTED: terminates,
      STARTED: whileStarted,
      SUSPENDED: { start: 'STARTED', ...terminates },
    },
    consumer: {
      REQUESTED: { start: 'STARTED', ...terminates },
      STARTED: whileStarted,
      SUSPENDED: { start: 'STARTED', ...terminates },
    },
  },
  sends: {
    provider: {
      REQUESTED: { start: 'STARTED', ...terminates },
      STARTED: whileStarted,
      SUSPENDED: { start: 'STARTED', ...terminates },
    },
    consumer: {
      INITIAL: { request: 'REQUESTED' },
      REQUESTED: terminates,
      STARTED: whileStarted,
      SUSPENDED: { start: 'STARTED', ...terminates },
    },
  },
  finalStates: ['COMPLETED', 'TERMINATED'],
  terminated: 'TERMINATED',
  precedence: ['completion', 'suspension', 'start'],
  termination: 'termination',
};

export const { transition, isFinal, maySend } = createMachine(transferProtocol);
