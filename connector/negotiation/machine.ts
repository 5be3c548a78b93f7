import type { NegotiationState } from '../../contracts/dsp/negotiation.ts';
import { createMachine, type Process, type Protocol } from '../../contracts/dsp/process.ts';

/** The messages of a contract negotiation, by what they do. */
export type NegotiationKind =
  | 'request'
  | 'offer'
  | 'accepted'
  | 'agreement'
  | 'verification'
  | 'finalized'
  | 'termination';

export type NegotiationProcess = Process<NegotiationState, NegotiationKind>;

const terminates = { termination: 'TERMINATED' } as const;

/** The tables of dsp §5.3. Termination is accepted in every state that is not final, as the text of the standard says. */
export const negotiationProtocol: Protocol<NegotiationState, NegotiationKind> = {
  receives: {
    provider: {
      INITIAL: { request: 'REQUESTED' },
      REQUESTED: terminates,
      OFFERED: { request: 'REQUESTED', accepted: 'ACCEPTED', ...terminates },
      ACCEPTED: terminates,
      AGREED: { verification: 'VERIFIED', ...terminates },
      VERIFIED: terminates,
    },
    consumer: {
      INITIAL: { offer: 'OFFERED' },
      REQUESTED: { offer: 'OFFERED', agreement: 'AGREED', ...terminates },
      OFFERED: terminates,
      ACCEPTED: { agreement: 'AGREED', ...terminates },
      AGREED: terminates,
      VERIFIED: { finalized: 'FINALIZED', ...terminates },
    },
  },
  sends: {
    provider: {
      INITIAL: { offer: 'OFFERED' },
      REQUESTED: { offer: 'OFFERED', agreement: 'AGREED', ...terminates },
      OFFERED: terminates,
      ACCEPTED: { agreement: 'AGREED', ...terminates },
      AGREED: terminates, // beyond the diagram: an agreement that is never verified is voided (wire §3)
      VERIFIED: { finalized: 'FINALIZED', ...terminates },
    },
    consumer: {
      INITIAL: { request: 'REQUESTED' },
      REQUESTED: terminates,
      OFFERED: { request: 'REQUESTED', accepted: 'ACCEPTED', ...terminates },
      ACCEPTED: terminates,
      AGREED: { verification: 'VERIFIED', ...terminates },
      VERIFIED: terminates,
    },
  },
  finalStates: ['FINALIZED', 'TERMINATED'],
  terminated: 'TERMINATED',
  precedence: [],
  termination: 'termination',
};

export const { transition, isFinal, maySend } = createMachine(negotiationProtocol);
