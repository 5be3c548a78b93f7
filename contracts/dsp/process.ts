/**
 * The rules that negotiation and transfer share (dsp §5.3, §6.3, §11). Both sides keep the same states; a state changes
 * when a message was acknowledged; each side has at most one message under way. Pure: state and event in, next state out.
 */

export type Role = 'provider' | 'consumer';

/** Before the first message was acknowledged a process has no state on the wire. */
export const initial = 'INITIAL';

type Moves<State extends string, Kind extends string> = Readonly<
  Partial<Record<State | typeof initial, Readonly<Partial<Record<Kind, State>>>>>
>;

/** The tables of one protocol: what may arrive and what may be sent, by role and state. */
export interface Protocol<State extends string, Kind extends string> {
  readonly receives: Readonly<Record<Role, Moves<State, Kind>>>;
  readonly sends: Readonly<Record<Role, Moves<State, Kind>>>;
  readonly finalStates: readonly State[];
  readonly terminated: State;
  /** Kinds from strong to weak: when two messages cross, both sides let the stronger one win. */
  readonly precedence: readonly Kind[];
  readonly termination: Kind;
}

export interface Pending<State extends string, Kind extends string> {
  readonly kind: Kind;
  readonly leadsTo: State;
  /** The message's `@id`: the same on each retry. */
  readonly message: string;
}

export interface Process<State extends string, Kind extends string> {
  readonly role: Role;
  readonly state: State | typeof initial;
  readonly pending: Pending<State, Kind> | null;
}

export type ProcessEvent<State extends string, Kind extends string> =
  /** We decided to send this message. */
  | { readonly type: 'decided'; readonly kind: Kind; readonly message: string }
  /** The peer sent this; that it is no repeat was found out before. */
  | { readonly type: 'received'; readonly kind: Kind }
  /** The peer answered our message with 2xx. */
  | { readonly type: 'acknowledged'; readonly message: string }
  /** The peer answered 4xx, which is final for that message. */
  | { readonly type: 'refused'; readonly message: string }
  /** What the peer says its state is, after a refusal; undefined when it knows of no such process. */
  | {
      readonly type: 'peer-state';
      readonly message: string;
      readonly state: State | undefined;
      readonly termination: string;
    }
  /** All retries are used up. */
  | { readonly type: 'gave-up'; readonly message: string; readonly termination: string };

export type Effect =
  /** Send the pending message, and again until it is answered. */
  | 'send'
  /** Ask the peer for its state; the answer comes back as `peer-state`. */
  | 'ask';

export type Outcome<State extends string, Kind extends string> =
  | { readonly ok: true; readonly next: Process<State, Kind>; readonly effects: readonly Effect[] }
  | { readonly ok: false; readonly reason: string };

export interface Machine<State extends string, Kind extends string> {
  readonly transition: (process: Process<State, Kind>, event: ProcessEvent<State, Kind>) => Outcome<State, Kind>;
  readonly isFinal: (state: State | typeof initial) => boolean;
  /** Whether this message may be decided on now. */
  readonly maySend: (process: Process<State, Kind>, kind: Kind) => boolean;
}

/** Builds the machine of a protocol from its tables. */
export const createMachine = <State extends string, Kind extends string>(
  protocol: Protocol<State, Kind>,
): Machine<State, Kind> => {
  type Its = Process<State, Kind>;
  type Result = Outcome<State, Kind>;

  const isFinal = (state: State | typeof initial): boolean => protocol.finalStates.some((one) => one === state);
  const to = (process: Its, state: State | typeof initial, pending: Its['pending'] = null): Its => ({
    ...process,
    state,
    pending,
  });
  const moved = (next: Its, effects: readonly Effect[] = []): Result => ({ ok: true, next, effects });
  const unchanged = (process: Its): Result => moved(process);
  const illegal = (process: Its, what: string): Result => ({
    ok: false,
    reason: `${what} does not fit ${process.state}`,
  });

  /** A message under way may be replaced by a termination, unless it may already have ended the process at the peer. */
  const mayReplace = ({ pending }: Its, kind: Kind): boolean =>
    pending === null || (kind === protocol.termination && pending.kind !== kind && !isFinal(pending.leadsTo));

  const maySend = (process: Its, kind: Kind): boolean =>
    protocol.sends[process.role][process.state]?.[kind] !== undefined && mayReplace(process, kind);

  const decided = (process: Its, kind: Kind, message: string): Result => {
    const leadsTo = protocol.sends[process.role][process.state]?.[kind];
    if (leadsTo === undefined || !mayReplace(process, kind)) return illegal(process, `sending ${kind}`);
    return moved(to(process, process.state, { kind, leadsTo, message }), ['send']);
  };

  /**
   * Whether our message under way beats the one that crossed it. Having decided to terminate, we refuse everything else;
   * between equals a provider's start wins, because it carries the data address.
   */
  const wins = ({ role, pending }: Its, received: Kind): boolean => {
    if (pending === null || isTermination(received)) return false;
    if (isTermination(pending.kind)) return true;
    const ours = protocol.precedence.indexOf(pending.kind);
    const theirs = protocol.precedence.indexOf(received);
    if (ours < 0 || theirs < 0) return false;
    return ours < theirs || (ours === theirs && role === 'provider' && !isFinal(pending.leadsTo));
  };
  const isTermination = (kind: Kind): boolean => kind === protocol.termination;

  const received = (process: Its, kind: Kind): Result => {
    const { role, state, pending } = process;
    const next = protocol.receives[role][state]?.[kind];
    if (next !== undefined) return wins(process, kind) ? illegal(process, kind) : moved(to(process, next));
    // A message that only makes sense after ours proves that ours arrived (dsp §5.3, early messages).
    const early = pending === null ? undefined : protocol.receives[role][pending.leadsTo]?.[kind];
    return early === undefined ? illegal(process, kind) : moved(to(process, early));
  };

  const terminateWith = (process: Its, message: string): Result => {
    const leadsTo = protocol.terminated;
    return moved(to(process, process.state, { kind: protocol.termination, leadsTo, message }), ['send']);
  };

  const refused = (process: Its, pending: Pending<State, Kind>): Result =>
    isTermination(pending.kind) || process.state === initial
      ? moved(to(process, protocol.terminated))
      : moved(process, ['ask']);

  const peerState = (
    process: Its,
    pending: Pending<State, Kind>,
    event: { state: State | undefined; termination: string },
  ): Result => {
    if (event.state === pending.leadsTo) return moved(to(process, pending.leadsTo));
    if (event.state === undefined || isFinal(event.state))
      return moved(to(process, event.state ?? protocol.terminated));
    return terminateWith(process, event.termination);
  };

  const gaveUp = (process: Its, pending: Pending<State, Kind>, termination: string): Result => {
    if (isTermination(pending.kind) || process.state === initial) return moved(to(process, protocol.terminated));
    // It may have ended the process at the peer, so only the peer can say.
    return isFinal(pending.leadsTo) ? moved(process, ['send']) : terminateWith(process, termination);
  };

  const transition = (process: Its, event: ProcessEvent<State, Kind>): Result => {
    if (event.type === 'decided') return decided(process, event.kind, event.message);
    if (event.type === 'received') return received(process, event.kind);
    const { pending } = process;
    if (pending === null || pending.message !== event.message) return unchanged(process); // an answer that comes too late
    switch (event.type) {
      case 'acknowledged':
        return moved(to(process, pending.leadsTo));
      case 'refused':
        return refused(process, pending);
      case 'peer-state':
        return peerState(process, pending, event);
      case 'gave-up':
        return gaveUp(process, pending, event.termination);
    }
  };

  return { transition, isFinal, maySend };
};
