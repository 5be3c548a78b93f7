import { endingOf } from '../exchange/refusal.ts';
import { createDeciding, type Deciding, followUp } from './deciding.ts';
import { noteDouble } from './doubles.ts';
import { createEnding, type Ending } from './ending.ts';
import { isFinal, maySend, transition } from './machine.ts';
import { type Exchanged, inForce, type NegotiationOptions, readState, show, termination } from './process.ts';
import { createReceiving, type Receiving } from './receiving.ts';

/** Contract negotiation in both roles (dsp §5): messages that arrive, and decisions that are sent. */
export interface NegotiationService extends Receiving, Deciding, Omit<Ending, 'handlers'> {
  readonly handlers: Deciding['handlers'] & Ending['handlers'];
  /** For the extension's routes. */
  readonly exchange: Exchanged;
}

const lost = 'The two sides could not be brought to the same state.';

export const createNegotiations = (options: NegotiationOptions): NegotiationService => {
  const its: Exchanged = {
    ...options,
    protocol: 'negotiations',
    machine: { transition, isFinal, maySend },
    show,
    readState,
    reached: (data, state) => (state === 'FINALIZED' ? inForce(data) : data),
    followUp: (row) => followUp(its, options, row),
    doubled: (row, peerPid) => noteDouble(its, row, peerPid),
    refusedWith: (data, refusal) => (data.ending === null ? { ...data, ending: endingOf(refusal) } : data),
    about: ({ dataset, agreement }) => ({ dataset, agreement: agreement?.agreement['@id'] as string | undefined }),
    terminationFor: (row, code) => termination(row, code, [lost]),
  };
  const deciding = createDeciding(its, options);
  const ending = createEnding(its, options);
  return {
    ...createReceiving(its, options),
    ...deciding,
    ...ending,
    handlers: { ...deciding.handlers, ...ending.handlers },
    exchange: its,
  };
};
