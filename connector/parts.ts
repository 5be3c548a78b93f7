import type { GuardedClient } from '../kernel/http/client.ts';
import type { Peers } from './adapters/http/peers.ts';
import type { Authenticate } from './exchange/http.ts';
import type { PeerTransport } from './exchange/ports.ts';
import type { Decisions } from './negotiation/ports.ts';
import type { TransferDecisions } from './transfer/ports.ts';

/**
 * What whoever starts a connector may put in the place of its own parts, each made from ours: another proof of identity
 * than DCP, an owner's own decisions. What is left out is ours; the program itself leaves out all of them.
 */
export interface ConnectorParts {
  /** How callers on DSP paths are known. */
  readonly authenticate?: (own: Authenticate) => Authenticate;
  /** How messages to peers and to the broker go out, with what proof of who we are. */
  readonly transport?: (own: PeerTransport, client: Pick<GuardedClient, 'request'>) => PeerTransport;
  /** Where a peer takes messages. */
  readonly peers?: (own: Peers) => Peers;
  /** What is decided in a negotiation. */
  readonly decisions?: (own: Decisions) => Decisions;
  /** What is decided in a transfer. */
  readonly transferDecisions?: (own: TransferDecisions) => TransferDecisions;
}

/** Our own part, or what stands in its place. */
export const partOf = <Part, Rest extends unknown[]>(
  replace: ((own: Part, ...rest: Rest) => Part) | undefined,
  own: Part,
  ...rest: Rest
): Part => (replace === undefined ? own : replace(own, ...rest));
